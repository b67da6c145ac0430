package suite;

import static org.apache.pulsar.client.api.SubscriptionType.Exclusive;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import org.apache.pulsar.client.api.Message;
import org.apache.pulsar.client.api.MessageId;
import org.apache.pulsar.client.api.MessageIdAdv;
import org.apache.pulsar.client.api.Producer;
import org.apache.pulsar.client.api.PulsarClientException;
import org.junit.jupiter.api.Test;

/** Single messages: what they carry, who sent them, in which order, and how often. */
class ProducingTest {
    @Test
    void send__everything_a_message_carries_arrives() throws Exception {
        String topic = Broker.topic("send");
        byte[] orderingKey = {1, 2, 3};
        try (var consumer = Broker.consumer(topic, "s", Exclusive);
                var producer = Broker.producing(topic).producerName("me-" + topic).create()) {
            long before = System.currentTimeMillis();
            MessageId id = producer.newMessage()
                    .key("k")
                    .orderingKey(orderingKey)
                    .property("a", "1")
                    .properties(Map.of("b", "2", "c", "äöü"))
                    .eventTime(1234)
                    .sequenceId(17)
                    .value(Text.bytes("hello"))
                    .send();
            Message<byte[]> message = Text.next(consumer);
            assertEquals("hello", Text.of(message));
            assertEquals("k", message.getKey());
            assertArrayEquals(orderingKey, message.getOrderingKey());
            assertEquals(Map.of("a", "1", "b", "2", "c", "äöü"), message.getProperties());
            assertEquals(1234, message.getEventTime());
            assertEquals(17, message.getSequenceId());
            assertEquals("me-" + topic, message.getProducerName());
            assertEquals(topic, message.getTopicName());
            assertEquals(id, message.getMessageId());
            assertEquals(0, message.getRedeliveryCount());
            assertTrue(message.getPublishTime() >= before);
        }
    }

    @Test
    void send__a_binary_key_arrives() throws Exception {
        String topic = Broker.topic("send-key");
        byte[] key = {0, -1, 2};
        try (var consumer = Broker.consumer(topic, "s", Exclusive); var producer = Broker.producer(topic)) {
            producer.newMessage().keyBytes(key).value(Text.bytes("v")).send();
            Message<byte[]> message = Text.next(consumer);
            assertTrue(message.hasBase64EncodedKey());
            assertArrayEquals(key, message.getKeyBytes());
        }
    }

    @Test
    void send__a_null_value_is_not_an_empty_one() throws Exception {
        String topic = Broker.topic("send-null");
        try (var consumer = Broker.consumer(topic, "s", Exclusive); var producer = Broker.producer(topic)) {
            producer.newMessage().key("null").value(null).send();
            producer.newMessage().key("empty").value(new byte[0]).send();
            assertNull(Text.next(consumer).getValue());
            assertArrayEquals(new byte[0], Text.next(consumer).getValue());
        }
    }

    @Test
    void send__thousands_in_flight_keep_their_order() throws Exception {
        String topic = Broker.topic("send-many");
        int count = 5_000;
        try (var consumer = Broker.consumer(topic, "s", Exclusive);
                var producer = Broker.producing(topic).maxPendingMessages(1_000).blockIfQueueFull(true).create()) {
            for (int number = 0; number < count; number++) {
                producer.sendAsync(Text.bytes("m-" + number));
            }
            producer.flush();
            assertEquals(Text.numbered(0, count), Text.takeAcked(consumer, count));
        }
    }

    @Test
    void send__message_ids_grow_and_name_their_entry() throws Exception {
        String topic = Broker.topic("send-ids");
        try (var producer = Broker.producer(topic)) {
            List<MessageId> ids = Text.send(producer, Text.numbered(0, 5));
            for (int index = 1; index < ids.size(); index++) {
                var earlier = (MessageIdAdv) ids.get(index - 1);
                var later = (MessageIdAdv) ids.get(index);
                assertTrue(earlier.compareTo(later) < 0, earlier + " before " + later);
                assertEquals(earlier.getLedgerId(), later.getLedgerId());
                assertEquals(earlier.getEntryId() + 1, later.getEntryId());
                assertEquals(-1, later.getBatchIndex());
            }
        }
    }

