"""Schemas: strings, JSON, Avro, their versions, and refusal of what does not fit."""

import pulsar
import pytest
from pulsar.schema import AvroSchema, BytesSchema, Integer, JsonSchema, Record, String, StringSchema

from suite import EARLIEST, receive


class Person(Record):
    name = String()
    age = Integer()


# The registry knows a record by its name: these are later or wrong shapes of the same one.
class PersonWithMail(Record):
    name = String()
    age = Integer()
    mail = String(required_default=True)


class PersonWithOtherAge(Record):
    name = String()
    age = String(required=True)


PersonWithMail.__name__ = PersonWithOtherAge.__name__ = "Person"


def first_of(client, topic, schema, value):
    consumer = client.subscribe(topic, "all", schema=schema, initial_position=EARLIEST)
    client.create_producer(topic, schema=schema).send(value)
    return receive(consumer).value()


def test_schema_bytes__is_what_it_was(client, topic):
    assert first_of(client, topic, BytesSchema(), b"\x00\xff") == b"\x00\xff"


def test_schema_string__is_what_it_was(client, topic):
    assert first_of(client, topic, StringSchema(), "grüße") == "grüße"


@pytest.mark.parametrize("schema", [JsonSchema, AvroSchema])
def test_schema_json__and_avro_records_are_what_they_were(client, topic, schema):
    person = first_of(client, topic, schema(Person), Person(name="Ada", age=36))
    assert (person.name, person.age) == ("Ada", 36)


def test_schema_avro__a_reader_of_the_topic_finds_the_schema(client, admin, topic):
    client.create_producer(topic, schema=AvroSchema(Person))
    stored = admin.get(f"schemas/{topic.split('://')[1]}/schema")
    assert stored["type"] == "AVRO" and stored["version"] == 0
    assert '"Person"' in stored["data"]


@pytest.mark.parametrize("schema", [JsonSchema, AvroSchema])
def test_schema_compatibility__a_changed_type_is_refused(client, topic, schema):
    producer = client.create_producer(topic, schema=schema(Person))
    with pytest.raises(pulsar.IncompatibleSchema):
        client.create_producer(topic, schema=schema(PersonWithOtherAge))
    with pytest.raises(pulsar.IncompatibleSchema):
        client.subscribe(topic, "all", schema=schema(PersonWithOtherAge))
    producer.send(Person(name="Ada", age=36))


def test_schema_compatibility__another_kind_of_schema_is_refused(client, topic):
    client.create_producer(topic, schema=AvroSchema(Person))
    with pytest.raises(pulsar.IncompatibleSchema):
        client.create_producer(topic, schema=StringSchema())


def test_schema_versions__an_added_optional_field_is_a_new_version(client, admin, topic):
    old = client.create_producer(topic, schema=AvroSchema(Person))
    consumer = client.subscribe(topic, "all", initial_position=EARLIEST)
    new = client.create_producer(topic, schema=AvroSchema(PersonWithMail))
    old.send(Person(name="Ada", age=36))
    new.send(PersonWithMail(name="Ada", age=36, mail="ada@example.org"))
    versions = [int.from_bytes(receive(consumer).schema_version().encode("latin-1"), "big") for _ in range(2)]
    assert versions == [0, 1]
    stored = admin.get(f"schemas/{topic.split('://')[1]}/schemas")["getSchemaResponses"]
    assert [one["version"] for one in stored] == [0, 1]


def test_schema_versions__the_same_schema_has_one_version(client, admin, topic):
    for _ in range(3):
        client.create_producer(topic, schema=JsonSchema(Person)).close()
    stored = admin.get(f"schemas/{topic.split('://')[1]}/schemas")["getSchemaResponses"]
    assert len(stored) == 1
