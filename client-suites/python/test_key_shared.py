"""Key_Shared: one consumer per key, order per key, sticky ranges."""

import collections

import pulsar
import pytest

from suite import EARLIEST, Type, assert_silent, collect, eventually, receive, receive_or_none

HASHES_MAX = 65535


def policy(mode=pulsar.KeySharedMode.AutoSplit, ranges=None, out_of_order=False):
    return pulsar.ConsumerKeySharedPolicy(mode, out_of_order, ranges)


def sticky(*ranges):
    return policy(pulsar.KeySharedMode.Sticky, list(ranges))


def subscribe(client, topic, **options):
    return client.subscribe(topic, "owners", Type.KeyShared, initial_position=EARLIEST, **options)


def send_rounds(producer, keys, first, last):
    """Message n goes to each key, for n from first to last."""
    for n in range(first, last + 1):
        for key in keys:
            producer.send(str(n).encode(), partition_key=key)


KEYS = [f"key-{n}" for n in range(20)]


def test_key_shared__a_key_has_one_consumer_and_its_order(make_client, admin, topic):
    consumers = [subscribe(make_client(), topic) for _ in range(3)]
    eventually("three consumers", lambda: len(admin.subscription(topic, "owners")["consumers"]) == 3)
    send_rounds(make_client().create_producer(topic), KEYS, 1, 5)
    owners, orders = collections.defaultdict(set), collections.defaultdict(list)
    for n, share in enumerate(collect(consumers, 100)):
        for message in share:
            owners[message.partition_key()].add(n)
            orders[message.partition_key()].append(int(message.data()))
    assert orders == {key: [1, 2, 3, 4, 5] for key in KEYS}
    assert all(len(one) == 1 for one in owners.values())
    assert len(set.union(*owners.values())) > 1


def test_key_shared__order_holds_while_consumers_join_and_leave(make_client, topic):
    producer = make_client().create_producer(topic)
    consumers = [subscribe(make_client(), topic, receiver_queue_size=10)]
    orders = collections.defaultdict(list)

    def take(consumer, most):
        for _ in range(most):
            message = receive_or_none(consumer)
            if message is None:
                return
            orders[message.partition_key()].append(int(message.data()))
            consumer.acknowledge(message)

    for step in range(6):
        send_rounds(producer, KEYS, step * 3 + 1, step * 3 + 3)
        if step in (1, 3):
            consumers.append(subscribe(make_client(), topic, receiver_queue_size=10))
        if step in (2, 4):
            consumers.pop(0).close()
        for consumer in consumers:
            take(consumer, 15)
    for _ in range(50):
        if all(order and order[-1] == 18 for order in orders.values()):
            break
        for consumer in consumers:
            take(consumer, 200)
    for key in KEYS:
        # A message whose ack was lost with its consumer may come twice; a later one never before an earlier one.
        firsts = list(dict.fromkeys(orders[key]))
        assert firsts == list(range(1, 19)), key


def test_key_shared__a_key_in_work_stays_until_it_is_acknowledged(make_client, topic):
    producer = make_client().create_producer(topic)
    first = subscribe(make_client(), topic)
    send_rounds(producer, KEYS, 1, 1)
    held = {message.partition_key(): message for message in (receive(first) for _ in KEYS)}
    second = subscribe(make_client(), topic)
    send_rounds(producer, KEYS, 2, 2)
    # Every key is held by the first consumer, so what moves to the second has to wait.
    assert_silent(second)
    for message in held.values():
        first.acknowledge(message)
    stayed, moved = ({message.partition_key() for message in share} for share in collect([first, second], len(KEYS)))
    assert moved | stayed == set(KEYS) and not moved & stayed and moved


def test_key_shared__a_gone_consumers_keys_go_to_the_others_in_order(make_client, topic):
    consumers = [subscribe(make_client(), topic) for _ in range(2)]
    send_rounds(make_client().create_producer(topic), KEYS, 1, 3)
    consumers[0].close()
    orders = collections.defaultdict(list)
    while len(orders) < len(KEYS) or any(len(order) < 3 for order in orders.values()):
        message = receive(consumers[1])
        orders[message.partition_key()].append(int(message.data()))
        consumers[1].acknowledge(message)
    assert orders == {key: [1, 2, 3] for key in KEYS}


def test_key_shared__the_ordering_key_goes_before_the_key(make_client, topic):
    consumers = [subscribe(make_client(), topic) for _ in range(2)]
    producer = make_client().create_producer(topic)
    for n in range(20):
        producer.send(str(n).encode(), partition_key=f"key-{n}", ordering_key="one")
    assert sorted(map(len, collect(consumers, 20))) == [0, 20]


def test_key_shared__without_keys_the_messages_all_arrive(make_client, topic):
    consumers = [subscribe(make_client(), topic) for _ in range(2)]
    producer = make_client().create_producer(topic)
    for n in range(20):
        producer.send(str(n).encode())
    collect(consumers, 20)
    for consumer in consumers:
        assert_silent(consumer)


def test_key_shared__out_of_order_delivery_can_be_allowed(make_client, topic):
    consumers = [subscribe(make_client(), topic, key_shared_policy=policy(out_of_order=True)) for _ in range(2)]
    send_rounds(make_client().create_producer(topic), KEYS, 1, 2)
    collect(consumers, 40)
    for consumer in consumers:
        assert_silent(consumer)


def test_key_shared_sticky__consumers_get_the_ranges_they_name(make_client, admin, topic):
    middle = HASHES_MAX // 2
    low = subscribe(make_client(), topic, consumer_name="low", key_shared_policy=sticky((0, middle)))
    high = subscribe(make_client(), topic, consumer_name="high", key_shared_policy=sticky((middle + 1, HASHES_MAX)))
    subscription = admin.subscription(topic, "owners")
    ranges = {consumer["consumerName"]: consumer["keyHashRangeArrays"] for consumer in subscription["consumers"]}
    assert ranges == {"low": [[0, middle]], "high": [[middle + 1, HASHES_MAX]]}
    assert subscription["keySharedMode"] == "STICKY"
    send_rounds(make_client().create_producer(topic), KEYS, 1, 2)
    shares = [collections.Counter(message.partition_key() for message in share) for share in collect([low, high], 40)]
    assert all(shares) and not shares[0].keys() & shares[1].keys()
    assert shares[0] + shares[1] == collections.Counter({key: 2 for key in KEYS})


def test_key_shared_sticky__a_range_that_nobody_named_waits(make_client, topic):
    middle = HASHES_MAX // 2
    low = subscribe(make_client(), topic, key_shared_policy=sticky((0, middle)))
    send_rounds(make_client().create_producer(topic), KEYS, 1, 1)
    early = []
    while (message := receive_or_none(low)) is not None:
        low.acknowledge(message)
        early.append(message)
    assert 0 < len(early) < len(KEYS)
    high = subscribe(make_client(), topic, key_shared_policy=sticky((middle + 1, HASHES_MAX)))
    lows, highs = collect([low, high], len(KEYS) - len(early))
    assert highs and {message.partition_key() for message in [*early, *lows, *highs]} == set(KEYS)


def test_key_shared_sticky__overlapping_ranges_are_refused(make_client, topic):
    subscribe(make_client(), topic, key_shared_policy=sticky((0, 100)))
    with pytest.raises(pulsar.ConsumerAssignError):
        subscribe(make_client(), topic, key_shared_policy=sticky((50, 200)))
    subscribe(make_client(), topic, key_shared_policy=sticky((101, 200)))
