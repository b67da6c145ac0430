package suite;

import static org.apache.pulsar.client.api.SubscriptionType.Exclusive;
import static org.apache.pulsar.client.api.SubscriptionType.Failover;
import static org.apache.pulsar.client.api.SubscriptionType.Shared;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import org.apache.pulsar.client.api.Consumer;
import org.apache.pulsar.client.api.Message;
import org.apache.pulsar.client.api.MessageId;
import org.apache.pulsar.client.api.MessageIdAdv;
import org.apache.pulsar.client.api.PulsarClientException;
import org.apache.pulsar.client.api.SubscriptionMode;
import org.apache.pulsar.client.api.SubscriptionType;
import org.apache.pulsar.client.api.TopicMessageId;
import org.junit.jupiter.api.Test;

/** Where a subscription stands: what it keeps, how it is moved, how it ends, and delays within it. */
class CursorTest {
    @Test
    void durable_cursor__outlives_its_consumers_and_the_topics_being_loaded() throws Exception {
        String topic = Broker.topic("durable");
        try (var producer = Broker.producer(topic)) {
            Text.send(producer, Text.numbered(0, 10));
            try (var consumer = Broker.consumer(topic, "s", Exclusive)) {
                assertEquals(Text.numbered(0, 4), Text.takeAcked(consumer, 4));
            }
            Broker.ADMIN.topics().unload(topic);
            Text.send(producer, Text.numbered(10, 12));
            try (var consumer = Broker.consumer(topic, "s", Exclusive)) {
                assertEquals(Text.numbered(4, 12), Text.takeAcked(consumer, 8));
            }
        }
    }

    @Test
    void durable_cursor__a_non_durable_one_is_gone_with_its_consumer() throws Exception {
        String topic = Broker.topic("non-durable");
        try (var producer = Broker.producer(topic)) {
            producer.send(Text.bytes("old"));
            Consumer<byte[]> consumer = Broker.consuming(topic, "s", Exclusive)
                    .subscriptionMode(SubscriptionMode.NonDurable)
                    .subscribe();
            assertEquals("old", Text.of(Text.next(consumer)));
            assertFalse(Broker.ADMIN.topics().getStats(topic).getSubscriptions().get("s").isDurable());
            consumer.close();
            Await.until("it is gone", () -> Broker.ADMIN.topics().getSubscriptions(topic).isEmpty());
        }
    }

    @Test
    void seek_by_id__the_next_is_the_one_after_it_or_it() throws Exception {
        String topic = Broker.topic("seek");
        try (var producer = Broker.producer(topic)) {
            List<MessageId> ids = Text.send(producer, Text.numbered(0, 10));
            try (var after = Broker.consumer(topic, "after", Exclusive);
                    var from = Broker.consuming(topic, "from", Shared).startMessageIdInclusive().subscribe()) {
                Text.takeAcked(after, 10);
                after.seek(ids.get(3));
                assertEquals(Text.numbered(4, 10), Text.takeAcked(after, 6));
                after.seek(MessageId.earliest);
                assertEquals(Text.numbered(0, 10), Text.takeAcked(after, 10));
                after.seek(MessageId.latest);
                producer.send(Text.bytes("m-10"));
                assertEquals(List.of("m-10"), Text.takeAcked(after, 1));

                Text.takeAcked(from, 11);
                from.seek(ids.get(3));
                assertEquals(new TreeSet<>(Text.numbered(3, 11)), new TreeSet<>(Text.takeAcked(from, 8)));
            }
        }
    }

    @Test
    void seek_by_id__into_a_batch() throws Exception {
        String topic = Broker.topic("seek-batch");
        try (var producer = PayloadTest.batching(topic).create();
                var after = Broker.consumer(topic, "after", Exclusive);
                var from = Broker.consuming(topic, "from", Exclusive).startMessageIdInclusive().subscribe()) {
            List<MessageId> ids = Text.sendBatch(producer, Text.numbered(0, 10));
            Text.takeAcked(after, 10);
            Text.takeAcked(from, 10);
            after.seek(ids.get(4));
            assertEquals(Text.numbered(5, 10), Text.takeAcked(after, 5));
            from.seek(ids.get(4));
            assertEquals(Text.numbered(4, 10), Text.takeAcked(from, 6));
        }
    }

