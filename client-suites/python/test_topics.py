"""What topics do: partitions, delays, non-persistence, retention, termination, unloading, deletion."""

import threading
import time

import pulsar
import pytest

from suite import (EARLIEST, PATIENCE_SECONDS, Type, assert_silent, collect, eventually, numbers, read_texts, receive,
                   receive_or_none, receive_texts, send_texts, unique)


def now_ms():
    return time.time_ns() // 1_000_000


def test_partitioned_topics__messages_spread_and_all_arrive(client, admin, topic):
    admin.partitions(topic, 3)
    assert client.get_topic_partitions(topic) == [f"{topic}-partition-{n}" for n in range(3)]
    consumer = client.subscribe(topic, "all")
    producer = client.create_producer(topic)
    sent = [producer.send(str(n).encode()) for n in range(30)]
    assert {one.partition() for one in sent} == {0, 1, 2}
    assert sorted(int(text) for text in receive_texts(consumer, 30)) == list(range(30))


def test_partitioned_topics__a_key_stays_in_its_partition_and_order(client, admin, topic):
    admin.partitions(topic, 4)
    consumer = client.subscribe(topic, "all")
    producer = client.create_producer(topic)
    for n in range(10):
        for key in "abcd":
            producer.send(str(n).encode(), partition_key=key)
    orders, places = {}, {}
    for _ in range(40):
        message = receive(consumer)
        orders.setdefault(message.partition_key(), []).append(int(message.data()))
        places.setdefault(message.partition_key(), set()).add(message.message_id().partition())
    assert orders == {key: list(range(10)) for key in "abcd"}
    assert all(len(place) == 1 for place in places.values())


def test_partitioned_topics__can_grow(client, admin, topic):
    admin.partitions(topic, 2)
    send_texts(client.create_producer(topic), ["early"])
    admin.post(f"{admin.path(topic)}/partitions", 4)
    assert len(client.get_topic_partitions(topic)) == 4
    consumer = client.subscribe(topic, "all")
    sent = [client.create_producer(f"{topic}-partition-{n}").send(str(n).encode()) for n in range(4)]
    assert len(sent) == 4
    assert sorted(receive_texts(consumer, 4)) == numbers(0, 3)


def test_partitioned_topics__one_partition_is_a_topic_of_its_own(client, admin, topic):
    admin.partitions(topic, 2)
    consumer = client.subscribe(f"{topic}-partition-1", "all")
    producer = client.create_producer(topic, message_routing_mode=pulsar.PartitionsRoutingMode.CustomPartition,
                                      message_router=lambda message, _count: int(message.properties()["to"]))
    for n in range(4):
        producer.send(str(n).encode(), properties={"to": str(n % 2)})
    assert receive_texts(consumer, 2) == ["1", "3"]
    assert_silent(consumer)


def test_topic_auto_creation__can_be_forbidden_for_a_namespace(make_client, admin, namespace):
    admin.post(f"namespaces/{namespace}/autoTopicCreation", {"allowAutoTopicCreation": False})
    with pytest.raises(pulsar.PulsarException):
        make_client(operation_timeout_seconds=5).create_producer(f"persistent://{namespace}/absent")
    admin.put(f"persistent/{namespace}/present")
    make_client().create_producer(f"persistent://{namespace}/present").send(b"fine")


def test_topic_auto_creation__can_make_partitioned_topics(client, admin, namespace):
    admin.post(f"namespaces/{namespace}/autoTopicCreation",
               {"allowAutoTopicCreation": True, "topicType": "partitioned", "defaultNumPartitions": 3})
    topic = f"persistent://{namespace}/made"
    client.create_producer(topic)
    assert len(client.get_topic_partitions(topic)) == 3


def test_non_persistent__messages_reach_who_is_there(client, topic):
    topic = topic.replace("persistent://", "non-persistent://")
    producer = client.create_producer(topic)
    producer.send(b"nobody is there")
    consumers = [client.subscribe(topic, name) for name in ["one", "two"]]
    send_texts(producer, ["a", "b", "c"])
    for consumer in consumers:
        assert receive_texts(consumer, 3) == ["a", "b", "c"]
        assert_silent(consumer)


@pytest.mark.parametrize("kind", [Type.Shared, Type.KeyShared, Type.Failover])
def test_non_persistent__every_subscription_type_delivers(make_client, topic, kind):
    topic = topic.replace("persistent://", "non-persistent://")
    consumers = [make_client().subscribe(topic, "all", kind) for _ in range(2)]
    producer = make_client().create_producer(topic)
    for n in range(40):
        producer.send(str(n).encode(), partition_key=f"key-{n}")
    shares = [[int(message.data()) for message in share] for share in collect(consumers, 40)]
    assert sorted(shares[0] + shares[1]) == list(range(40))
    assert all(shares) or kind == Type.Failover


