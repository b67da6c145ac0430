package suite;

import static org.apache.pulsar.client.api.SubscriptionType.Exclusive;
import static org.apache.pulsar.client.api.SubscriptionType.Shared;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;
import org.apache.pulsar.client.api.Consumer;
import org.apache.pulsar.client.api.DeadLetterPolicy;
import org.apache.pulsar.client.api.Message;
import org.apache.pulsar.client.api.RedeliveryBackoff;
import org.apache.pulsar.client.impl.MultiplierRedeliveryBackoff;
import org.junit.jupiter.api.Test;

/** Messages that come again: given back, timed out, put off, and given up. */
class RedeliveryTest {
    @Test
    void negative_ack__brings_the_message_back() throws Exception {
        String topic = Broker.topic("nack");
        try (var producer = Broker.producer(topic);
                var consumer = Broker.consuming(topic, "s", Shared)
                        .negativeAckRedeliveryDelay(100, TimeUnit.MILLISECONDS)
                        .subscribe()) {
            Text.send(producer, Text.numbered(0, 5));
            List<Message<byte[]>> messages = Text.take(consumer, 5);
            for (int index : new int[] {0, 2, 4}) {
                consumer.acknowledge(messages.get(index));
            }
            consumer.negativeAcknowledge(messages.get(1));
            consumer.negativeAcknowledge(messages.get(3));
            assertEquals(
                    new TreeSet<>(List.of("m-1", "m-3")), new TreeSet<>(Text.takeAcked(consumer, 2)));
            Text.assertSilent(consumer);
        }
    }

    @Test
    void redelivery_count__grows_with_each_try() throws Exception {
        String topic = Broker.topic("nack-count");
        RedeliveryBackoff backoff = MultiplierRedeliveryBackoff.builder()
                .minDelayMs(10)
                .maxDelayMs(100)
                .multiplier(2)
                .build();
        try (var producer = Broker.producer(topic);
                var consumer = Broker.consuming(topic, "s", Shared).negativeAckRedeliveryBackoff(backoff).subscribe()) {
            producer.send(Text.bytes("again"));
            for (int count = 0; count < 5; count++) {
                Message<byte[]> message = Text.next(consumer);
                assertEquals(count, message.getRedeliveryCount());
                consumer.negativeAcknowledge(message);
            }
            assertEquals(5, Text.next(consumer).getRedeliveryCount());
        }
    }

    @Test
    void redelivery_count__is_not_of_one_consumer() throws Exception {
        String topic = Broker.topic("nack-other");
        try (var producer = Broker.producer(topic);
                var stays = Broker.consuming(topic, "s", Shared).receiverQueueSize(0).subscribe()) {
            Consumer<byte[]> leaves = Broker.consuming(topic, "s", Shared)
                    .negativeAckRedeliveryDelay(10, TimeUnit.MILLISECONDS)
                    .receiverQueueSize(1)
                    .subscribe();
            producer.send(Text.bytes("again"));
            leaves.negativeAcknowledge(Text.next(leaves));
            Message<byte[]> second = Text.next(leaves);
            assertEquals(1, second.getRedeliveryCount());
            leaves.negativeAcknowledge(second);
            assertEquals(2, Text.next(leaves).getRedeliveryCount());
            var received = stays.receiveAsync();
            leaves.close();
            Message<byte[]> third = received.get(60, TimeUnit.SECONDS);
            assertEquals("again", Text.of(third));
            stays.acknowledge(third);
        }
    }

    @Test
    void negative_ack__redeliver_all_that_is_unacknowledged() throws Exception {
        String topic = Broker.topic("redeliver-all");
        try (var producer = Broker.producer(topic); var consumer = Broker.consumer(topic, "s", Exclusive)) {
            Text.send(producer, Text.numbered(0, 10));
            consumer.acknowledgeCumulative(Text.take(consumer, 10).get(3));
            consumer.redeliverUnacknowledgedMessages();
            assertEquals(Text.numbered(4, 10), Text.takeAcked(consumer, 6));
        }
    }

    @Test
    void ack_timeout__brings_the_message_back() throws Exception {
        String topic = Broker.topic("ack-timeout");
        try (var producer = Broker.producer(topic);
                var consumer = Broker.consuming(topic, "s", Shared).ackTimeout(1, TimeUnit.SECONDS).subscribe()) {
            producer.send(Text.bytes("slow"));
            assertEquals(0, Text.next(consumer).getRedeliveryCount());
            Message<byte[]> again = Text.next(consumer);
            assertEquals("slow", Text.of(again));
            assertTrue(again.getRedeliveryCount() >= 1);
            consumer.acknowledge(again);
        }
    }

    @Test
    void dead_letter__after_too_many_tries() throws Exception {
        String topic = Broker.topic("dead");
        try (var producer = Broker.producer(topic);
                var consumer = Broker.consuming(topic, "s", Shared)
                        .negativeAckRedeliveryDelay(10, TimeUnit.MILLISECONDS)
                        .deadLetterPolicy(DeadLetterPolicy.builder()
                                .maxRedeliverCount(2)
                                .deadLetterTopic(topic + "-dead")
                                .initialSubscriptionName("operators")
                                .build())
                        .subscribe()) {
            producer.newMessage().key("k").property("p", "v").value(Text.bytes("poison")).send();
            producer.send(Text.bytes("good"));
            int poison = 0;
            for (int good = 0; good < 1 || poison < 3; ) {
                Message<byte[]> message = Text.next(consumer);
                if (Text.of(message).equals("good")) {
                    consumer.acknowledge(message);
                    good++;
                } else {
                    consumer.negativeAcknowledge(message);
                    poison++;
                }
            }
            // The subscription was there before the first dead letter, so it has it.
            try (var operators = Broker.CLIENT.newConsumer()
                    .topic(topic + "-dead")
                    .subscriptionName("operators")
                    .subscribe()) {
                Message<byte[]> dead = Text.next(operators);
                assertEquals("poison", Text.of(dead));
                assertEquals("k", dead.getKey());
                assertEquals("v", dead.getProperty("p"));
                assertEquals(topic, dead.getProperty("REAL_TOPIC"));
            }
            Await.until("it is acknowledged in its topic", () ->
                    Broker.ADMIN.topics().getStats(topic).getSubscriptions().get("s").getMsgBacklog() == 0);
        }
    }

    @Test
    void retry_letter__put_off_and_then_given_up() throws Exception {
        String topic = Broker.topic("retry");
        try (var producer = Broker.producer(topic);
                var dead = Broker.consumer(topic + "-dead", "operators", Exclusive);
                var consumer = Broker.consuming(topic, "s", Shared)
                        .enableRetry(true)
                        .deadLetterPolicy(DeadLetterPolicy.builder()
                                .maxRedeliverCount(2)
                                .retryLetterTopic(topic + "-retry")
                                .deadLetterTopic(topic + "-dead")
                                .build())
                        .subscribe()) {
            producer.newMessage().key("k").value(Text.bytes("later")).send();
            for (int times = 0; times < 3; times++) {
                Message<byte[]> message = Text.next(consumer);
                assertEquals("later", Text.of(message));
                assertEquals("k", message.getKey());
                String times_ = message.getProperty("RECONSUMETIMES");
                assertEquals(times == 0 ? null : "" + times, times_);
                consumer.reconsumeLater(message, 100, TimeUnit.MILLISECONDS);
            }
            assertEquals("later", Text.of(Text.next(dead)));
        }
    }
}
