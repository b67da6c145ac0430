package suite;

import static org.apache.pulsar.client.api.SubscriptionType.Exclusive;
import static org.apache.pulsar.client.api.SubscriptionType.Failover;
import static org.apache.pulsar.client.api.SubscriptionType.Key_Shared;
import static org.apache.pulsar.client.api.SubscriptionType.Shared;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.pulsar.client.admin.PulsarAdminException;
import org.apache.pulsar.client.api.Consumer;
import org.apache.pulsar.client.api.HashingScheme;
import org.apache.pulsar.client.api.Message;
import org.apache.pulsar.client.api.MessageId;
import org.apache.pulsar.client.api.MessageIdAdv;
import org.apache.pulsar.client.api.MessageRoutingMode;
import org.apache.pulsar.client.api.PulsarClientException;
import org.apache.pulsar.common.policies.data.AutoTopicCreationOverride;
import org.apache.pulsar.common.policies.data.TopicType;
import org.junit.jupiter.api.Test;

/** What becomes of topics: partitions, creation, unloading, their end; and those that store nothing. */
class TopicTest {
    @Test
    void partitioned_topics__keys_choose_partitions() throws Exception {
        String topic = Broker.topic("partitioned");
        Broker.ADMIN.topics().createPartitionedTopic(topic, 4);
        try (var producer = Broker.producing(topic).hashingScheme(HashingScheme.Murmur3_32Hash).create();
                var consumer = Broker.consumer(topic, "s", Exclusive)) {
            assertEquals(4, Broker.CLIENT.getPartitionsForTopic(topic).get(60, TimeUnit.SECONDS).size());
            for (int number = 0; number < 100; number++) {
                producer.newMessage().key("k" + number % 10).value(Text.bytes("" + number)).send();
            }
            Map<String, Set<String>> partitionsOf = new HashMap<>();
            Map<String, Integer> last = new HashMap<>();
            for (Message<byte[]> message : Text.take(consumer, 100)) {
                partitionsOf.computeIfAbsent(message.getKey(), key -> new HashSet<>()).add(message.getTopicName());
                int number = Integer.parseInt(Text.of(message));
                Integer before = last.put(message.getKey(), number);
                assertTrue(before == null || before < number, "in order by key");
                consumer.acknowledge(message);
            }
            partitionsOf.forEach((key, partitions) -> assertEquals(1, partitions.size()));
            assertTrue(partitionsOf.values().stream().distinct().count() > 1);
        }
    }

    @Test
    void partitioned_topics__without_keys_all_partitions_are_used() throws Exception {
        String topic = Broker.topic("round-robin");
        Broker.ADMIN.topics().createPartitionedTopic(topic, 3);
        try (var producer = Broker.producing(topic).messageRoutingMode(MessageRoutingMode.RoundRobinPartition).create();
                var consumer = Broker.consumer(topic, "s", Exclusive)) {
            Text.send(producer, Text.numbered(0, 30));
            Map<String, Integer> counts = new HashMap<>();
            for (Message<byte[]> message : Text.take(consumer, 30)) {
                counts.merge(message.getTopicName(), 1, Integer::sum);
                int partition = ((MessageIdAdv) message.getMessageId()).getPartitionIndex();
                assertTrue(message.getTopicName().endsWith("-partition-" + partition));
            }
            assertEquals(Set.of(10), Set.copyOf(counts.values()));
            assertEquals(3, counts.size());
        }
    }

    @Test
    void partitioned_topics__failover_spreads_partitions_over_consumers() throws Exception {
        String topic = Broker.topic("failover-partitions");
        Broker.ADMIN.topics().createPartitionedTopic(topic, 4);
        try (var a = Broker.consuming(topic, "s", Failover).consumerName("a").subscribe();
                var b = Broker.consuming(topic, "s", Failover).consumerName("b").subscribe()) {
            Await.until("two partitions each", () -> {
                Map<String, Integer> active = new HashMap<>();
                Broker.ADMIN.topics().getPartitionedStats(topic, true).getPartitions().forEach((name, stats) ->
                        active.merge(stats.getSubscriptions().get("s").getActiveConsumerName(), 1, Integer::sum));
                return active.equals(Map.of("a", 2, "b", 2));
            });
            assertTrue(a.isConnected() && b.isConnected());
        }
    }