def test_delayed_delivery__not_before_it_is_due_and_others_pass_it(client, topic):
    consumer = client.subscribe(topic, "all", Type.Shared)
    producer = client.create_producer(topic)
    due = now_ms() + 3_000
    producer.send(b"late", deliver_at=due)
    producer.send(b"at once")
    assert receive_texts(consumer, 2) == ["at once", "late"]
    # A second less: Pulsar's tick.
    assert now_ms() >= due - 1_000


def test_delayed_delivery__in_the_order_of_their_times(client, topic):
    consumer = client.subscribe(topic, "all", Type.Shared)
    producer = client.create_producer(topic)
    start = now_ms()
    for seconds in [6, 3]:
        producer.send(str(seconds).encode(), deliver_at=start + seconds * 1_000)
    assert receive_texts(consumer, 2) == ["3", "6"]


def test_delayed_delivery__an_exclusive_subscription_does_not_wait(client, topic):
    consumer = client.subscribe(topic, "all")
    producer = client.create_producer(topic)
    producer.send(b"in an hour", deliver_at=now_ms() + 3_600_000)
    assert receive_texts(consumer, 1) == ["in an hour"]


def test_retention__acknowledged_messages_are_kept(client, admin, namespace):
    admin.post(f"namespaces/{namespace}/retention", {"retentionTimeInMinutes": 60, "retentionSizeInMB": 100})
    topic = f"persistent://{namespace}/kept"
    consumer = client.subscribe(topic, "all")
    producer = client.create_producer(topic)
    send_texts(producer, numbers(1, 5))
    receive_texts(consumer, 5)
    eventually("an empty backlog", lambda: admin.backlog(topic, "all") == 0)
    admin.unload(topic)
    send_texts(producer, ["6"])
    assert read_texts(client.create_reader(topic, pulsar.MessageId.earliest)) == numbers(1, 6)


def test_terminate__no_more_is_taken_and_what_was_sent_can_be_read(client, admin, topic):
    consumer = client.subscribe(topic, "all")
    producer = client.create_producer(topic)
    ids = send_texts(producer, ["a", "b"])
    last = admin.post(f"{admin.path(topic)}/terminate")
    assert (last["ledgerId"], last["entryId"]) == (ids[1].ledger_id(), ids[1].entry_id())
    with pytest.raises(pulsar.PulsarException):
        client.create_producer(topic)
    assert receive_texts(consumer, 2) == ["a", "b"]
    assert_silent(consumer)


def test_unload__producers_and_consumers_go_on(client, admin, topic):
    consumer = client.subscribe(topic, "all", Type.Shared)
    producer = client.create_producer(topic)
    failed, sent, stop = [], [], threading.Event()

    def send():
        while not stop.is_set():
            try:
                producer.send(str(len(sent)).encode())
                sent.append(str(len(sent)))
            except pulsar.PulsarException as error:
                failed.append(error)
                return

    thread = threading.Thread(target=send)
    thread.start()
    for round_ in range(1, 4):
        eventually("more sent", lambda: len(sent) > 20 * round_ or failed)
        admin.unload(topic)
    eventually("more sent", lambda: len(sent) > 100 or failed)
    stop.set()
    thread.join(PATIENCE_SECONDS)
    assert not failed
    received = set()

    def all_acknowledged():
        # An ack on its way at an unload may be lost; its message comes again.
        while (message := receive_or_none(consumer)) is not None:
            received.add(message.data().decode())
            consumer.acknowledge(message)
        return received == set(sent) and admin.backlog(topic, "all") == 0

    eventually("everything received and acknowledged", all_acknowledged)


def test_delete_topic__its_messages_and_subscriptions_go_with_it(client, admin, topic):
    producer = client.create_producer(topic)
    consumer = client.subscribe(topic, "all")
    send_texts(producer, ["before"])
    producer.close()
    consumer.close()
    admin.delete(f"{admin.path(topic)}?force=true")
    again = client.subscribe(topic, "all", initial_position=EARLIEST)
    send_texts(client.create_producer(topic), ["after"])
    assert receive_texts(again, 1) == ["after"]


def test_delete_topic__is_refused_while_it_has_clients(client, admin, topic):
    client.create_producer(topic)
    answer = admin.session.delete(f"{admin.base}/{admin.path(topic)}")
    assert answer.status_code == 412
    assert "reason" in answer.json()


def test_admin_skip__messages_are_skipped_without_a_consumer(client, admin, topic):
    client.subscribe(topic, "all", Type.Shared).close()
    send_texts(client.create_producer(topic), numbers(1, 10))
    admin.post(f"{admin.path(topic)}/subscription/all/skip/4")
    assert admin.backlog(topic, "all") == 6
    assert receive_texts(client.subscribe(topic, "all", Type.Shared), 6) == numbers(5, 10)


def test_admin_subscriptions__one_made_by_the_admin_gets_what_follows(client, admin, topic):
    producer = client.create_producer(topic)
    name = unique("made")
    admin.put(f"{admin.path(topic)}/subscription/{name}")
    send_texts(producer, ["after"])
    assert name in admin.get(f"{admin.path(topic)}/subscriptions")
    assert receive_texts(client.subscribe(topic, name), 1) == ["after"]
