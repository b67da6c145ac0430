package suite;

import static org.apache.pulsar.client.api.SubscriptionType.Exclusive;
import static org.apache.pulsar.client.api.SubscriptionType.Failover;
import static org.apache.pulsar.client.api.SubscriptionType.Shared;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import org.apache.pulsar.client.api.Consumer;
import org.apache.pulsar.client.api.ConsumerEventListener;
import org.apache.pulsar.client.api.Message;
import org.apache.pulsar.client.api.PulsarClientException;
import org.apache.pulsar.client.api.SubscriptionInitialPosition;
import org.junit.jupiter.api.Test;

/** Who of several consumers gets what: Exclusive, Failover, Shared. Key_Shared has a file of its own. */
class SubscriptionTypesTest {
    @Test
    void subscribe__begins_at_the_latest_or_the_earliest_message() throws Exception {
        String topic = Broker.topic("initial");
        try (var producer = Broker.producer(topic)) {
            producer.send(Text.bytes("old"));
            try (var earliest = Broker.consumer(topic, "earliest", Exclusive);
                    var latest = Broker.consuming(topic, "latest", Exclusive)
                            .subscriptionInitialPosition(SubscriptionInitialPosition.Latest)
                            .subscribe()) {
                producer.send(Text.bytes("new"));
                assertEquals(List.of("old", "new"), Text.takeAcked(earliest, 2));
                assertEquals(List.of("new"), Text.takeAcked(latest, 1));
            }
        }
    }

    @Test
    void subscribe__properties_of_subscription_and_consumer_are_shown() throws Exception {
        String topic = Broker.topic("properties");
        try (var consumer = Broker.consuming(topic, "s", Exclusive)
                .consumerName("c")
                .property("of", "consumer")
                .subscriptionProperties(Map.of("of", "subscription"))
                .subscribe()) {
            var stats = Broker.ADMIN.topics().getStats(topic).getSubscriptions().get("s");
            assertEquals("Exclusive", stats.getType());
            assertTrue(stats.isDurable());
            assertEquals(Map.of("of", "subscription"), stats.getSubscriptionProperties());
            var shown = stats.getConsumers().get(0);
            assertEquals("c", shown.getConsumerName());
            assertEquals(Map.of("of", "consumer"), shown.getMetadata());
            assertTrue(consumer.isConnected());
        }
    }

    @Test
    void subscribe__another_type_is_refused_while_one_is_connected() throws Exception {
        String topic = Broker.topic("type");
        try (var shared = Broker.consumer(topic, "s", Shared)) {
            assertThrows(
                    PulsarClientException.ConsumerBusyException.class, () -> Broker.consumer(topic, "s", Failover));
            assertTrue(shared.isConnected());
        }
        // With nobody connected, the type is a new one's choice.
        Broker.consumer(topic, "s", Failover).close();
    }

    @Test
    void exclusive__one_at_a_time() throws Exception {
        String topic = Broker.topic("exclusive");
        try (var first = Broker.consumer(topic, "s", Exclusive)) {
            assertThrows(
                    PulsarClientException.ConsumerBusyException.class, () -> Broker.consumer(topic, "s", Exclusive));
            try (var other = Broker.consumer(topic, "another", Exclusive); var producer = Broker.producer(topic)) {
                producer.send(Text.bytes("to both"));
                assertEquals(List.of("to both"), Text.takeAcked(first, 1));
                assertEquals(List.of("to both"), Text.takeAcked(other, 1));
            }
        }
        Broker.consumer(topic, "s", Exclusive).close();
    }

    @Test
    void failover__the_next_takes_over_what_was_not_acknowledged() throws Exception {
        String topic = Broker.topic("failover");
        var events = new Events();
        try (var producer = Broker.producer(topic)) {
            Consumer<byte[]> a = failover(topic, "a", 0, events);
            Consumer<byte[]> b = failover(topic, "b", 0, events);
            // Which of the two it is, the topic's name decides.
            Await.until("one of them is active", () -> events.states().equals(Map.of("a", true, "b", false))
                    || events.states().equals(Map.of("a", false, "b", true)));
            Consumer<byte[]> active = events.states().get("a") ? a : b;
            Consumer<byte[]> waiting = active == a ? b : a;
            Text.send(producer, Text.numbered(0, 10));
            assertEquals(Text.numbered(0, 4), Text.takeAcked(active, 4));
            Text.assertSilent(waiting);
            active.close();
            events.await(waiting.getConsumerName(), true);
            assertEquals(Text.numbered(4, 10), Text.takeAcked(waiting, 6));
            waiting.close();
        }
    }

    @Test
    void failover__the_lowest_priority_level_is_active() throws Exception {
        String topic = Broker.topic("failover-priority");
        var events = new Events();
        try (var producer = Broker.producer(topic)) {
            Consumer<byte[]> second = failover(topic, "second", 1, events);
            events.await("second", true);
            Consumer<byte[]> first = failover(topic, "first", 0, events);
            events.await("first", true);
            events.await("second", false);
            producer.send(Text.bytes("for the first"));
            assertEquals(List.of("for the first"), Text.takeAcked(first, 1));
            first.close();
            events.await("second", true);
            producer.send(Text.bytes("for the second"));
            Await.until("the second one has it", () -> {
                Message<byte[]> message = Text.next(second);
                second.acknowledge(message);
                return Text.of(message).equals("for the second");
            });
            second.close();
        }
    }

