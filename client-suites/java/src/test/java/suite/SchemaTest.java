package suite;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.math.BigInteger;
import java.time.Instant;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;
import org.apache.pulsar.client.admin.PulsarAdminException;
import org.apache.pulsar.client.api.Consumer;
import org.apache.pulsar.client.api.Message;
import org.apache.pulsar.client.api.Producer;
import org.apache.pulsar.client.api.PulsarClientException;
import org.apache.pulsar.client.api.Schema;
import org.apache.pulsar.client.api.SubscriptionInitialPosition;
import org.apache.pulsar.client.api.schema.GenericRecord;
import org.apache.pulsar.client.api.schema.GenericSchema;
import org.apache.pulsar.client.api.schema.RecordSchemaBuilder;
import org.apache.pulsar.client.api.schema.SchemaBuilder;
import org.apache.pulsar.common.policies.data.SchemaCompatibilityStrategy;
import org.apache.pulsar.common.protocol.schema.PostSchemaPayload;
import org.apache.pulsar.common.schema.KeyValue;
import org.apache.pulsar.common.schema.KeyValueEncodingType;
import org.apache.pulsar.common.schema.SchemaInfo;
import org.apache.pulsar.common.schema.SchemaType;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.EnumSource;
import org.junit.jupiter.params.provider.MethodSource;

/** The schema registry, as the client uses it. */
class SchemaTest {
    /** A record of the client's own making, field by field. */
    public static final class Person {
        public String name;
        public int age;

        public Person() {}

        Person(String name, int age) {
            this.name = name;
            this.age = age;
        }

        @Override
        public boolean equals(Object other) {
            return other instanceof Person person && person.age == age && Objects.equals(person.name, name);
        }

        @Override
        public int hashCode() {
            return Objects.hash(name, age);
        }

        @Override
        public String toString() {
            return name + ", " + age;
        }
    }

    private static <T> Producer<T> producer(String topic, Schema<T> schema) throws PulsarClientException {
        return Broker.CLIENT.newProducer(schema).topic(topic).enableBatching(false).create();
    }

    private static <T> Consumer<T> consumer(String topic, Schema<T> schema) throws PulsarClientException {
        return consumer(topic, "s", schema);
    }

    private static <T> Consumer<T> consumer(String topic, String subscription, Schema<T> schema)
            throws PulsarClientException {
        return Broker.CLIENT.newConsumer(schema)
                .topic(topic)
                .subscriptionName(subscription)
                .subscriptionInitialPosition(SubscriptionInitialPosition.Earliest)
                .subscribe();
    }

    private static <T> Message<T> next(Consumer<T> consumer) throws Exception {
        return consumer.receiveAsync().get(Await.PATIENCE.toSeconds(), TimeUnit.SECONDS);
    }

    private static <T> void roundTrip(String topic, Schema<T> schema, T value) throws Exception {
        try (var producer = producer(topic, schema); var consumer = consumer(topic, schema)) {
            producer.send(value);
            Message<T> message = next(consumer);
            if (value instanceof byte[] bytes) {
                assertArrayEquals(bytes, (byte[]) message.getValue());
            } else {
                assertEquals(value, message.getValue());
            }
        }
    }

    @Test
    void schema_bytes__leave_no_schema() throws Exception {
        String topic = Broker.topic("schema-bytes");
        roundTrip(topic, Schema.BYTES, new byte[] {1, 2, 3});
        assertThrows(
                PulsarAdminException.NotFoundException.class,
                () -> Broker.ADMIN.schemas().getSchemaInfo(topic));
    }

    @Test
    void schema_string__is_registered() throws Exception {
        String topic = Broker.topic("schema-string");
        roundTrip(topic, Schema.STRING, "grüße");
        assertEquals(SchemaType.STRING, Broker.ADMIN.schemas().getSchemaInfo(topic).getType());
    }

    static Stream<Arguments> primitives() {
        return Stream.of(
                Arguments.of(Schema.INT32, 7),
                Arguments.of(Schema.INT64, 7L),
                Arguments.of(Schema.BOOL, true),
                Arguments.of(Schema.DOUBLE, 0.5),
                Arguments.of(Schema.INSTANT, Instant.ofEpochSecond(1234)));
    }

    @ParameterizedTest
    @MethodSource("primitives")
    void schema_versions__primitive_types_have_one(Schema<Object> schema, Object value) throws Exception {
        String topic = Broker.topic("schema-primitive");
        roundTrip(topic, schema, value);
        var info = Broker.ADMIN.schemas().getSchemaInfoWithVersion(topic);
        assertEquals(schema.getSchemaInfo().getType(), info.getSchemaInfo().getType());
        assertEquals(0, info.getVersion());
    }