    @Test
    void seek_by_time__starts_at_the_first_message_since() throws Exception {
        String topic = Broker.topic("seek-time");
        try (var producer = Broker.producer(topic); var consumer = Broker.consumer(topic, "s", Exclusive)) {
            Text.send(producer, Text.numbered(0, 5));
            long middle = System.currentTimeMillis() + 1;
            Await.until("the clock has moved on", () -> System.currentTimeMillis() > middle);
            Text.send(producer, Text.numbered(5, 10));
            Text.takeAcked(consumer, 10);
            consumer.seek(middle);
            assertEquals(Text.numbered(5, 10), Text.takeAcked(consumer, 5));
            consumer.seek(0);
            assertEquals(Text.numbered(0, 10), Text.takeAcked(consumer, 10));
        }
    }

    @Test
    void seek_by_time__each_partition_by_a_function() throws Exception {
        String topic = Broker.topic("seek-function");
        Broker.ADMIN.topics().createPartitionedTopic(topic, 2);
        try (var consumer = Broker.consumer(topic, "s", Exclusive)) {
            Map<String, MessageId> third = new HashMap<>();
            for (int partition = 0; partition < 2; partition++) {
                String name = topic + "-partition-" + partition;
                try (var producer = Broker.producer(name)) {
                    third.put(name, Text.send(producer, Text.numbered(0, 5)).get(2));
                }
            }
            Text.takeAcked(consumer, 10);
            // One partition by id, the other by time.
            consumer.seek(name -> name.endsWith("-0") ? third.get(name) : (Object) 0L);
            List<String> texts = new ArrayList<>();
            for (int taken = 0; taken < 7; taken++) {
                Message<byte[]> message = Text.next(consumer);
                texts.add(message.getTopicName().substring(topic.length()) + " " + Text.of(message));
            }
            assertEquals(
                    Set.of("-partition-0 m-3", "-partition-0 m-4", "-partition-1 m-0", "-partition-1 m-1",
                            "-partition-1 m-2", "-partition-1 m-3", "-partition-1 m-4"),
                    Set.copyOf(texts));
        }
    }

    @Test
    void last_message_id__of_an_empty_topic_of_entries_and_of_batches() throws Exception {
        String topic = Broker.topic("last-id");
        try (var consumer = Broker.consumer(topic, "s", Exclusive);
                var single = Broker.producer(topic);
                var batching = PayloadTest.batching(topic).create()) {
            assertEquals(-1, last(consumer).getEntryId());
            MessageId id = Text.send(single, Text.numbered(0, 3)).get(2);
            assertEquals(0, last(consumer).compareTo((MessageIdAdv) id));
            MessageId inBatch = Text.sendBatch(batching, Text.numbered(3, 6)).get(2);
            assertEquals(0, last(consumer).compareTo((MessageIdAdv) inBatch));
            assertEquals(2, last(consumer).getBatchIndex());
        }
    }

    private static MessageIdAdv last(Consumer<byte[]> consumer) throws PulsarClientException {
        List<TopicMessageId> ids = consumer.getLastMessageIds();
        assertEquals(1, ids.size());
        assertEquals(consumer.getTopic(), ids.get(0).getOwnerTopic());
        return (MessageIdAdv) ids.get(0);
    }

    @Test
    void last_message_id__of_each_partition() throws Exception {
        String topic = Broker.topic("last-ids");
        Broker.ADMIN.topics().createPartitionedTopic(topic, 3);
        try (var consumer = Broker.consumer(topic, "s", Exclusive);
                var producer = Broker.producer(topic + "-partition-1")) {
            MessageIdAdv id = (MessageIdAdv) producer.send(Text.bytes("x"));
            var ids = new HashMap<String, MessageIdAdv>();
            consumer.getLastMessageIds().forEach(last -> ids.put(last.getOwnerTopic(), (MessageIdAdv) last));
            assertEquals(3, ids.size());
            assertEquals(id.getEntryId(), ids.get(topic + "-partition-1").getEntryId());
            assertEquals(-1, ids.get(topic + "-partition-0").getEntryId());
        }
    }

    @Test
    void ack__the_client_counts_what_came_and_what_it_acknowledged() throws Exception {
        String topic = Broker.topic("stats");
        try (var client = Broker.builder().statsInterval(1, TimeUnit.SECONDS).build();
                var producer = client.newProducer().topic(topic).create();
                var consumer = client.newConsumer().topic(topic).subscriptionName("s").subscribe()) {
            Text.send(producer, Text.numbered(0, 10));
            Text.takeAcked(consumer, 10);
            Await.until("it counted", () -> consumer.getStats().getTotalMsgsReceived() == 10);
            Await.until("it counted", () -> producer.getStats().getTotalMsgsSent() == 10);
            assertEquals(10, consumer.getStats().getTotalAcksSent());
            assertEquals(0, producer.getStats().getTotalSendFailed());
        }
    }

