"""The subscription types except Key_Shared, several topics at once, unsubscribing."""

import re

import pulsar
import pytest

from suite import (EARLIEST, Type, assert_silent, collect, eventually, numbers, receive, receive_or_none, receive_texts,
                   send_texts, unique)


def test_subscribe__begins_at_the_latest_or_the_earliest_message(client, topic):
    producer = client.create_producer(topic)
    # Keeps the messages: without a subscription the broker may drop them.
    client.subscribe(topic, "keeper", initial_position=EARLIEST)
    send_texts(producer, ["before"])
    latest = client.subscribe(topic, "latest")
    earliest = client.subscribe(topic, "earliest", initial_position=EARLIEST)
    send_texts(producer, ["after"])
    assert receive_texts(latest, 1) == ["after"]
    assert receive_texts(earliest, 2) == ["before", "after"]


def test_subscribe__each_subscription_gets_everything(client, topic):
    consumers = [client.subscribe(topic, f"subscription-{n}") for n in range(3)]
    send_texts(client.create_producer(topic), numbers(1, 20))
    for consumer in consumers:
        assert receive_texts(consumer, 20) == numbers(1, 20)


def test_subscribe__another_type_is_refused_while_there_are_consumers(make_client, topic):
    make_client().subscribe(topic, "all", Type.Shared)
    for other in [Type.Exclusive, Type.Failover, Type.KeyShared]:
        with pytest.raises(pulsar.ConsumerBusy):
            make_client().subscribe(topic, "all", other)


def test_subscribe__the_type_may_change_when_the_consumers_have_gone(client, topic):
    first = client.subscribe(topic, "all", Type.Shared)
    send_texts(client.create_producer(topic), ["a", "b"])
    assert receive_texts(first, 1) == ["a"]
    first.close()
    assert receive_texts(client.subscribe(topic, "all", Type.Failover), 1) == ["b"]


def test_subscribe__stats_show_who_consumes(client, admin, topic):
    client.subscribe(topic, "all", Type.Failover, consumer_name="somebody", properties={"team": "blue"})
    subscription = admin.subscription(topic, "all")
    assert subscription["type"] == "Failover"
    [consumer] = subscription["consumers"]
    assert consumer["consumerName"] == "somebody"
    assert consumer["metadata"] == {"team": "blue"}


def test_exclusive__a_second_consumer_is_refused(make_client, topic):
    first = make_client().subscribe(topic, "all")
    with pytest.raises(pulsar.ConsumerBusy):
        make_client().subscribe(topic, "all")
    send_texts(make_client().create_producer(topic), ["a"])
    assert receive_texts(first, 1) == ["a"]


def test_failover__one_gets_everything_and_the_next_takes_over(make_client, topic):
    # By name: the first in the alphabet is the active one on a topic without partitions.
    consumers = {name: make_client().subscribe(topic, "all", Type.Failover, consumer_name=name, initial_position=EARLIEST)
                 for name in ["a", "b"]}
    producer = make_client().create_producer(topic)
    send_texts(producer, numbers(1, 10))
    got = dict(zip(consumers, collect(consumers.values(), 10)))
    [active] = [name for name, messages in got.items() if messages]
    [other] = [name for name in consumers if name != active]
    assert [message.data().decode() for message in got[active]] == numbers(1, 10)
    send_texts(producer, ["unacknowledged"])
    assert receive(consumers[active]).data() == b"unacknowledged"
    consumers[active].close()
    send_texts(producer, ["new"])
    assert receive_texts(consumers[other], 2) == ["unacknowledged", "new"]


def test_failover__partitions_are_spread_over_the_consumers(make_client, admin, topic):
    admin.partitions(topic, 4)
    consumers = [make_client().subscribe(topic, "all", Type.Failover, consumer_name=name) for name in ["a", "b"]]
    producer = make_client().create_producer(topic)

    def active_consumers():
        names = set()
        for partition in range(4):
            names.add(admin.subscription(f"{topic}-partition-{partition}", "all")["activeConsumerName"])
        return names

    eventually("both are active somewhere", lambda: active_consumers() == {"a", "b"})
    for text in numbers(1, 40):
        producer.send(text.encode(), partition_key=text)
    shares = collect(consumers, 40)
    assert sorted(int(m.data()) for share in shares for m in share) == list(range(1, 41))
    assert all(shares)