    @Test
    void producer_name__each_gets_one_of_its_own() throws Exception {
        String topic = Broker.topic("names");
        try (var one = Broker.producer(topic); var two = Broker.producer(topic)) {
            assertFalse(one.getProducerName().isBlank());
            assertNotEquals(one.getProducerName(), two.getProducerName());
        }
    }

    @Test
    void producer_name__is_used_by_one_at_a_time() throws Exception {
        String topic = Broker.topic("name-taken");
        Producer<byte[]> first = Broker.producing(topic).producerName("n").create();
        assertEquals("n", first.getProducerName());
        try (var other = Broker.builder().build()) {
            assertThrows(
                    PulsarClientException.ProducerBusyException.class,
                    () -> other.newProducer().topic(topic).producerName("n").create());
        }
        first.close();
        try (var second = Broker.producing(topic).producerName("n").create()) {
            assertEquals("n", second.getProducerName());
        }
    }

    @Test
    void sequence_ids__start_where_the_producer_says() throws Exception {
        String topic = Broker.topic("sequence");
        try (var consumer = Broker.consumer(topic, "s", Exclusive);
                var producer = Broker.producing(topic).initialSequenceId(41).create()) {
            assertEquals(41, producer.getLastSequenceId());
            Text.send(producer, List.of("a", "b"));
            assertEquals(43, producer.getLastSequenceId());
            assertEquals(42, Text.next(consumer).getSequenceId());
            assertEquals(43, Text.next(consumer).getSequenceId());
        }
    }

    @Test
    void deduplication__what_was_stored_is_not_stored_again() throws Exception {
        String namespace = Broker.namespace("dedup");
        Broker.ADMIN.namespaces().setDeduplicationStatus(namespace, true);
        String topic = "persistent://" + namespace + "/t";
        try (var consumer = Broker.consumer(topic, "s", Exclusive)) {
            Producer<byte[]> first = Broker.producing(topic).producerName("p").create();
            first.newMessage().sequenceId(10).value(Text.bytes("ten")).send();
            first.newMessage().sequenceId(20).value(Text.bytes("twenty")).send();
            var again = (MessageIdAdv)
                    first.newMessage().sequenceId(20).value(Text.bytes("twenty again")).send();
            assertEquals(-1, again.getLedgerId());
            assertEquals(-1, again.getEntryId());
            first.close();

            // The name's last sequence id outlives the producer, and the topic's being loaded.
            Broker.ADMIN.topics().unload(topic);
            try (var second = Broker.producing(topic).producerName("p").create()) {
                assertEquals(20, second.getLastSequenceId());
                second.newMessage().sequenceId(15).value(Text.bytes("fifteen")).send();
                second.newMessage().sequenceId(30).value(Text.bytes("thirty")).send();
            }
            var texts = new TreeSet<String>();
            for (var text = ""; !text.equals("thirty"); texts.add(text)) {
                Message<byte[]> message = Text.next(consumer);
                text = Text.of(message);
                consumer.acknowledge(message);
            }
            assertEquals(new TreeSet<>(List.of("ten", "twenty", "thirty")), texts);
        }
    }

    @Test
    void deduplication__a_batch_that_was_stored_is_not_stored_again() throws Exception {
        String namespace = Broker.namespace("dedup-batch");
        Broker.ADMIN.namespaces().setDeduplicationStatus(namespace, true);
        String topic = "persistent://" + namespace + "/t";
        try (var consumer = Broker.consumer(topic, "s", Exclusive);
                var producer = Broker.CLIENT.newProducer()
                        .topic(topic)
                        .producerName("p")
                        .batchingMaxPublishDelay(1, TimeUnit.HOURS)
                        .create()) {
            // The second batch repeats the first's sequence ids, the third is new.
            for (int start : new int[] {0, 0, 3}) {
                for (int offset = 0; offset < 3; offset++) {
                    long sequence = start + offset;
                    producer.newMessage().sequenceId(sequence).value(Text.bytes("m-" + sequence)).sendAsync();
                }
                producer.flush();
            }
            assertEquals(5, producer.getLastSequenceId());
            assertEquals(Text.numbered(0, 6), Text.takeAcked(consumer, 6));
            Text.assertSilent(consumer);
        }
    }
}
