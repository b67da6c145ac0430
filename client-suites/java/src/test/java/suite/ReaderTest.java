package suite;

import static org.apache.pulsar.client.api.SubscriptionType.Exclusive;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import org.apache.pulsar.client.admin.LongRunningProcessStatus;
import org.apache.pulsar.client.api.Message;
import org.apache.pulsar.client.api.MessageId;
import org.apache.pulsar.client.api.MessageIdAdv;
import org.apache.pulsar.client.api.Producer;
import org.apache.pulsar.client.api.PulsarClientException;
import org.apache.pulsar.client.api.Reader;
import org.apache.pulsar.client.api.ReaderBuilder;
import org.apache.pulsar.client.api.Schema;
import org.apache.pulsar.client.api.SubscriptionType;
import org.apache.pulsar.common.api.proto.BaseCommand;
import org.apache.pulsar.common.api.proto.CommandSubscribe.InitialPosition;
import org.apache.pulsar.common.api.proto.CommandSubscribe.SubType;
import org.apache.pulsar.common.api.proto.MessageIdData;
import org.apache.pulsar.common.protocol.Commands;
import org.junit.jupiter.api.Test;

/** Readers, and what is left to read after a compaction. */
class ReaderTest {
    private static ReaderBuilder<byte[]> reading(String topic, MessageId start) {
        return Broker.CLIENT.newReader().topic(topic).startMessageId(start);
    }

    private static List<String> rest(Reader<byte[]> reader) throws PulsarClientException {
        List<String> texts = new ArrayList<>();
        while (reader.hasMessageAvailable()) {
            texts.addAll(Text.take(reader, 1));
        }
        return texts;
    }

    @Test
    void reader__from_the_earliest_a_given_and_the_latest_message() throws Exception {
        String topic = Broker.topic("reader");
        try (var producer = Broker.producer(topic)) {
            List<MessageId> ids = Text.send(producer, Text.numbered(0, 10));
            try (var earliest = reading(topic, MessageId.earliest).create();
                    var after = reading(topic, ids.get(5)).create();
                    var from = reading(topic, ids.get(5)).startMessageIdInclusive().create();
                    var latest = reading(topic, MessageId.latest).create();
                    var last = reading(topic, MessageId.latest).startMessageIdInclusive().create()) {
                assertEquals(Text.numbered(0, 10), rest(earliest));
                assertEquals(Text.numbered(6, 10), rest(after));
                assertEquals(Text.numbered(5, 10), rest(from));
                assertFalse(latest.hasMessageAvailable());
                assertEquals(List.of("m-9"), rest(last));
                producer.send(Text.bytes("m-10"));
                for (var reader : List.of(earliest, after, from, latest, last)) {
                    assertEquals(List.of("m-10"), Text.take(reader, 1));
                    assertFalse(reader.hasMessageAvailable());
                }
            }
        }
    }

    @Test
    void reader__is_sent_the_entry_that_it_starts_from() throws Exception {
        String topic = Broker.topic("reader-raw");
        try (var producer = Broker.producer(topic); var raw = new Raw()) {
            var id = (MessageIdAdv) Text.send(producer, Text.numbered(0, 3)).get(1);
            raw.connect(21);
            var start = new MessageIdData().setLedgerId(id.getLedgerId()).setEntryId(id.getEntryId());
            raw.send(Commands.newSubscribe(topic, "s", 1, 2, SubType.Exclusive, 0, "c", false, start, Map.of(),
                    false, true, InitialPosition.Latest, 0, null, true));
            assertEquals(BaseCommand.Type.SUCCESS, raw.next().getType());
            raw.send(Commands.newFlow(1, 10));
            // Whether it comes before or after the entry's messages is the client's business.
            assertEquals(id.getEntryId(), raw.next().getMessage().getMessageId().getEntryId());
        }
    }