    @Test
    void schema_json__records() throws Exception {
        String topic = Broker.topic("schema-json");
        roundTrip(topic, Schema.JSON(Person.class), new Person("Ada", 36));
        SchemaInfo info = Broker.ADMIN.schemas().getSchemaInfo(topic);
        assertEquals(SchemaType.JSON, info.getType());
        assertEquals(Schema.JSON(Person.class).getSchemaInfo().getSchemaDefinition(), info.getSchemaDefinition());
    }

    @Test
    void schema_avro__records() throws Exception {
        String topic = Broker.topic("schema-avro");
        roundTrip(topic, Schema.AVRO(Person.class), new Person("Ada", 36));
        assertEquals(SchemaType.AVRO, Broker.ADMIN.schemas().getSchemaInfo(topic).getType());
    }

    @Test
    void schema_avro__a_reader_of_a_newer_version_reads_older_messages() throws Exception {
        String topic = Broker.topic("schema-evolution");
        Schema<GenericRecord> first = generic("id");
        Schema<GenericRecord> second = generic("id", "note");
        try (var old = producer(topic, first); var young = producer(topic, second)) {
            old.send(((GenericSchema<GenericRecord>) first)
                    .newRecordBuilder().set("id", "1").build());
            young.send(((GenericSchema<GenericRecord>) second)
                    .newRecordBuilder().set("id", "2").set("note", "new").build());
            try (var consumer = consumer(topic, Schema.AUTO_CONSUME())) {
                Message<GenericRecord> one = next(consumer);
                Message<GenericRecord> two = next(consumer);
                assertEquals("1", one.getValue().getField("id"));
                assertEquals("2", two.getValue().getField("id"));
                assertEquals("new", two.getValue().getField("note"));
                assertEquals(0, new BigInteger(one.getSchemaVersion()).intValue());
                assertEquals(1, new BigInteger(two.getSchemaVersion()).intValue());
                assertEquals(8, one.getSchemaVersion().length);
            }
        }
    }

    /** A record of optional strings. */
    private static Schema<GenericRecord> generic(String... fields) {
        RecordSchemaBuilder builder = SchemaBuilder.record("Thing");
        for (String field : fields) {
            builder.field(field).type(SchemaType.STRING).optional().defaultValue(null);
        }
        return Schema.generic(builder.build(SchemaType.AVRO));
    }

    private static Schema<GenericRecord> required(String field, SchemaType type) {
        RecordSchemaBuilder builder = SchemaBuilder.record("Thing");
        builder.field(field).type(type).required();
        return Schema.generic(builder.build(SchemaType.AVRO));
    }

    @ParameterizedTest
    @EnumSource(KeyValueEncodingType.class)
    void schema_key_value__pairs(KeyValueEncodingType encoding) throws Exception {
        String topic = Broker.topic("schema-pair");
        var schema = Schema.KeyValue(Schema.STRING, Schema.JSON(Person.class), encoding);
        roundTrip(topic, schema, new KeyValue<>("ada", new Person("Ada", 36)));
        assertEquals(SchemaType.KEY_VALUE, Broker.ADMIN.schemas().getSchemaInfo(topic).getType());
    }

    @Test
    void schema_auto_consume__takes_the_topics_schema() throws Exception {
        String topic = Broker.topic("schema-auto");
        try (var producer = producer(topic, Schema.JSON(Person.class));
                var consumer = consumer(topic, Schema.AUTO_CONSUME())) {
            producer.send(new Person("Ada", 36));
            GenericRecord record = next(consumer).getValue();
            assertEquals(SchemaType.JSON, record.getSchemaType());
            assertEquals("Ada", record.getField("name"));
            assertEquals(36, record.getField("age"));
        }
    }

    @Test
    void schema_auto_produce__bytes_have_to_fit() throws Exception {
        String topic = Broker.topic("schema-auto-produce");
        Schema<Person> schema = Schema.AVRO(Person.class);
        try (var consumer = consumer(topic, schema);
                var producer = producer(topic, Schema.AUTO_PRODUCE_BYTES())) {
            producer.send(schema.encode(new Person("Ada", 36)));
            assertEquals(new Person("Ada", 36), next(consumer).getValue());
            assertThrows(Exception.class, () -> producer.send(new byte[] {-1}));
        }
    }

