"""Acknowledging and giving back: single, cumulative, within batches; redelivery and its counts; dead letters."""

import pulsar
import pytest

from suite import EARLIEST, Type, assert_silent, eventually, numbers, receive, receive_texts, send_texts
from test_payloads import send_batches


def empty(admin, topic):
    eventually("an empty backlog", lambda: admin.backlog(topic, "all") == 0)


def test_ack__only_what_was_acknowledged_stays_away(client, admin, topic):
    first = client.subscribe(topic, "all", Type.Shared)
    send_texts(client.create_producer(topic), numbers(1, 10))
    for message in [receive(first) for _ in range(10)]:
        if int(message.data()) % 2 == 0:
            first.acknowledge(message)
    first.close()
    assert admin.backlog(topic, "all") == 5
    second = client.subscribe(topic, "all", Type.Shared)
    assert sorted(receive_texts(second, 5), key=int) == ["1", "3", "5", "7", "9"]
    assert_silent(second)


def test_ack__by_message_id_and_on_an_exclusive_subscription(client, topic):
    first = client.subscribe(topic, "all")
    send_texts(client.create_producer(topic), numbers(1, 4))
    messages = [receive(first) for _ in range(4)]
    for n in (1, 2):
        first.acknowledge(messages[n].message_id())
    first.close()
    assert receive_texts(client.subscribe(topic, "all"), 2) == ["1", "4"]


def test_ack__another_consumer_of_the_subscription_may_acknowledge(make_client, admin, topic):
    first = make_client().subscribe(topic, "all", Type.Shared)
    send_texts(make_client().create_producer(topic), ["a"])
    message = receive(first)
    second = make_client().subscribe(topic, "all", Type.Shared)
    second.acknowledge(message.message_id())
    empty(admin, topic)


def test_ack_cumulative__everything_up_to_it_stays_away(client, admin, topic):
    first = client.subscribe(topic, "all")
    send_texts(client.create_producer(topic), numbers(1, 10))
    messages = [receive(first) for _ in range(10)]
    first.acknowledge_cumulative(messages[6])
    first.close()
    assert admin.backlog(topic, "all") == 3
    assert receive_texts(client.subscribe(topic, "all"), 3) == numbers(8, 10)


def test_ack_cumulative__is_refused_on_a_shared_subscription(client, topic):
    consumer = client.subscribe(topic, "all", Type.Shared)
    send_texts(client.create_producer(topic), ["a"])
    with pytest.raises(pulsar.CumulativeAcknowledgementNotAllowedError):
        consumer.acknowledge_cumulative(receive(consumer))


def test_ack_batch_index__single_messages_of_a_batch_stay_away(client, topic):
    first = client.subscribe(topic, "all", Type.Shared, batch_index_ack_enabled=True)
    send_batches(client, topic, numbers(0, 9), 10)
    for message in [receive(first) for _ in range(10)]:
        if int(message.data()) not in (3, 7):
            first.acknowledge(message)
    first.close()
    second = client.subscribe(topic, "all", Type.Shared, batch_index_ack_enabled=True)
    assert receive_texts(second, 2) == ["3", "7"]
    assert_silent(second)


def test_ack_batch_index__cumulative_within_a_batch(client, topic):
    first = client.subscribe(topic, "all", batch_index_ack_enabled=True)
    send_batches(client, topic, numbers(0, 9), 10)
    messages = [receive(first) for _ in range(10)]
    first.acknowledge_cumulative(messages[5])
    first.close()
    second = client.subscribe(topic, "all", batch_index_ack_enabled=True)
    assert receive_texts(second, 4) == numbers(6, 9)


def test_ack_batch_index__without_it_a_batch_comes_again_as_a_whole(client, topic):
    first = client.subscribe(topic, "all", Type.Shared)
    send_batches(client, topic, numbers(0, 9), 10)
    for message in [receive(first) for _ in range(10)][:5]:
        first.acknowledge(message)
    first.close()
    assert receive_texts(client.subscribe(topic, "all", Type.Shared), 10) == numbers(0, 9)


def test_negative_ack__the_message_comes_again_and_others_do_not(client, topic):
    consumer = client.subscribe(topic, "all", Type.Shared, negative_ack_redelivery_delay_ms=100)
    send_texts(client.create_producer(topic), numbers(1, 5))
    for message in [receive(consumer) for _ in range(5)]:
        if message.data() == b"3":
            consumer.negative_acknowledge(message)
        else:
            consumer.acknowledge(message)
    assert receive_texts(consumer, 1) == ["3"]
    assert_silent(consumer)


@pytest.mark.parametrize("kind", [Type.Exclusive, Type.Failover])
def test_negative_ack__works_on_subscriptions_with_one_active_consumer(client, topic, kind):
    consumer = client.subscribe(topic, "all", kind, negative_ack_redelivery_delay_ms=100)
    send_texts(client.create_producer(topic), ["a"])
    consumer.negative_acknowledge(receive(consumer))
    assert receive_texts(consumer, 1) == ["a"]


def test_negative_ack__everything_unacknowledged_comes_again_on_request(client, admin, topic):
    consumer = client.subscribe(topic, "all")
    send_texts(client.create_producer(topic), numbers(1, 5))
    messages = [receive(consumer) for _ in range(5)]
    consumer.acknowledge(messages[0])
    eventually("the ack", lambda: admin.backlog(topic, "all") == 4)
    consumer.redeliver_unacknowledged_messages()
    assert receive_texts(consumer, 4) == numbers(2, 5)


def test_redelivery_count__goes_up_with_each_delivery(client, topic):
    consumer = client.subscribe(topic, "all", Type.Shared, negative_ack_redelivery_delay_ms=100)
    send_texts(client.create_producer(topic), ["a"])
    counts = []
    for _ in range(4):
        message = receive(consumer)
        counts.append(message.redelivery_count())
        consumer.negative_acknowledge(message)
    assert counts == [0, 1, 2, 3]


def test_ack_timeout__what_is_not_acknowledged_in_time_comes_again(client, topic):
    # 10 s is the least that this client allows.
    consumer = client.subscribe(topic, "all", Type.Shared, unacked_messages_timeout_ms=10_000)
    send_texts(client.create_producer(topic), ["a", "b"])
    first, second = receive(consumer), receive(consumer)
    consumer.acknowledge(first)
    again = receive(consumer)
    assert again.data() == second.data() and again.redelivery_count() == 1


def test_dead_letter__after_too_many_deliveries_the_message_moves(client, admin, topic):
    dead = f"{topic}-dead"
    graveyard = client.subscribe(dead, "operators", initial_position=EARLIEST)
    consumer = client.subscribe(topic, "all", Type.Shared, negative_ack_redelivery_delay_ms=100,
                                dead_letter_policy=pulsar.ConsumerDeadLetterPolicy(2, dead, "first"))
    send_texts(client.create_producer(topic), ["poison"], partition_key="key", properties={"a": "1"})
    counts = []
    for _ in range(3):
        message = receive(consumer)
        counts.append(message.redelivery_count())
        consumer.negative_acknowledge(message)
    assert counts == [0, 1, 2]
    letter = receive(graveyard)
    assert letter.data() == b"poison" and letter.partition_key() == "key"
    assert letter.properties().get("a") == "1"
    empty(admin, topic)