    @Test
    void reader__from_within_a_batch() throws Exception {
        String topic = Broker.topic("reader-batch");
        try (var producer = PayloadTest.batching(topic).create()) {
            List<MessageId> ids = Text.sendBatch(producer, Text.numbered(0, 10));
            try (var after = reading(topic, ids.get(5)).create();
                    var from = reading(topic, ids.get(5)).startMessageIdInclusive().create();
                    var end = reading(topic, ids.get(9)).create()) {
                assertEquals(Text.numbered(6, 10), rest(after));
                assertEquals(Text.numbered(5, 10), rest(from));
                assertFalse(end.hasMessageAvailable());
            }
        }
    }

    @Test
    void reader__since_some_time_ago() throws Exception {
        String topic = Broker.topic("reader-since");
        try (var producer = Broker.producer(topic)) {
            Text.send(producer, Text.numbered(0, 3));
            try (var reader = Broker.CLIENT.newReader()
                    .topic(topic)
                    .startMessageFromRollbackDuration(1, TimeUnit.HOURS)
                    .create()) {
                assertEquals(Text.numbered(0, 3), rest(reader));
            }
        }
    }

    @Test
    void reader__acknowledges_nothing_and_leaves_nothing() throws Exception {
        String topic = Broker.topic("reader-traces");
        try (var producer = Broker.producer(topic); var consumer = Broker.consumer(topic, "s", Exclusive)) {
            Text.send(producer, Text.numbered(0, 5));
            try (var reader = reading(topic, MessageId.earliest).create()) {
                assertEquals(Text.numbered(0, 5), rest(reader));
                assertEquals(2, Broker.ADMIN.topics().getSubscriptions(topic).size());
            }
            Await.until("its cursor is gone", () -> Broker.ADMIN.topics().getSubscriptions(topic).size() == 1);
            assertEquals(Text.numbered(0, 5), Text.takeAcked(consumer, 5));
        }
    }

    @Test
    void reader__seeks_and_reads_again() throws Exception {
        String topic = Broker.topic("reader-seek");
        try (var producer = Broker.producer(topic); var reader = reading(topic, MessageId.earliest).create()) {
            List<MessageId> ids = Text.send(producer, Text.numbered(0, 10));
            assertEquals(Text.numbered(0, 10), rest(reader));
            reader.seek(ids.get(7));
            assertEquals(Text.numbered(8, 10), rest(reader));
            reader.seek(MessageId.earliest);
            assertEquals(Text.numbered(0, 10), rest(reader));
        }
    }

    @Test
    void reader__of_all_partitions() throws Exception {
        String topic = Broker.topic("reader-partitions");
        Broker.ADMIN.topics().createPartitionedTopic(topic, 3);
        try (var producer = Broker.producer(topic); var reader = reading(topic, MessageId.earliest).create()) {
            Text.send(producer, Text.numbered(0, 30));
            assertEquals(new TreeSet<>(Text.numbered(0, 30)), new TreeSet<>(rest(reader)));
        }
    }

    private static void compact(String topic) throws Exception {
        Broker.ADMIN.topics().triggerCompaction(topic);
        Await.until(
                "it is compacted",
                () -> Broker.ADMIN.topics().compactionStatus(topic),
                status -> status.status == LongRunningProcessStatus.Status.SUCCESS);
    }

    private static void put(Producer<byte[]> producer, String key, String value) {
        producer.newMessage().key(key).value(value == null ? null : Text.bytes(value)).sendAsync();
    }

    private static List<String> pairs(String topic, boolean compacted) throws Exception {
        try (var reader = reading(topic, MessageId.earliest).readCompacted(compacted).create()) {
            List<String> pairs = new ArrayList<>();
            while (reader.hasMessageAvailable()) {
                Message<byte[]> message = reader.readNext();
                pairs.add(message.getKey() + "=" + (message.getData() == null ? null : Text.of(message)));
            }
            return pairs;
        }
    }

    @Test
    void read_compacted__the_last_message_of_each_key() throws Exception {
        String topic = Broker.topic("compacted");
        try (var producer = Broker.producer(topic)) {
            for (int round = 0; round < 10; round++) {
                for (String key : List.of("a", "b", "c")) {
                    put(producer, key, key + round);
                }
            }
            put(producer, "b", null);
            producer.flush();
            compact(topic);
            assertEquals(List.of("a=a9", "c=c9"), pairs(topic, true));
            // Who does not ask for it reads everything.
            assertEquals(31, pairs(topic, false).size());
            // What came after the compaction follows what it left.
            put(producer, "a", "a10");
            producer.flush();
            assertEquals(List.of("a=a9", "c=c9", "a=a10"), pairs(topic, true));
            compact(topic);
            assertEquals(List.of("c=c9", "a=a10"), pairs(topic, true));
        }
    }