    @Test
    void schema_auto_produce__registers_a_schema_with_a_single_message() throws Exception {
        String topic = Broker.topic("schema-get-or-create");
        try (var consumer = consumer(topic, Schema.AUTO_CONSUME());
                var producer = Broker.CLIENT.newProducer().topic(topic).enableBatching(false).create()) {
            // The producer has no schema; the message brings its own, which the broker is asked to take in.
            producer.newMessage(Schema.STRING).value("hello").send();
            assertEquals("hello", next(consumer).getValue().getNativeObject());
            assertEquals(SchemaType.STRING, Broker.ADMIN.schemas().getSchemaInfo(topic).getType());
        }
    }

    @Test
    void schema_versions__are_numbered_and_kept() throws Exception {
        String topic = Broker.topic("schema-versions");
        producer(topic, generic("a")).close();
        producer(topic, generic("a", "b")).close();
        producer(topic, generic("a")).close();
        producer(topic, generic("a", "b", "c")).close();
        assertEquals(2, Broker.ADMIN.schemas().getSchemaInfoWithVersion(topic).getVersion());
        List<SchemaInfo> all = Broker.ADMIN.schemas().getAllSchemas(topic);
        assertEquals(3, all.size());
        assertEquals(
                generic("a", "b").getSchemaInfo().getSchemaDefinition(),
                Broker.ADMIN.schemas().getSchemaInfo(topic, 1).getSchemaDefinition());
        Broker.ADMIN.topics().unload(topic);
        assertEquals(2, Broker.ADMIN.schemas().getSchemaInfoWithVersion(topic).getVersion());
        String second = generic("a", "b").getSchemaInfo().getSchemaDefinition();
        var payload = new PostSchemaPayload("AVRO", second, Map.of());
        assertEquals(1, Broker.ADMIN.schemas().getVersionBySchema(topic, payload));
    }

    @Test
    void schema_compatibility__another_type_is_refused() throws Exception {
        String topic = Broker.topic("schema-type");
        try (var strings = producer(topic, Schema.STRING)) {
            assertThrows(
                    PulsarClientException.IncompatibleSchemaException.class,
                    () -> producer(topic, Schema.AVRO(Person.class)));
            assertThrows(
                    PulsarClientException.IncompatibleSchemaException.class,
                    () -> consumer(topic, Schema.AVRO(Person.class)));
            strings.send("not disturbed");
        }
    }

    @Test
    void schema_compatibility__a_record_that_does_not_fit_is_refused() throws Exception {
        String topic = Broker.topic("schema-unfit");
        producer(topic, required("id", SchemaType.INT64)).close();
        assertThrows(
                PulsarClientException.IncompatibleSchemaException.class,
                () -> producer(topic, required("other", SchemaType.INT64)));
        assertThrows(
                PulsarClientException.IncompatibleSchemaException.class,
                () -> producer(topic, required("id", SchemaType.BOOLEAN)));
        assertEquals(1, Broker.ADMIN.schemas().getAllSchemas(topic).size());
    }

    @Test
    void schema_compatibility__is_what_the_policy_says() throws Exception {
        String namespace = Broker.namespace("schema-policy");
        Schema<GenericRecord> less = required("id", SchemaType.INT64);
        RecordSchemaBuilder builder = SchemaBuilder.record("Thing");
        builder.field("id").type(SchemaType.INT64).required();
        builder.field("more").type(SchemaType.INT64).required();
        Schema<GenericRecord> more = Schema.generic(builder.build(SchemaType.AVRO));
        // A required field that is new: an old reader drops it (forward), a new reader misses it (not backward).
        for (var row : List.of(
                new Object[] {SchemaCompatibilityStrategy.BACKWARD, false},
                new Object[] {SchemaCompatibilityStrategy.FORWARD, true},
                new Object[] {SchemaCompatibilityStrategy.FULL, false},
                new Object[] {SchemaCompatibilityStrategy.ALWAYS_COMPATIBLE, true},
                new Object[] {SchemaCompatibilityStrategy.ALWAYS_INCOMPATIBLE, false})) {
            var strategy = (SchemaCompatibilityStrategy) row[0];
            Broker.ADMIN.namespaces().setSchemaCompatibilityStrategy(namespace, strategy);
            String topic = "persistent://" + namespace + "/" + strategy;
            producer(topic, less).close();
            if ((boolean) row[1]) {
                producer(topic, more).close();
            } else {
                assertThrows(
                        PulsarClientException.IncompatibleSchemaException.class,
                        () -> producer(topic, more),
                        strategy.name());
            }
        }
    }

    @Test
    void schema_compatibility__a_null_value_needs_no_schema() throws Exception {
        String topic = Broker.topic("schema-null");
        try (var producer = producer(topic, Schema.JSON(Person.class));
                var consumer = consumer(topic, Schema.JSON(Person.class))) {
            producer.newMessage().key("k").value(null).send();
            assertNull(next(consumer).getValue());
        }
    }
}
