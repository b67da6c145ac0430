"""What payloads travel in: batches, compression, chunks."""

import os

import pulsar
import pytest

from suite import EARLIEST, eventually, numbers, receive, receive_texts

PAYLOAD_LARGE = os.urandom(1024) * (12 * 1024)


def send_batches(client, topic, texts, size, **options):
    """Sends `texts` in batches of `size`; none leaves by time."""
    producer = client.create_producer(topic, batching_enabled=True, batching_max_messages=size,
                                      batching_max_publish_delay_ms=60_000, **options)
    results = []
    for text in texts:
        producer.send_async(text.encode(), lambda result, _id: results.append(result))
    producer.flush()
    eventually("all receipts", lambda: len(results) == len(texts))
    assert set(results) == {pulsar.Result.Ok}


def test_batch__many_messages_share_an_entry_and_keep_their_order(client, topic):
    consumer = client.subscribe(topic, "all")
    send_batches(client, topic, numbers(0, 99), 10)
    messages = [receive(consumer) for _ in range(100)]
    assert [message.data().decode() for message in messages] == numbers(0, 99)
    places = [(message.message_id().entry_id(), message.message_id().batch_index()) for message in messages]
    assert len({entry for entry, _ in places}) == 10
    assert [index for _, index in places] == list(range(10)) * 10


def test_batch__counts_once_in_the_backlog(client, admin, topic):
    consumer = client.subscribe(topic, "all", receiver_queue_size=1000)
    send_batches(client, topic, numbers(0, 29), 10)
    assert admin.backlog(topic, "all") == 3
    receive_texts(consumer, 30)
    eventually("an empty backlog", lambda: admin.backlog(topic, "all") == 0)


def test_batch_by_key__each_batch_has_one_key(client, topic):
    consumer = client.subscribe(topic, "all")
    producer = client.create_producer(topic, batching_enabled=True, batching_type=pulsar.BatchingType.KeyBased,
                                      batching_max_messages=100, batching_max_publish_delay_ms=60_000)
    for n in range(40):
        producer.send_async(str(n).encode(), lambda _result, _id: None, partition_key=f"key-{n % 4}")
    producer.flush()
    keys_of_entries, orders = {}, {}
    for _ in range(40):
        message = receive(consumer)
        keys_of_entries.setdefault(message.message_id().entry_id(), set()).add(message.partition_key())
        orders.setdefault(message.partition_key(), []).append(int(message.data()))
    assert len(keys_of_entries) == 4 and all(len(keys) == 1 for keys in keys_of_entries.values())
    assert all(order == sorted(order) and len(order) == 10 for order in orders.values())


@pytest.mark.parametrize("kind", ["LZ4", "ZLib", "ZSTD", "SNAPPY"])
@pytest.mark.parametrize("batched", [False, True])
def test_compression__payloads_arrive_as_they_were(client, topic, kind, batched):
    consumer = client.subscribe(topic, "all")
    texts = [f"{n} " + "many words " * 500 for n in range(10)]
    kind = getattr(pulsar.CompressionType, kind)
    if batched:
        send_batches(client, topic, texts, 10, compression_type=kind)
    else:
        producer = client.create_producer(topic, compression_type=kind)
        for text in texts:
            producer.send(text.encode())
    assert receive_texts(consumer, 10) == texts


def test_chunks__a_payload_above_the_limit_arrives_whole(client, admin, topic):
    consumer = client.subscribe(topic, "all")
    producer = client.create_producer(topic, chunking_enabled=True)
    producer.send(PAYLOAD_LARGE, properties={"size": str(len(PAYLOAD_LARGE))})
    producer.send(b"a small one behind it")
    message = receive(consumer)
    assert message.data() == PAYLOAD_LARGE
    assert message.properties() == {"size": str(len(PAYLOAD_LARGE))}
    consumer.acknowledge(message)
    assert receive_texts(consumer, 1) == ["a small one behind it"]
    eventually("all chunks acknowledged", lambda: admin.backlog(topic, "all") == 0)


def test_chunks__two_producers_at_once(client, topic):
    consumer = client.subscribe(topic, "all", initial_position=EARLIEST)
    done = []
    payloads = [bytes([n]) + PAYLOAD_LARGE for n in range(2)]
    for payload in payloads:
        producer = client.create_producer(topic, chunking_enabled=True)
        producer.send_async(payload, lambda result, _id: done.append(result))
    received = [receive(consumer).data() for _ in payloads]
    assert sorted(received) == sorted(payloads)
    eventually("both receipts", lambda: done == [pulsar.Result.Ok] * 2)
