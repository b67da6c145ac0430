package suite;

import static org.apache.pulsar.client.api.SubscriptionType.Key_Shared;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.pulsar.client.api.BatcherBuilder;
import org.apache.pulsar.client.api.Consumer;
import org.apache.pulsar.client.api.KeySharedPolicy;
import org.apache.pulsar.client.api.Message;
import org.apache.pulsar.client.api.PulsarClientException;
import org.apache.pulsar.client.api.Range;
import org.apache.pulsar.common.util.Murmur3_32Hash;
import org.junit.jupiter.api.Test;

/** Key_Shared: a key stays with one consumer and in order (PIP-379 for what happens when consumers join). */
class KeySharedTest {
    private static final int KEYS = 40;

    @Test
    void key_shared__a_key_stays_with_one_consumer() throws Exception {
        String topic = Broker.topic("key-shared");
        var seen = new Seen();
        try (var producer = Broker.producer(topic);
                var a = seen.consumer(topic, "a");
                var b = seen.consumer(topic, "b");
                var c = seen.consumer(topic, "c")) {
            for (int number = 0; number < 400; number++) {
                producer.newMessage().key("k" + number % KEYS).value(Text.bytes("" + number)).sendAsync();
            }
            producer.flush();
            Await.until("all came", seen.count::get, count -> count >= 400);
            seen.assertOrder(400);
            Map<String, Set<String>> consumersOf = new HashMap<>();
            seen.log.forEach((key, entries) -> entries.forEach(
                    entry -> consumersOf.computeIfAbsent(key, any -> new HashSet<>()).add(entry.consumer)));
            consumersOf.forEach((key, consumers) -> assertEquals(1, consumers.size(), key + " went to " + consumers));
            Set<String> busy = new HashSet<>();
            consumersOf.values().forEach(busy::addAll);
            assertEquals(Set.of("a", "b", "c"), busy);
        }
    }

    @Test
    void key_shared__order_survives_consumers_that_come_and_go() throws Exception {
        String topic = Broker.topic("key-shared-moves");
        var seen = new Seen();
        int rounds = 10;
        int perRound = 200;
        try (var producer = Broker.producer(topic)) {
            List<Consumer<byte[]>> consumers = new ArrayList<>(List.of(seen.consumer(topic, "c0")));
            for (int round = 0; round < rounds; round++) {
                for (int number = 0; number < perRound; number++) {
                    int value = round * perRound + number;
                    producer.newMessage().key("k" + value % KEYS).value(Text.bytes("" + value)).sendAsync();
                }
                if (round % 3 == 2) {
                    consumers.remove(0).close();
                } else {
                    consumers.add(seen.consumer(topic, "c" + (round + 1)));
                }
                // Part of the round is handled before the next consumer moves, part is not.
                int half = round * perRound + perRound / 2;
                producer.flush();
                Await.until("half of the round came", seen.count::get, count -> count >= half);
            }
            Await.until("all came", () -> seen.distinct() == rounds * perRound);
            seen.assertOrder(rounds * perRound);
            for (Consumer<byte[]> consumer : consumers) {
                consumer.close();
            }
        }
    }

    @Test
    void key_shared__a_joining_consumer_waits_for_what_is_held() throws Exception {
        String topic = Broker.topic("key-shared-drain");
        try (var producer = Broker.producer(topic)) {
            Consumer<byte[]> holder = Broker.consuming(topic, "s", Key_Shared).consumerName("holder").subscribe();
            Map<String, Message<byte[]>> held = new HashMap<>();
            for (int number = 0; number < KEYS; number++) {
                producer.newMessage().key("k" + number).value(Text.bytes("first")).send();
                Message<byte[]> message = Text.next(holder);
                held.put(message.getKey(), message);
            }
            try (var joins = Broker.consuming(topic, "s", Key_Shared).consumerName("joins").subscribe()) {
                for (int number = 0; number < KEYS; number++) {
                    producer.newMessage().key("k" + number).value(Text.bytes("second")).send();
                }
                // Nothing of a key that the holder has not acknowledged, whoever has its range now.
                Text.assertSilent(joins);
                for (Message<byte[]> message : held.values()) {
                    holder.acknowledge(message);
                }
                assertEquals("second", Text.of(Text.next(joins)));
                assertEquals("second", Text.of(Text.next(holder)));
            }
            holder.close();
        }
    }

    @Test
    void key_shared__batches_by_key_are_routed_by_it() throws Exception {
        String topic = Broker.topic("key-shared-batch");
        var seen = new Seen();
        try (var producer = PayloadTest.batching(topic).batcherBuilder(BatcherBuilder.KEY_BASED).create();
                var a = seen.consumer(topic, "a");
                var b = seen.consumer(topic, "b")) {
            for (int number = 0; number < 400; number++) {
                producer.newMessage().key("k" + number % KEYS).value(Text.bytes("" + number)).sendAsync();
                if (number % 100 == 99) {
                    producer.flush();
                }
            }
            Await.until("all came", seen.count::get, count -> count >= 400);
            seen.assertOrder(400);
            seen.log.forEach((key, entries) ->
                    assertEquals(1, entries.stream().map(Entry::consumer).distinct().count(), key));
        }
    }