    private static Consumer<byte[]> failover(String topic, String name, int priority, Events events)
            throws PulsarClientException {
        return Broker.consuming(topic, "s", Failover)
                .consumerName(name)
                .priorityLevel(priority)
                .consumerEventListener(events)
                .subscribe();
    }

    @Test
    void shared__consumers_take_turns() throws Exception {
        String topic = Broker.topic("shared");
        try (var producer = Broker.producer(topic);
                var a = Broker.consumer(topic, "s", Shared);
                var b = Broker.consumer(topic, "s", Shared)) {
            Text.send(producer, Text.numbered(0, 100));
            List<String> ofA = new ArrayList<>();
            List<String> ofB = new ArrayList<>();
            Await.until("all have come", () -> {
                drain(a, ofA);
                drain(b, ofB);
                return ofA.size() + ofB.size() >= 100;
            });
            var all = new TreeSet<>(ofA);
            all.addAll(ofB);
            assertEquals(new TreeSet<>(Text.numbered(0, 100)), all);
            assertEquals(100, ofA.size() + ofB.size());
            assertFalse(ofA.isEmpty());
            assertFalse(ofB.isEmpty());
        }
    }

    private static void drain(Consumer<byte[]> consumer, List<String> into) throws PulsarClientException {
        for (Message<byte[]> message; (message = consumer.receive(0, TimeUnit.MILLISECONDS)) != null; ) {
            into.add(Text.of(message));
            consumer.acknowledge(message);
        }
    }

    @Test
    void shared__what_a_consumer_leaves_goes_to_the_other() throws Exception {
        String topic = Broker.topic("shared-leave");
        try (var producer = Broker.producer(topic); var stays = Broker.consuming(topic, "s", Shared).subscribe()) {
            Consumer<byte[]> leaves = Broker.consumer(topic, "s", Shared);
            Text.send(producer, Text.numbered(0, 20));
            // It has received and not acknowledged at least one.
            Text.next(leaves);
            leaves.close();
            assertEquals(new TreeSet<>(Text.numbered(0, 20)), new TreeSet<>(Text.takeAcked(stays, 20)));
        }
    }

    @Test
    void priority__the_lower_level_gets_what_the_higher_cannot_take() throws Exception {
        String topic = Broker.topic("priority");
        try (var producer = Broker.producer(topic);
                var first = Broker.consuming(topic, "s", Shared).priorityLevel(0).receiverQueueSize(5).subscribe();
                var second = Broker.consuming(topic, "s", Shared).priorityLevel(1).receiverQueueSize(100).subscribe()) {
            Text.send(producer, Text.numbered(0, 20));
            // The first one's permits were for five; the rest overflowed to the second.
            assertEquals("m-5", Text.of(Text.next(second)));
            assertEquals(Text.numbered(0, 5), Text.of(Text.take(first, 5)));
        }
    }

    @Test
    void flow__nothing_is_delivered_beyond_the_permits() throws Exception {
        String topic = Broker.topic("flow");
        try (var producer = Broker.producer(topic);
                var greedy = Broker.consuming(topic, "s", Shared).receiverQueueSize(3).subscribe()) {
            Text.send(producer, Text.numbered(0, 20));
            Await.until(
                    "its queue is full",
                    () -> Broker.ADMIN.topics().getStats(topic).getSubscriptions().get("s").getConsumers().get(0),
                    shown -> shown.getUnackedMessages() == 3 && shown.getAvailablePermits() == 0);
            try (var other = Broker.consumer(topic, "s", Shared)) {
                assertEquals(Text.numbered(3, 20), Text.takeAcked(other, 17));
            }
            assertEquals(Text.numbered(0, 3), Text.takeAcked(greedy, 3));
        }
    }

    @Test
    void flow__a_receiver_queue_of_zero_takes_one_at_a_time() throws Exception {
        String topic = Broker.topic("flow-zero");
        try (var producer = Broker.producer(topic);
                var one = Broker.consuming(topic, "s", Shared).receiverQueueSize(0).subscribe();
                var two = Broker.consuming(topic, "s", Shared).receiverQueueSize(0).subscribe()) {
            Text.send(producer, Text.numbered(0, 6));
            // `two` asks for nothing meanwhile, so nothing waits in it.
            for (String text : Text.numbered(0, 5)) {
                Message<byte[]> message = one.receive();
                assertEquals(text, Text.of(message));
                one.acknowledge(message);
            }
            assertEquals("m-5", Text.of(two.receive()));
        }
    }

    /** Who was told last to be active, or not. */
    private static final class Events implements ConsumerEventListener {
        private static final long serialVersionUID = 1L;
        private final Map<String, Boolean> states = new ConcurrentHashMap<>();

        @Override
        public void becameActive(Consumer<?> consumer, int partition) {
            states.put(consumer.getConsumerName(), true);
        }

        @Override
        public void becameInactive(Consumer<?> consumer, int partition) {
            states.put(consumer.getConsumerName(), false);
        }

        Map<String, Boolean> states() {
            return Map.copyOf(states);
        }

        void await(String name, boolean active) {
            Await.until(name + " is told: " + active, () -> states.get(name), told -> told != null && told == active);
        }
    }
}