    @Test
    void compaction__looks_into_batches() throws Exception {
        String topic = Broker.topic("compacted-batch");
        try (var producer = PayloadTest.batching(topic).create()) {
            put(producer, "a", "1");
            put(producer, "b", "1");
            put(producer, "a", "2");
            producer.flush();
            put(producer, "c", "1");
            put(producer, "b", "2");
            producer.flush();
            compact(topic);
            assertEquals(List.of("a=2", "c=1", "b=2"), pairs(topic, true));
        }
    }

    @Test
    void read_compacted__outlives_the_topics_being_loaded() throws Exception {
        String topic = Broker.topic("compacted-unload");
        try (var producer = Broker.producer(topic)) {
            put(producer, "a", "1");
            put(producer, "a", "2");
            producer.flush();
            compact(topic);
        }
        Broker.ADMIN.topics().unload(topic);
        assertEquals(List.of("a=2"), pairs(topic, true));
    }

    @Test
    void read_compacted__by_a_durable_subscription() throws Exception {
        String topic = Broker.topic("compacted-durable");
        try (var producer = Broker.producer(topic)) {
            for (int round = 0; round < 5; round++) {
                put(producer, "a", "a" + round);
                put(producer, "b", "b" + round);
            }
            producer.flush();
            compact(topic);
            put(producer, "a", "after");
            producer.flush();
            try (var consumer = Broker.consuming(topic, "s", Exclusive).readCompacted(true).subscribe()) {
                assertEquals(List.of("a4", "b4", "after"), Text.takeAcked(consumer, 3));
            }
        }
    }

    @Test
    void read_compacted__is_not_for_shared_subscriptions() throws Exception {
        String topic = Broker.topic("compacted-shared");
        assertThrows(
                PulsarClientException.InvalidConfigurationException.class,
                () -> Broker.consuming(topic, "s", SubscriptionType.Shared).readCompacted(true).subscribe());
    }

    @Test
    void table_view__keeps_the_last_value_of_each_key() throws Exception {
        String topic = Broker.topic("table-view");
        try (var producer = Broker.producer(topic)) {
            put(producer, "a", "1");
            put(producer, "b", "1");
            put(producer, "a", "2");
            put(producer, "gone", "1");
            put(producer, "gone", null);
            producer.flush();
            compact(topic);
            put(producer, "c", "1");
            producer.flush();
            try (var view = Broker.CLIENT.newTableView(Schema.BYTES).topic(topic).create()) {
                Map<String, String> values = new HashMap<>();
                view.forEach((key, value) -> values.put(key, new String(value)));
                assertEquals(Map.of("a", "2", "b", "1", "c", "1"), values);
                put(producer, "a", "3");
                put(producer, "b", null);
                producer.flush();
                Await.until("it follows", () -> !view.containsKey("b") && new String(view.get("a")).equals("3"));
                assertTrue(view.containsKey("c"));
                assertEquals(2, view.size());
            }
        }
    }

    @Test
    void table_view__of_all_partitions() throws Exception {
        String topic = Broker.topic("table-view-partitions");
        Broker.ADMIN.topics().createPartitionedTopic(topic, 3);
        try (var producer = Broker.producer(topic)) {
            for (int number = 0; number < 30; number++) {
                put(producer, "k" + number % 10, "" + number);
            }
            producer.flush();
            try (var view = Broker.CLIENT.newTableView(Schema.BYTES)
                    .topic(topic)
                    .autoUpdatePartitionsInterval(1, TimeUnit.SECONDS)
                    .create()) {
                assertEquals(10, view.size());
                for (int key = 0; key < 10; key++) {
                    assertEquals("" + (20 + key), new String(view.get("k" + key)));
                }
            }
        }
    }
}