    @Test
    void unsubscribe__removes_the_subscription() throws Exception {
        String topic = Broker.topic("unsubscribe");
        Consumer<byte[]> consumer = Broker.consumer(topic, "s", Shared);
        assertEquals(List.of("s"), Broker.ADMIN.topics().getSubscriptions(topic));
        consumer.unsubscribe();
        assertEquals(List.of(), Broker.ADMIN.topics().getSubscriptions(topic));
        assertThrows(PulsarClientException.AlreadyClosedException.class, consumer::receive);
    }

    @Test
    void unsubscribe__is_refused_while_others_are_there_unless_forced() throws Exception {
        String topic = Broker.topic("unsubscribe-force");
        Consumer<byte[]> one = Broker.consumer(topic, "s", Shared);
        // The other one would subscribe again at once.
        Consumer<byte[]> two = Broker.consumer(topic, "s", Shared);
        assertThrows(PulsarClientException.class, one::unsubscribe);
        assertEquals(List.of("s"), Broker.ADMIN.topics().getSubscriptions(topic));
        two.close();
        try (var third = Broker.consumer(topic, "t", Failover)) {
            third.unsubscribe(true);
        }
        assertEquals(List.of("s"), Broker.ADMIN.topics().getSubscriptions(topic));
        one.close();
    }

    @Test
    void close__makes_room_at_once() throws Exception {
        String topic = Broker.topic("close");
        for (int round = 0; round < 10; round++) {
            Consumer<byte[]> consumer = Broker.consumer(topic, "s", Exclusive);
            var producer = Broker.producing(topic).producerName("p").create();
            producer.send(Text.bytes("m-" + round));
            assertEquals(List.of("m-" + round), Text.takeAcked(consumer, 1));
            producer.close();
            consumer.close();
        }
        var stats = Broker.ADMIN.topics().getStats(topic);
        assertEquals(0, stats.getPublishers().size());
        assertEquals(0, stats.getSubscriptions().get("s").getConsumers().size());
    }

    @Test
    void delayed_delivery__a_message_comes_when_it_is_due() throws Exception {
        String topic = Broker.topic("delayed");
        try (var producer = Broker.producer(topic); var consumer = Broker.consumer(topic, "s", Shared)) {
            long due = System.currentTimeMillis() + 6_000;
            producer.newMessage().deliverAt(due).value(Text.bytes("late")).send();
            producer.newMessage().deliverAfter(3, TimeUnit.SECONDS).value(Text.bytes("earlier")).send();
            producer.send(Text.bytes("now"));
            assertEquals(List.of("now", "earlier", "late"), Text.takeAcked(consumer, 3));
            // Early by a tick at most.
            assertTrue(System.currentTimeMillis() >= due - 1_000);
        }
    }

    @Test
    void delayed_delivery__survives_the_topics_being_loaded() throws Exception {
        String topic = Broker.topic("delayed-unload");
        try (var producer = Broker.producer(topic); var consumer = Broker.consumer(topic, "s", Shared)) {
            long due = System.currentTimeMillis() + 4_000;
            producer.newMessage().deliverAt(due).value(Text.bytes("late")).send();
            Await.until("it waits", () ->
                    Broker.ADMIN.topics().getStats(topic).getSubscriptions().get("s").getMsgDelayed() == 1);
            Broker.ADMIN.topics().unload(topic);
            assertEquals(List.of("late"), Text.takeAcked(consumer, 1));
            assertTrue(System.currentTimeMillis() >= due - 1_000);
        }
    }

    @Test
    void delayed_delivery__is_for_shared_subscriptions() throws Exception {
        String topic = Broker.topic("delayed-exclusive");
        try (var producer = Broker.producer(topic)) {
            for (SubscriptionType type : List.of(Exclusive, Failover)) {
                try (var consumer = Broker.consumer(topic, type.name(), type)) {
                    // It would never come within the patience of this suite.
                    producer.newMessage().deliverAfter(1, TimeUnit.HOURS).value(Text.bytes("at once")).send();
                    assertEquals("at once", Text.of(Text.next(consumer)));
                }
            }
        }
    }
}
