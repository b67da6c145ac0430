"""What a producer is promised: names, sequence ids, deduplication, access modes."""

import threading

import pulsar
import pytest

from suite import (EARLIEST, PATIENCE_SECONDS, assert_silent, eventually, numbers, read_texts, receive, receive_texts,
                   send_texts)

Mode = pulsar.ProducerAccessMode


def reader(client, topic):
    return client.create_reader(topic, pulsar.MessageId.earliest)


def test_send__key_properties_event_time_and_payload_arrive(client, topic):
    consumer = client.subscribe(topic, "all")
    producer = client.create_producer(topic, producer_name="sender")
    payload = bytes(range(256)) * 40
    sent = producer.send(payload, properties={"a": "1", "b": "ü"}, partition_key="key", ordering_key="order",
                         event_timestamp=1_700_000_000_000)
    message = receive(consumer)
    assert message.data() == payload
    assert message.properties() == {"a": "1", "b": "ü"}
    assert message.partition_key() == "key"
    assert message.ordering_key() == "order"
    assert message.event_timestamp() == 1_700_000_000_000
    assert message.publish_timestamp() > 1_700_000_000_000
    assert message.producer_name() == "sender"
    assert message.topic_name() == topic
    assert message.redelivery_count() == 0
    assert pulsar.MessageId.wrap(message.message_id()) == pulsar.MessageId.wrap(sent)


def test_send__an_empty_payload_is_a_message(client, topic):
    consumer = client.subscribe(topic, "all")
    client.create_producer(topic).send(b"")
    assert receive(consumer).data() == b""


def test_send__order_is_kept_with_many_in_flight(client, topic):
    consumer = client.subscribe(topic, "all")
    producer = client.create_producer(topic, block_if_queue_full=True)
    done = []
    for text in numbers(1, 1000):
        producer.send_async(text.encode(), lambda result, _id: done.append(result))
    producer.flush()
    eventually("all receipts", lambda: len(done) == 1000)
    assert set(done) == {pulsar.Result.Ok}
    assert receive_texts(consumer, 1000) == numbers(1, 1000)


def test_send__message_ids_are_in_order(client, topic):
    producer = client.create_producer(topic)
    ids = [pulsar.MessageId.wrap(sent) for sent in send_texts(producer, numbers(1, 20))]
    assert ids == sorted(ids) and len({str(one) for one in ids}) == 20


def test_producer_name__made_up_names_differ(client, topic):
    names = {client.create_producer(topic).producer_name() for _ in range(5)}
    assert len(names) == 5 and "" not in names


def test_producer_name__a_name_is_used_by_one_producer_at_a_time(make_client, topic):
    make_client().create_producer(topic, producer_name="only")
    with pytest.raises(pulsar.ProducerBusy):
        make_client().create_producer(topic, producer_name="only")


def test_sequence_ids__are_counted_from_where_the_producer_says(client, topic):
    producer = client.create_producer(topic, initial_sequence_id=41)
    assert producer.last_sequence_id() == 41
    producer.send(b"a")
    assert producer.last_sequence_id() == 42
    producer.send(b"b", sequence_id=100)
    assert producer.last_sequence_id() == 100


def test_deduplication__what_was_stored_is_not_stored_again(client, admin, namespace):
    admin.post(f"namespaces/{namespace}/deduplication", True)
    topic = f"persistent://{namespace}/once"
    producer = client.create_producer(topic, producer_name="sender")
    for sequence_id, text in [(5, "a"), (6, "b"), (5, "a again"), (6, "b again"), (7, "c")]:
        producer.send(text.encode(), sequence_id=sequence_id)
    assert read_texts(reader(client, topic)) == ["a", "b", "c"]


def test_deduplication__a_producer_that_comes_back_is_told_its_last_sequence_id(client, admin, namespace):
    admin.post(f"namespaces/{namespace}/deduplication", True)
    topic = f"persistent://{namespace}/once"
    first = client.create_producer(topic, producer_name="sender")
    first.send(b"a", sequence_id=10)
    first.close()
    second = client.create_producer(topic, producer_name="sender")
    assert second.last_sequence_id() == 10
    second.send(b"a again", sequence_id=10)
    second.send(b"b", sequence_id=11)
    assert read_texts(reader(client, topic)) == ["a", "b"]


def test_deduplication__another_producers_ids_are_its_own(client, admin, namespace):
    admin.post(f"namespaces/{namespace}/deduplication", True)
    topic = f"persistent://{namespace}/once"
    for name in ["one", "two"]:
        client.create_producer(topic, producer_name=name).send(name.encode(), sequence_id=1)
    assert read_texts(reader(client, topic)) == ["one", "two"]


def test_deduplication__batches_are_recognised_too(client, admin, namespace):
    admin.post(f"namespaces/{namespace}/deduplication", True)
    topic = f"persistent://{namespace}/once"
    for _ in range(2):
        producer = client.create_producer(topic, producer_name="sender", batching_enabled=True, batching_max_messages=5,
                                          batching_max_publish_delay_ms=60_000)
        # From 1, since this client takes a sequence id of 0 for none.
        for n in range(1, 6):
            producer.send_async(str(n).encode(), lambda _result, _id: None, sequence_id=n)
        producer.flush()
        producer.close()
    assert read_texts(reader(client, topic)) == numbers(1, 5)


def test_access_modes__an_exclusive_producer_has_the_topic_for_itself(make_client, topic):
    exclusive = make_client().create_producer(topic, access_mode=Mode.Exclusive)
    for mode in [Mode.Exclusive, Mode.Shared]:
        with pytest.raises((pulsar.ProducerFenced, pulsar.ProducerBusy)):
            make_client().create_producer(topic, access_mode=mode)
    exclusive.send(b"mine")


def test_access_modes__an_exclusive_producer_is_refused_while_there_are_others(make_client, topic):
    make_client().create_producer(topic)
    with pytest.raises((pulsar.ProducerFenced, pulsar.ProducerBusy)):
        make_client().create_producer(topic, access_mode=Mode.Exclusive)


def test_access_modes__a_waiting_producer_gets_the_topic_when_it_is_free(make_client, topic):
    first = make_client().create_producer(topic, access_mode=Mode.Exclusive, producer_name="first")
    waiting, sent = make_client(), threading.Event()

    def wait():
        producer = waiting.create_producer(topic, access_mode=Mode.WaitForExclusive, producer_name="second")
        producer.send(b"second")
        sent.set()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    first.send(b"first")
    assert not sent.is_set()
    first.close()
    assert sent.wait(PATIENCE_SECONDS)
    assert read_texts(reader(waiting, topic)) == ["first", "second"]


def test_access_modes__a_fencing_producer_shuts_out_the_others(make_client, topic):
    old = make_client().create_producer(topic, access_mode=Mode.Exclusive)
    old.send(b"old")
    new = make_client().create_producer(topic, access_mode=Mode.ExclusiveWithFencing)
    new.send(b"new")
    with pytest.raises(pulsar.PulsarException):
        old.send(b"too late")
    assert read_texts(reader(make_client(), topic)) == ["old", "new"]


def test_max_message_size__a_larger_message_is_refused(client, topic):
    producer = client.create_producer(topic)
    with pytest.raises(pulsar.MessageTooBig):
        producer.send(bytes(6 * 1024 * 1024))
    producer.send(b"a small one passes")
    consumer = client.subscribe(topic, "all", initial_position=EARLIEST)
    assert receive(consumer).data() == b"a small one passes"
    assert_silent(consumer)
