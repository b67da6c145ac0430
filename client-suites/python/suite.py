"""What the tests share: names, waiting for conditions, the admin API. Knows two URLs and nothing of the broker behind them."""

import os
import time
import uuid

import pulsar
import requests

SERVICE_URL = os.environ["PULSAR_SERVICE_URL"]
ADMIN_URL = os.environ["PULSAR_ADMIN_URL"]

# How long a condition may take. Generous: reaching it is a failure.
PATIENCE_SECONDS = 30
PATIENCE_MS = PATIENCE_SECONDS * 1000
# How long nothing must come before a test believes that nothing comes.
SILENCE_MS = 400

EARLIEST = pulsar.InitialPosition.Earliest
Type = pulsar.ConsumerType


def unique(word):
    return f"{word}-{uuid.uuid4().hex[:12]}"


def eventually(what, condition):
    """Waits until `condition()` is true and returns what it returned."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"{what}: not within {PATIENCE_SECONDS} s"
        time.sleep(0.05)


def receive(consumer):
    return consumer.receive(PATIENCE_MS)


def receive_texts(consumer, count, acknowledge=True):
    texts = []
    for _ in range(count):
        message = receive(consumer)
        texts.append(message.data().decode())
        if acknowledge:
            consumer.acknowledge(message)
    return texts


def collect(consumers, total):
    """Receives from all of them, acknowledging, until `total` messages came; a list of messages per consumer."""
    shares = [[] for _ in consumers]
    end = time.monotonic() + PATIENCE_SECONDS
    while sum(map(len, shares)) < total:
        assert time.monotonic() < end, f"{sum(map(len, shares))} of {total} messages within {PATIENCE_SECONDS} s"
        for consumer, share in zip(consumers, shares):
            while (message := receive_or_none(consumer, 20)) is not None:
                consumer.acknowledge(message)
                share.append(message)
    return shares


def receive_or_none(consumer, wait_ms=SILENCE_MS):
    try:
        return consumer.receive(wait_ms)
    except pulsar.Timeout:
        return None


def assert_silent(consumer):
    message = receive_or_none(consumer)
    assert message is None, f"an unexpected message: {message.data()!r}"


def send_texts(producer, texts, **options):
    return [producer.send(text.encode(), **options) for text in texts]


def numbers(first, last):
    return [str(n) for n in range(first, last + 1)]


def read_texts(reader):
    """Everything up to the topic's end."""
    texts = []
    while reader.has_message_available():
        texts.append(reader.read_next(PATIENCE_MS).data().decode())
    return texts


class Admin:
    """The admin REST API, by the paths that Pulsar documents."""

    def __init__(self, url):
        self.base = f"{url}/admin/v2"
        self.session = requests.Session()

    def call(self, method, path, body=None):
        answer = self.session.request(method, f"{self.base}/{path}", json=body, timeout=PATIENCE_SECONDS)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def get(self, path):
        return self.call("GET", path)

    def put(self, path, body=None):
        return self.call("PUT", path, body)

    def post(self, path, body=None):
        return self.call("POST", path, body)

    def delete(self, path):
        return self.call("DELETE", path)

    @staticmethod
    def path(topic):
        domain, rest = topic.split("://")
        return f"{domain}/{rest}"

    def stats(self, topic):
        return self.get(f"{self.path(topic)}/stats")

    def subscription(self, topic, name):
        return self.stats(topic)["subscriptions"].get(name)

    def backlog(self, topic, name):
        return self.subscription(topic, name)["msgBacklog"]

    def partitions(self, topic, count):
        self.put(f"{self.path(topic)}/partitions", count)

    def unload(self, topic):
        self.put(f"{self.path(topic)}/unload")

    def compact(self, topic):
        """Starts a compaction and waits for its end."""
        self.put(f"{self.path(topic)}/compaction")
        state = lambda: self.get(f"{self.path(topic)}/compaction")["status"]
        eventually("the compaction's end", lambda: state() != "RUNNING")
        assert state() == "SUCCESS"