    @Test
    void partitioned_topics__clients_follow_when_they_grow() throws Exception {
        String topic = Broker.topic("grow");
        Broker.ADMIN.topics().createPartitionedTopic(topic, 1);
        try (var producer = Broker.producing(topic).autoUpdatePartitionsInterval(1, TimeUnit.SECONDS).create();
                var consumer = Broker.consuming(topic, "s", Shared)
                        .autoUpdatePartitionsInterval(1, TimeUnit.SECONDS)
                        .subscribe()) {
            Broker.ADMIN.topics().updatePartitionedTopic(topic, 3);
            assertEquals(3, Broker.ADMIN.topics().getPartitionedTopicMetadata(topic).partitions);
            Set<String> seen = new HashSet<>();
            Await.until("messages come over all three", () -> {
                producer.send(Text.bytes("x"));
                Message<byte[]> message = Text.next(consumer);
                consumer.acknowledge(message);
                seen.add(message.getTopicName());
                return seen.size() == 3;
            });
            assertThrows(PulsarAdminException.class, () -> Broker.ADMIN.topics().updatePartitionedTopic(topic, 2));
        }
    }

    @Test
    void topic_auto_creation__by_use() throws Exception {
        String topic = Broker.topic("auto");
        Broker.consumer(topic, "s", Exclusive).close();
        assertTrue(Broker.ADMIN.topics().getList("public/default").contains(topic));
        assertEquals(0, Broker.ADMIN.topics().getPartitionedTopicMetadata(topic).partitions);
    }

    @Test
    void topic_auto_creation__as_the_policy_says() throws Exception {
        String namespace = Broker.namespace("auto-policy");
        Broker.ADMIN.namespaces().setAutoTopicCreation(namespace, AutoTopicCreationOverride.builder()
                .allowAutoTopicCreation(true)
                .topicType(TopicType.PARTITIONED.toString())
                .defaultNumPartitions(3)
                .build());
        String topic = "persistent://" + namespace + "/t";
        Broker.producer(topic).close();
        assertEquals(3, Broker.ADMIN.topics().getPartitionedTopicMetadata(topic).partitions);

        Broker.ADMIN.namespaces().setAutoTopicCreation(
                namespace, AutoTopicCreationOverride.builder().allowAutoTopicCreation(false).build());
        String forbidden = "persistent://" + namespace + "/forbidden";
        assertThrows(PulsarClientException.class, () -> Broker.producer(forbidden));
        assertThrows(PulsarClientException.class, () -> Broker.consumer(forbidden, "s", Exclusive));
        Broker.ADMIN.topics().createNonPartitionedTopic(forbidden);
        Broker.producer(forbidden).close();
    }

    @Test
    void non_persistent__messages_go_to_whoever_is_there() throws Exception {
        String topic = Broker.topic("np").replace("persistent://", "non-persistent://");
        try (var producer = Broker.producer(topic)) {
            var counter = new AtomicInteger();
            producer.send(Text.bytes("nobody hears it"));
            try (var exclusive = Broker.consumer(topic, "exclusive", Exclusive);
                    var a = Broker.consumer(topic, "shared", Shared);
                    var b = Broker.consumer(topic, "shared", Shared);
                    var keyed = Broker.consumer(topic, "keyed", Key_Shared)) {
                // What is sent before a consumer's permits have arrived is not for it.
                for (Consumer<byte[]> consumer : List.of(exclusive, a, b, keyed)) {
                    Await.until("a first message came to " + consumer.getSubscription(), () -> {
                        producer.newMessage().key("k" + counter.incrementAndGet()).value(new byte[0]).send();
                        return consumer.receive(100, TimeUnit.MILLISECONDS) != null;
                    });
                }
                for (String text : Text.numbered(0, 20)) {
                    producer.newMessage().key(text).value(Text.bytes(text)).send();
                }
                assertEquals(Text.numbered(0, 20), heard(20, exclusive));
                assertEquals(Text.numbered(0, 20), heard(20, keyed));
                assertEquals(new TreeSet<>(Text.numbered(0, 20)), new TreeSet<>(heard(20, a, b)));
            }
        }
    }

    /** The next texts of several consumers together, without the empty ones. */
    @SafeVarargs
    private static List<String> heard(int count, Consumer<byte[]>... consumers) {
        List<String> texts = new ArrayList<>();
        Await.until(count + " messages came", () -> {
            for (Consumer<byte[]> consumer : consumers) {
                for (Message<byte[]> message; (message = consumer.receive(0, TimeUnit.MILLISECONDS)) != null; ) {
                    if (message.size() > 0) {
                        texts.add(Text.of(message));
                    }
                }
            }
            return texts.size() >= count;
        });
        return texts;
    }

