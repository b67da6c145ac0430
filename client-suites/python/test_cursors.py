"""Where a subscription or a reader stands: durable cursors, seeks, readers, last message ids, compacted views."""

import time

import pulsar

from suite import (EARLIEST, PATIENCE_MS, Type, assert_silent, eventually, numbers, read_texts, receive, receive_texts,
                   send_texts)
from test_payloads import send_batches


def reader(client, topic, start=pulsar.MessageId.earliest, **options):
    return client.create_reader(topic, start, **options)


def next_text(reader):
    return reader.read_next(PATIENCE_MS).data().decode()


def send_with_pause(producer):
    """Sends 1 to 5, a moment later 6 to 10; returns the ids and a time between them in milliseconds."""
    ids = send_texts(producer, numbers(1, 5))
    # A clock that moved on is the condition: publish times are in milliseconds.
    between = time.time_ns() // 1_000_000 + 1
    eventually("a later millisecond", lambda: time.time_ns() // 1_000_000 > between)
    return ids + send_texts(producer, numbers(6, 10)), between


def test_durable_cursor__survives_consumers_and_an_unload(client, admin, topic):
    producer = client.create_producer(topic)
    first = client.subscribe(topic, "all", Type.Shared)
    send_texts(producer, numbers(1, 10))
    for message in [receive(first) for _ in range(10)]:
        if message.data() not in (b"4", b"8"):
            first.acknowledge(message)
    first.close()
    eventually("all acks", lambda: admin.backlog(topic, "all") == 2)
    admin.unload(topic)
    send_texts(producer, ["11"])
    assert sorted(receive_texts(client.subscribe(topic, "all", Type.Shared), 3), key=int) == ["4", "8", "11"]


def test_seek_by_id__what_follows_comes_again(client, topic):
    consumer = client.subscribe(topic, "all")
    ids = send_texts(client.create_producer(topic), numbers(1, 10))
    assert receive_texts(consumer, 10) == numbers(1, 10)
    consumer.seek(ids[4])
    assert receive_texts(consumer, 5) == numbers(6, 10)
    assert_silent(consumer)


def test_seek_by_id__inclusive_when_asked(client, topic):
    consumer = client.subscribe(topic, "all", start_message_id_inclusive=True)
    ids = send_texts(client.create_producer(topic), numbers(1, 10))
    assert receive_texts(consumer, 10) == numbers(1, 10)
    consumer.seek(ids[4])
    assert receive_texts(consumer, 6) == numbers(5, 10)


def test_seek_by_id__to_the_ends(client, topic):
    consumer = client.subscribe(topic, "all")
    producer = client.create_producer(topic)
    send_texts(producer, numbers(1, 5))
    consumer.seek(pulsar.MessageId.latest)
    send_texts(producer, ["6"])
    assert receive_texts(consumer, 1) == ["6"]
    consumer.seek(pulsar.MessageId.earliest)
    assert receive_texts(consumer, 6) == numbers(1, 6)


def test_seek_by_id__into_a_batch(client, topic):
    consumer = client.subscribe(topic, "all", start_message_id_inclusive=True)
    send_batches(client, topic, numbers(0, 9), 10)
    messages = [receive(consumer) for _ in range(10)]
    consumer.acknowledge_cumulative(messages[-1])
    consumer.seek(messages[6].message_id())
    assert receive_texts(consumer, 4) == numbers(6, 9)


def test_seek_by_time__starts_at_the_first_message_since(client, topic):
    consumer = client.subscribe(topic, "all")
    _, between = send_with_pause(client.create_producer(topic))
    assert receive_texts(consumer, 10) == numbers(1, 10)
    consumer.seek(between)
    assert receive_texts(consumer, 5) == numbers(6, 10)
    assert_silent(consumer)


def test_seek_by_time__before_everything_and_after_everything(client, topic):
    consumer = client.subscribe(topic, "all")
    producer = client.create_producer(topic)
    send_texts(producer, numbers(1, 3))
    assert receive_texts(consumer, 3) == numbers(1, 3)
    consumer.seek(1)
    assert receive_texts(consumer, 3) == numbers(1, 3)
    consumer.seek(time.time_ns() // 1_000_000 + 3_600_000)
    send_texts(producer, ["4"])
    assert receive_texts(consumer, 1) == ["4"]


def test_last_message_id__is_the_last_one_sent(client, topic):
    consumer = client.subscribe(topic, "all")
    ids = send_texts(client.create_producer(topic), numbers(1, 3))
    last = consumer.get_last_message_id()
    assert (last.ledger_id(), last.entry_id()) == (ids[2].ledger_id(), ids[2].entry_id())


def test_last_message_id__readers_know_whether_there_is_more(client, topic):
    producer = client.create_producer(topic)
    one = reader(client, topic)
    assert not one.has_message_available()
    send_texts(producer, numbers(1, 3))
    assert one.has_message_available()
    assert read_texts(one) == numbers(1, 3)
    assert not one.has_message_available()
    send_texts(producer, ["4"])
    assert one.has_message_available()


def test_last_message_id__of_a_batch_names_the_last_within(client, topic):
    consumer = client.subscribe(topic, "all")
    send_batches(client, topic, numbers(0, 9), 10)
    assert consumer.get_last_message_id().batch_index() == 9


def test_reader__starts_at_the_ends_or_after_a_message(client, topic):
    producer = client.create_producer(topic)
    ids = send_texts(producer, numbers(1, 5))
    latest = reader(client, topic, pulsar.MessageId.latest)
    assert read_texts(reader(client, topic)) == numbers(1, 5)
    assert read_texts(reader(client, topic, ids[1])) == numbers(3, 5)
    assert read_texts(reader(client, topic, ids[1], start_message_id_inclusive=True)) == numbers(2, 5)
    send_texts(producer, ["6"])
    assert next_text(latest) == "6"


def test_reader__acknowledges_nothing_and_leaves_no_subscription(client, admin, topic):
    producer = client.create_producer(topic)
    send_texts(producer, numbers(1, 3))
    one = reader(client, topic)
    assert read_texts(one) == numbers(1, 3)
    one.close()
    eventually("no subscription", lambda: admin.stats(topic)["subscriptions"] == {})
    assert read_texts(reader(client, topic)) == numbers(1, 3)


def test_reader__seeks(client, topic):
    ids, between = send_with_pause(client.create_producer(topic))
    one = reader(client, topic)
    assert read_texts(one) == numbers(1, 10)
    one.seek(ids[7])
    assert read_texts(one) == numbers(9, 10)
    one.seek(between)
    assert read_texts(one) == numbers(6, 10)


def test_reader__goes_on_after_an_unload(client, admin, topic):
    producer = client.create_producer(topic)
    one = reader(client, topic)
    send_texts(producer, numbers(1, 3))
    assert [next_text(one) for _ in range(3)] == numbers(1, 3)
    admin.unload(topic)
    send_texts(producer, numbers(4, 5))
    assert [next_text(one) for _ in range(2)] == numbers(4, 5)


def test_read_compacted__the_last_message_of_each_key(client, admin, topic):
    # Compressed, since Pulsar takes an empty payload for a deletion only where the message states its size.
    producer = client.create_producer(topic, compression_type=pulsar.CompressionType.LZ4)
    client.subscribe(topic, "keeper", initial_position=EARLIEST)
    for n in range(1, 4):
        for key in ["a", "b", "c"]:
            producer.send(f"{key}{n}".encode(), partition_key=key)
    producer.send(b"", partition_key="b")
    admin.compact(topic)
    producer.send(b"a4", partition_key="a")
    assert read_texts(reader(client, topic, is_read_compacted=True)) == ["a3", "c3", "a4"]
    assert len(read_texts(reader(client, topic))) == 11


def test_read_compacted__a_subscription_reads_it_too(client, admin, topic):
    producer = client.create_producer(topic)
    for n in range(1, 6):
        producer.send(str(n).encode(), partition_key="key")
    admin.compact(topic)
    consumer = client.subscribe(topic, "all", is_read_compacted=True, initial_position=EARLIEST)
    assert receive_texts(consumer, 1) == ["5"]
    assert_silent(consumer)


def test_read_compacted__keys_within_batches(client, admin, topic):
    for _ in range(2):
        producer = client.create_producer(topic, batching_enabled=True, batching_max_messages=10,
                                          batching_max_publish_delay_ms=60_000)
        for n in range(10):
            producer.send_async(str(n).encode(), lambda _result, _id: None, partition_key=f"key-{n % 3}")
        producer.flush()
        producer.close()
    admin.compact(topic)
    # This client shows what was compacted out of a batch as an empty message.
    texts = [text for text in read_texts(reader(client, topic, is_read_compacted=True)) if text]
    assert sorted(texts) == ["7", "8", "9"]


def test_table_view__keeps_the_last_value_of_each_key(client, topic):
    producer = client.create_producer(topic)
    for text in ["1", "2"]:
        for key in ["a", "b"]:
            producer.send(text.encode(), partition_key=key)
    view = client.create_table_view(topic)
    assert {key: view.get(key) for key in ["a", "b", "c"]} == {"a": b"2", "b": b"2", "c": None}
    producer.send(b"3", partition_key="c")
    eventually("the new key", lambda: view.get("c") == b"3")
    assert len(view) == 3
