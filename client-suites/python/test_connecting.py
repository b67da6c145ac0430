"""Connecting, lookup, refusals, closing."""

import pulsar
import pytest

from suite import ADMIN_URL, EARLIEST, receive, receive_texts, send_texts, unique


def test_connect__what_one_client_sends_another_receives(make_client, topic):
    consumer = make_client().subscribe(topic, "all")
    make_client().create_producer(topic).send(b"hello")
    assert receive(consumer).data() == b"hello"


def test_token__a_client_with_a_token_connects_where_none_is_asked_for(make_client, topic):
    client = make_client(authentication=pulsar.AuthenticationToken("a.b.c"))
    consumer = client.subscribe(topic, "all")
    client.create_producer(topic).send(b"hello")
    assert receive(consumer).data() == b"hello"


def test_lookup__a_topic_is_found_over_http(make_client, topic):
    client = make_client(ADMIN_URL)
    consumer = client.subscribe(topic, "all")
    client.create_producer(topic).send(b"hello")
    assert receive(consumer).data() == b"hello"


def test_lookup__short_names_mean_the_default_namespace(client):
    name = unique("short")
    producer = client.create_producer(name)
    assert producer.topic() == f"persistent://public/default/{name}"
    consumer = client.subscribe(f"persistent://public/default/{name}", "all", initial_position=EARLIEST)
    producer.send(b"hello")
    assert receive(consumer).data() == b"hello"


def test_errors__a_topic_of_a_missing_namespace_is_refused_and_the_connection_stays(make_client, topic):
    # A short operation time-out: the client retries what may pass.
    client = make_client(operation_timeout_seconds=5)
    producer = client.create_producer(topic)
    with pytest.raises(pulsar.PulsarException):
        client.create_producer(f"persistent://public/{unique('missing')}/topic")
    with pytest.raises(pulsar.PulsarException):
        client.subscribe(f"persistent://{unique('missing')}/namespace/topic", "all")
    producer.send(b"still here")
    assert producer.is_connected()


def test_close__a_closed_consumer_leaves_the_rest_to_the_next(client, topic):
    first = client.subscribe(topic, "all", initial_position=EARLIEST)
    producer = client.create_producer(topic)
    send_texts(producer, ["a", "b", "c"])
    assert receive_texts(first, 1) == ["a"]
    first.close()
    second = client.subscribe(topic, "all")
    assert receive_texts(second, 2) == ["b", "c"]


def test_close__a_closed_producer_sends_no_more_and_frees_its_name(client, topic):
    first = client.create_producer(topic, producer_name="only")
    first.close()
    with pytest.raises(pulsar.AlreadyClosed):
        first.send(b"late")
    assert client.create_producer(topic, producer_name="only").producer_name() == "only"


def test_close__a_closed_client_frees_its_subscription(make_client, topic):
    first = make_client()
    first.subscribe(topic, "all")
    first.close()
    make_client().subscribe(topic, "all")