def test_shared__consumers_share_the_messages(make_client, admin, topic):
    consumers = [make_client().subscribe(topic, "all", Type.Shared, receiver_queue_size=10) for _ in range(3)]

    def all_ready():
        return sum(c["availablePermits"] > 0 for c in admin.subscription(topic, "all")["consumers"]) == 3

    eventually("three consumers with permits", all_ready)
    send_texts(make_client().create_producer(topic), numbers(1, 30))
    shares = collect(consumers, 30)
    assert sorted(int(m.data()) for share in shares for m in share) == list(range(1, 31))
    assert all(shares)


def test_shared__what_a_gone_consumer_had_goes_to_the_others(make_client, topic):
    first = make_client().subscribe(topic, "all", Type.Shared)
    send_texts(make_client().create_producer(topic), numbers(1, 10))
    held = [receive(first) for _ in range(10)]
    first.acknowledge(held[0])
    second = make_client().subscribe(topic, "all", Type.Shared)
    first.close()
    assert sorted(receive_texts(second, 9), key=int) == numbers(2, 10)


def test_flow__no_more_is_delivered_than_the_receiver_queue_takes(make_client, admin, topic):
    make_client().subscribe(topic, "all", Type.Shared, receiver_queue_size=5)
    send_texts(make_client().create_producer(topic), numbers(1, 50))
    eventually("five are on their way", lambda: admin.subscription(topic, "all")["unackedMessages"] == 5)
    other = make_client().subscribe(topic, "all", Type.Shared, receiver_queue_size=100)
    assert len(receive_texts(other, 45)) == 45
    assert_silent(other)
    assert admin.backlog(topic, "all") == 5


def test_multi_topics__one_consumer_on_several_topics(client, topic):
    topics = [f"{topic}-{n}" for n in range(3)]
    consumer = client.subscribe(topics, "all")
    for each in topics:
        send_texts(client.create_producer(each), [each])
    messages = [receive(consumer) for _ in topics]
    assert sorted(message.data().decode() for message in messages) == topics
    assert all(message.topic_name() == message.data().decode() for message in messages)
    for message in messages:
        consumer.acknowledge(message)


def test_unsubscribe__forgets_the_subscription(client, admin, topic):
    producer = client.create_producer(topic)
    consumer = client.subscribe(topic, "all")
    send_texts(producer, ["before"])
    consumer.unsubscribe()
    assert admin.subscription(topic, "all") is None
    again = client.subscribe(topic, "all")
    send_texts(producer, ["after"])
    assert receive_texts(again, 1) == ["after"]


def test_unsubscribe__is_refused_while_others_consume(make_client, admin, topic):
    first = make_client().subscribe(topic, "all", Type.Shared)
    make_client().subscribe(topic, "all", Type.Shared)
    with pytest.raises(pulsar.PulsarException):
        first.unsubscribe()
    assert admin.subscription(topic, "all") is not None


def pattern_of(namespace, word):
    return f"persistent://{namespace}/{word}-.*"


def test_regex_subscription__takes_the_topics_that_match(client, namespace):
    def producer(name):
        return client.create_producer(f"persistent://{namespace}/{name}")

    producers = [producer(name) for name in ["good-1", "good-2", "bad-1"]]
    consumer = client.subscribe(re.compile(pattern_of(namespace, "good")), "all", initial_position=EARLIEST)
    for one in producers:
        one.send(one.topic().encode())
    assert sorted(receive_texts(consumer, 2)) == [one.topic() for one in producers[:2]]
    assert_silent(consumer)


def test_regex_subscription__takes_the_partitions_of_a_topic(client, admin, namespace):
    topic = f"persistent://{namespace}/parts-1"
    admin.partitions(topic, 3)
    consumer = client.subscribe(re.compile(pattern_of(namespace, "parts")), "all", Type.Shared)
    producer = client.create_producer(topic)
    send_texts(producer, numbers(1, 12))
    assert sorted(receive_texts(consumer, 12), key=int) == numbers(1, 12)


def test_regex_subscription__takes_non_persistent_topics_when_asked(client, namespace):
    name = unique("both")
    producers = [client.create_producer(f"{domain}://{namespace}/{name}-1") for domain in ["persistent", "non-persistent"]]
    consumer = client.subscribe(re.compile(pattern_of(namespace, name)), "all",
                                regex_subscription_mode=pulsar.RegexSubscriptionMode.AllTopics)
    for producer in producers:
        producer.send(producer.topic().encode())
    topics = {receive(consumer).data().decode() for _ in producers}
    assert topics == {producer.topic() for producer in producers}
    assert receive_or_none(consumer) is None