    @Test
    void non_persistent__partitioned() throws Exception {
        String topic = Broker.topic("np-partitioned").replace("persistent://", "non-persistent://");
        Broker.ADMIN.topics().createPartitionedTopic(topic, 2);
        try (var consumer = Broker.consumer(topic, "s", Shared); var producer = Broker.producer(topic)) {
            Set<String> partitions = new HashSet<>();
            Await.until("messages came over both partitions", () -> {
                producer.send(Text.bytes("hello"));
                Message<byte[]> message = consumer.receive(100, TimeUnit.MILLISECONDS);
                if (message != null) {
                    partitions.add(message.getTopicName());
                }
                return partitions.size() == 2;
            });
        }
    }

    @Test
    void terminate__ends_a_topic_after_its_last_message() throws Exception {
        String topic = Broker.topic("terminate");
        try (var client = Broker.builder().build();
                var consumer = Broker.consuming(topic, "s", Exclusive).subscribe();
                var producer = client.newProducer().topic(topic).enableBatching(false).create()) {
            MessageId last = Text.send(producer, Text.numbered(0, 3)).get(2);
            var terminated = Broker.ADMIN.topics().terminateTopicAsync(topic).get(60, TimeUnit.SECONDS);
            assertEquals(0, ((MessageIdAdv) last).compareTo((MessageIdAdv) terminated));
            assertThrows(
                    PulsarClientException.TopicTerminatedException.class, () -> producer.send(Text.bytes("too late")));
            assertThrows(PulsarClientException.TopicTerminatedException.class, () -> Broker.producer(topic));
            assertFalse(consumer.hasReachedEndOfTopic());
            assertEquals(Text.numbered(0, 3), Text.takeAcked(consumer, 3));
            Await.until("it knows the end", consumer::hasReachedEndOfTopic);
        }
        try (var late = Broker.consumer(topic, "late", Exclusive)) {
            assertEquals(Text.numbered(0, 3), Text.takeAcked(late, 3));
            Await.until("it knows the end", late::hasReachedEndOfTopic);
        }
    }

    @Test
    void unload__clients_come_back_and_lose_nothing() throws Exception {
        String topic = Broker.topic("unload");
        int count = 3_000;
        try (var producer = Broker.producing(topic).maxPendingMessages(500).blockIfQueueFull(true).create();
                var exclusive = Broker.consumer(topic, "exclusive", Exclusive);
                var shared = Broker.consumer(topic, "shared", Shared);
                var keyed = Broker.consumer(topic, "keyed", Key_Shared)) {
            Map<Consumer<byte[]>, Set<String>> seen = new HashMap<>();
            List.of(exclusive, shared, keyed).forEach(consumer -> seen.put(consumer, new HashSet<>()));
            for (int number = 0; number < count; number++) {
                producer.newMessage().key("k" + number % 7).value(Text.bytes("m-" + number)).sendAsync();
                if (number % 1_000 == 500) {
                    Broker.ADMIN.topics().unload(topic);
                }
            }
            producer.flush();
            for (Consumer<byte[]> consumer : seen.keySet()) {
                Await.until("all came to " + consumer.getSubscription(), () -> {
                    for (Message<byte[]> message;
                            (message = consumer.receive(100, TimeUnit.MILLISECONDS)) != null; ) {
                        seen.get(consumer).add(Text.of(message));
                        consumer.acknowledge(message);
                    }
                    return seen.get(consumer).size() == count;
                });
            }
        }
    }

    @Test
    void delete_topic__with_its_data() throws Exception {
        String topic = Broker.topic("delete");
        try (var producer = Broker.producer(topic)) {
            producer.send(Text.bytes("gone"));
            assertThrows(
                    PulsarAdminException.PreconditionFailedException.class, () -> Broker.ADMIN.topics().delete(topic));
        }
        Broker.ADMIN.topics().delete(topic);
        assertFalse(Broker.ADMIN.topics().getList("public/default").contains(topic));
        assertThrows(PulsarAdminException.NotFoundException.class, () -> Broker.ADMIN.topics().getStats(topic));
        // Its namesake begins empty.
        try (var consumer = Broker.consumer(topic, "s", Exclusive)) {
            Text.assertSilent(consumer);
        }
    }
}