    @Test
    void key_shared__the_ordering_key_comes_before_the_key() throws Exception {
        String topic = Broker.topic("ordering-key");
        try (var producer = Broker.producer(topic);
                var a = Broker.consumer(topic, "s", Key_Shared);
                var b = Broker.consumer(topic, "s", Key_Shared)) {
            for (int number = 0; number < 50; number++) {
                producer.newMessage().key("k" + number).orderingKey(Text.bytes("same")).value(Text.bytes("x")).send();
            }
            Await.until("one has all", () -> {
                var shown = Broker.ADMIN.topics().getStats(topic).getSubscriptions().get("s").getConsumers();
                return shown.stream().mapToInt(consumer -> consumer.getUnackedMessages()).sum() == 50
                        && shown.stream().anyMatch(consumer -> consumer.getUnackedMessages() == 50);
            });
        }
    }

    @Test
    void key_shared_sticky__a_consumer_gets_its_ranges() throws Exception {
        String topic = Broker.topic("sticky");
        try (var producer = Broker.producer(topic);
                var low = sticky(topic, Range.of(0, 32767));
                var high = sticky(topic, Range.of(32768, 65535))) {
            List<String> expectedLow = new ArrayList<>();
            List<String> expectedHigh = new ArrayList<>();
            for (int number = 0; number < 100; number++) {
                String key = "key-" + number;
                (slot(key) < 32768 ? expectedLow : expectedHigh).add(key);
                producer.newMessage().key(key).value(Text.bytes(key)).send();
            }
            assertNotEquals(List.of(), expectedLow);
            assertNotEquals(List.of(), expectedHigh);
            assertEquals(expectedLow, Text.takeAcked(low, expectedLow.size()));
            assertEquals(expectedHigh, Text.takeAcked(high, expectedHigh.size()));
        }
    }

    @Test
    void key_shared_sticky__what_nobody_wants_waits() throws Exception {
        String topic = Broker.topic("sticky-gap");
        String lowKey = keyWith(true);
        String highKey = keyWith(false);
        try (var producer = Broker.producer(topic); var low = sticky(topic, Range.of(0, 32767))) {
            producer.newMessage().key(highKey).value(Text.bytes("high")).send();
            producer.newMessage().key(lowKey).value(Text.bytes("low")).send();
            assertEquals("low", Text.takeAcked(low, 1).get(0));
            Text.assertSilent(low);
            try (var high = sticky(topic, Range.of(32768, 65535))) {
                assertEquals("high", Text.takeAcked(high, 1).get(0));
            }
        }
    }

    @Test
    void key_shared_sticky__ranges_that_overlap_are_refused() throws Exception {
        String topic = Broker.topic("sticky-overlap");
        try (var low = sticky(topic, Range.of(0, 32767))) {
            assertThrows(PulsarClientException.class, () -> sticky(topic, Range.of(32000, 65535)));
            assertTrue(low.isConnected());
        }
    }

    @Test
    void key_shared__another_policy_is_refused() throws Exception {
        String topic = Broker.topic("sticky-policy");
        try (var low = sticky(topic, Range.of(0, 32767))) {
            assertThrows(PulsarClientException.class, () -> Broker.consumer(topic, "s", Key_Shared));
            assertTrue(low.isConnected());
        }
    }

    private static Consumer<byte[]> sticky(String topic, Range range) throws PulsarClientException {
        return Broker.consuming(topic, "s", Key_Shared)
                .keySharedPolicy(KeySharedPolicy.stickyHashRange().ranges(range))
                .subscribe();
    }

    private static int slot(String key) {
        return Murmur3_32Hash.getInstance().makeHash(Text.bytes(key)) % 65536;
    }

    private static String keyWith(boolean low) {
        for (int number = 0; ; number++) {
            if ((slot("key-" + number) < 32768) == low) {
                return "key-" + number;
            }
        }
    }

    private record Entry(String consumer, int number) {}

    /** What all consumers of a subscription were given, key by key, acknowledged as it comes. */
    private static final class Seen {
        final Map<String, List<Entry>> log = new ConcurrentHashMap<>();
        final AtomicInteger count = new AtomicInteger();

        Consumer<byte[]> consumer(String topic, String name) throws PulsarClientException {
            return Broker.consuming(topic, "s", Key_Shared)
                    .consumerName(name)
                    .receiverQueueSize(20)
                    .messageListener((consumer, message) -> {
                        var entry = new Entry(name, Integer.parseInt(Text.of(message)));
                        log.compute(message.getKey(), (key, entries) -> {
                            List<Entry> longer = entries == null ? new ArrayList<>() : entries;
                            longer.add(entry);
                            return longer;
                        });
                        count.incrementAndGet();
                        consumer.acknowledgeAsync(message);
                    })
                    .subscribe();
        }

        int distinct() {
            Set<Integer> numbers = new HashSet<>();
            for (String key : log.keySet()) {
                log.computeIfPresent(key, (same, entries) -> {
                    entries.forEach(entry -> numbers.add(entry.number));
                    return entries;
                });
            }
            return numbers.size();
        }

        /** Each key in order. A message may come again after its consumer has left, but nothing is jumped over. */
        void assertOrder(int total) {
            log.forEach((key, entries) -> {
                int expected = Integer.parseInt(key.substring(1));
                for (Entry entry : entries) {
                    assertTrue(entry.number <= expected, key + ": " + entry + " came before " + expected);
                    expected = Math.max(expected, entry.number + KEYS);
                }
                assertTrue(expected >= total, key + " ended before " + expected);
            });
        }
    }
}
