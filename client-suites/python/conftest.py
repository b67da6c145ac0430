"""Fixtures: a client per test, topic names of its own, the admin API."""

import pulsar
import pytest

from suite import ADMIN_URL, SERVICE_URL, Admin, unique


def new_client(url=SERVICE_URL, **options):
    return pulsar.Client(url, logger=pulsar.ConsoleLogger(pulsar.LoggerLevel.Error), **options)


@pytest.fixture
def make_client():
    """Makes clients that end with the test."""
    clients = []

    def make(*arguments, **options):
        clients.append(new_client(*arguments, **options))
        return clients[-1]

    yield make
    for client in clients:
        try:
            client.close()
        except pulsar.AlreadyClosed:
            pass


@pytest.fixture
def client(make_client):
    return make_client()


@pytest.fixture
def topic():
    return f"persistent://public/default/{unique('python')}"


@pytest.fixture(scope="session")
def admin():
    return Admin(ADMIN_URL)


@pytest.fixture
def namespace(admin):
    """A namespace of the test's own, for policies."""
    name = f"public/{unique('python')}"
    admin.put(f"namespaces/{name}")
    return name
