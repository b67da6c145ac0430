package suite;

import static org.apache.pulsar.client.api.ProducerAccessMode.Exclusive;
import static org.apache.pulsar.client.api.ProducerAccessMode.ExclusiveWithFencing;
import static org.apache.pulsar.client.api.ProducerAccessMode.WaitForExclusive;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.apache.pulsar.client.api.Producer;
import org.apache.pulsar.client.api.ProducerAccessMode;
import org.apache.pulsar.client.api.PulsarClientException;
import org.apache.pulsar.client.api.SubscriptionType;
import org.junit.jupiter.api.Test;

/** Producers that want a topic for themselves (PIP-68). */
class AccessModesTest {
    private static Producer<byte[]> create(String topic, ProducerAccessMode mode) throws PulsarClientException {
        return Broker.producing(topic).accessMode(mode).create();
    }

    private static void awaitWaiting(String topic, int count) {
        Await.until(
                count + " producers wait",
                () -> Broker.ADMIN.topics().getStats(topic).getWaitingPublishers(),
                waiting -> waiting == count);
    }

    @Test
    void access_modes__exclusive_keeps_all_others_out() throws Exception {
        String topic = Broker.topic("exclusive");
        Producer<byte[]> owner = create(topic, Exclusive);
        assertThrows(PulsarClientException.ProducerFencedException.class, () -> create(topic, Exclusive));
        assertThrows(PulsarClientException.ProducerBusyException.class, () -> Broker.producer(topic));
        owner.send(Text.bytes("still mine"));
        owner.close();
        create(topic, Exclusive).close();
    }

    @Test
    void access_modes__exclusive_is_refused_while_a_shared_one_is_there() throws Exception {
        String topic = Broker.topic("exclusive-late");
        try (var shared = Broker.producer(topic)) {
            assertThrows(PulsarClientException.ProducerFencedException.class, () -> create(topic, Exclusive));
            shared.send(Text.bytes("not disturbed"));
        }
    }

    @Test
    void access_modes__wait_for_exclusive_gets_its_turn_in_order() throws Exception {
        String topic = Broker.topic("wait");
        Producer<byte[]> first = create(topic, WaitForExclusive);
        CompletableFuture<Producer<byte[]>> second =
                Broker.producing(topic).accessMode(WaitForExclusive).createAsync();
        // The second one stands in line before the third is sent: an order that the broker shows nowhere else.
        awaitWaiting(topic, 1);
        CompletableFuture<Producer<byte[]>> third =
                Broker.producing(topic).accessMode(WaitForExclusive).createAsync();
        awaitWaiting(topic, 2);
        assertFalse(second.isDone());
        assertFalse(third.isDone());
        first.send(Text.bytes("first"));
        first.close();
        Producer<byte[]> owner = second.get(60, TimeUnit.SECONDS);
        assertFalse(third.isDone());
        owner.send(Text.bytes("second"));
        owner.close();
        Producer<byte[]> last = third.get(60, TimeUnit.SECONDS);
        last.send(Text.bytes("third"));
        last.close();
        try (var consumer = Broker.consumer(topic, "s", SubscriptionType.Exclusive)) {
            assertEquals(List.of("first", "second", "third"), Text.takeAcked(consumer, 3));
        }
    }

    @Test
    void access_modes__fencing_ends_the_former_owner_for_good() throws Exception {
        String topic = Broker.topic("fencing");
        // A client of its own: what a fenced producer still sends may cost it its connection.
        try (var client = Broker.builder().build();
                var former = client.newProducer().topic(topic).accessMode(Exclusive).create();
                var owner = create(topic, ExclusiveWithFencing)) {
            assertThrows(
                    PulsarClientException.ProducerFencedException.class,
                    () -> {
                        // The former owner may reconnect meanwhile; with its old epoch it is turned away again.
                        for (int attempt = 0; attempt < 100; attempt++) {
                            former.send(Text.bytes("too late"));
                        }
                    });
            owner.send(Text.bytes("mine"));
            try (var consumer = Broker.consumer(topic, "s", SubscriptionType.Exclusive)) {
                assertEquals("mine", Text.takeAcked(consumer, 1).get(0));
            }
        }
    }

    @Test
    void access_modes__fencing_ends_shared_producers_and_waiting_ones() throws Exception {
        String topic = Broker.topic("fencing-waiting");
        try (var client = Broker.builder().build()) {
            client.newProducer().topic(topic).create();
            var waiting = client.newProducer().topic(topic).accessMode(WaitForExclusive).createAsync();
            awaitWaiting(topic, 1);
            try (var owner = create(topic, ExclusiveWithFencing)) {
                var refused = assertThrows(ExecutionException.class, () -> waiting.get(60, TimeUnit.SECONDS));
                assertInstanceOf(PulsarClientException.ProducerFencedException.class, refused.getCause());
                owner.send(Text.bytes("mine"));
            }
        }
    }

    @Test
    void access_modes__the_owner_stays_the_owner_over_an_unload() throws Exception {
        String topic = Broker.topic("owner-unload");
        try (var owner = create(topic, Exclusive)) {
            owner.send(Text.bytes("before"));
            Broker.ADMIN.topics().unload(topic);
            owner.send(Text.bytes("after"));
            assertThrows(PulsarClientException.ProducerFencedException.class, () -> create(topic, Exclusive));
        }
    }
}
