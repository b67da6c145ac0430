package suite;

import static org.apache.pulsar.client.api.SubscriptionType.Exclusive;
import static org.apache.pulsar.client.api.SubscriptionType.Shared;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.List;
import java.util.concurrent.TimeUnit;
import org.apache.pulsar.client.api.Consumer;
import org.apache.pulsar.client.api.ConsumerBuilder;
import org.apache.pulsar.client.api.Message;
import org.apache.pulsar.client.api.PulsarClientException;
import org.apache.pulsar.client.api.SubscriptionType;
import org.junit.jupiter.api.Test;

/** Acknowledgements, single and cumulative, of entries and within batches, with and without receipts. */
class AckTest {
    /** Acks are sent at once and answered by the broker, so that what follows builds on them. */
    private static ConsumerBuilder<byte[]> receipts(String topic, SubscriptionType type) {
        return Broker.consuming(topic, "s", type)
                .isAckReceiptEnabled(true)
                .acknowledgmentGroupTime(0, TimeUnit.SECONDS);
    }

    /** So, and messages of batches singly. */
    private static ConsumerBuilder<byte[]> indexed(String topic, SubscriptionType type) {
        return receipts(topic, type).enableBatchIndexAcknowledgment(true);
    }

    /** Those of these messages. */
    private static void acknowledge(Consumer<byte[]> consumer, List<Message<byte[]>> messages, int... indexes)
            throws PulsarClientException {
        for (int index : indexes) {
            consumer.acknowledge(messages.get(index));
        }
    }

    private static long backlog(String topic) throws Exception {
        return Broker.ADMIN.topics().getStats(topic).getSubscriptions().get("s").getMsgBacklog();
    }

    @Test
    void ack__what_is_acknowledged_does_not_come_again() throws Exception {
        String topic = Broker.topic("ack");
        try (var producer = Broker.producer(topic)) {
            Text.send(producer, Text.numbered(0, 10));
            try (var consumer = Broker.consumer(topic, "s", Shared)) {
                for (Message<byte[]> message : Text.take(consumer, 10)) {
                    if (Integer.parseInt(Text.of(message).substring(2)) % 2 == 0) {
                        consumer.acknowledge(message);
                    }
                }
            }
            try (var consumer = Broker.consumer(topic, "s", Shared)) {
                assertEquals(List.of("m-1", "m-3", "m-5", "m-7", "m-9"), Text.takeAcked(consumer, 5));
                Text.assertSilent(consumer);
            }
        }
    }

    @Test
    void ack__many_in_one_command() throws Exception {
        String topic = Broker.topic("ack-list");
        try (var producer = Broker.producer(topic)) {
            Text.send(producer, Text.numbered(0, 10));
            try (var consumer = Broker.consumer(topic, "s", Shared)) {
                var ids = Text.take(consumer, 10).stream().map(Message::getMessageId).toList();
                consumer.acknowledge(List.of(ids.get(0), ids.get(3), ids.get(9)));
                Await.until("three are gone", () -> backlog(topic), left -> left == 7);
                consumer.acknowledge(ids);
            }
            Await.until("all are gone", () -> backlog(topic), left -> left == 0);
        }
    }

    @Test
    void ack_cumulative__all_up_to_one() throws Exception {
        String topic = Broker.topic("ack-cumulative");
        try (var producer = Broker.producer(topic)) {
            Text.send(producer, Text.numbered(0, 10));
            try (var consumer = Broker.consumer(topic, "s", Exclusive)) {
                consumer.acknowledgeCumulative(Text.take(consumer, 10).get(6));
            }
            try (var consumer = Broker.consumer(topic, "s", Exclusive)) {
                assertEquals(Text.numbered(7, 10), Text.takeAcked(consumer, 3));
            }
        }
    }

    @Test
    void ack_receipt__the_ack_is_done_when_it_is_answered() throws Exception {
        String topic = Broker.topic("ack-receipt");
        try (var producer = Broker.producer(topic); var consumer = receipts(topic, Shared).subscribe()) {
            Text.send(producer, Text.numbered(0, 5));
            List<Message<byte[]>> messages = Text.take(consumer, 5);
            consumer.acknowledge(messages.get(0));
            assertEquals(4, backlog(topic));
            consumer.acknowledge(List.of(messages.get(1).getMessageId(), messages.get(2).getMessageId()));
            assertEquals(2, backlog(topic));
        }
        try (var consumer = receipts(topic, Exclusive).subscribe()) {
            consumer.acknowledgeCumulative(Text.take(consumer, 2).get(1));
            assertEquals(0, backlog(topic));
        }
    }

    @Test
    void ack_receipt__grouped_acks_are_answered_too() throws Exception {
        String topic = Broker.topic("ack-receipt-group");
        try (var producer = Broker.producer(topic);
                var consumer = Broker.consuming(topic, "s", Shared)
                        .isAckReceiptEnabled(true)
                        .acknowledgmentGroupTime(50, TimeUnit.MILLISECONDS)
                        .subscribe()) {
            Text.send(producer, Text.numbered(0, 50));
            var acks = Text.take(consumer, 50).stream().map(consumer::acknowledgeAsync).toList();
            for (var ack : acks) {
                ack.get(60, TimeUnit.SECONDS);
            }
            assertEquals(0, backlog(topic));
        }
    }

    @Test
    void ack__without_batch_index_an_entry_is_acknowledged_with_its_last_message() throws Exception {
        String topic = Broker.topic("ack-batch");
        try (var producer = PayloadTest.batching(topic).create()) {
            Text.sendBatch(producer, Text.numbered(0, 5));
            try (var consumer = receipts(topic, Shared).subscribe()) {
                List<Message<byte[]>> messages = Text.take(consumer, 5);
                acknowledge(consumer, messages, 0, 2, 4);
            }
            try (var consumer = receipts(topic, Shared).subscribe()) {
                assertEquals(Text.numbered(0, 5), Text.takeAcked(consumer, 5));
            }
            assertEquals(0, backlog(topic));
        }
    }

    @Test
    void ack_batch_index__single_messages_of_a_batch_do_not_come_again() throws Exception {
        String topic = Broker.topic("ack-index");
        try (var producer = PayloadTest.batching(topic).create()) {
            Text.sendBatch(producer, Text.numbered(0, 10));
            try (var consumer = indexed(topic, Shared).subscribe()) {
                List<Message<byte[]>> messages = Text.take(consumer, 10);
                acknowledge(consumer, messages, 0, 3, 4, 9);
            }
            // Two consumers may each have acknowledged a part.
            try (var consumer = indexed(topic, Shared).subscribe()) {
                List<Message<byte[]>> messages = Text.take(consumer, 6);
                assertEquals(List.of("m-1", "m-2", "m-5", "m-6", "m-7", "m-8"), Text.of(messages));
                acknowledge(consumer, messages, 1, 5);
            }
            try (var consumer = indexed(topic, Shared).subscribe()) {
                assertEquals(List.of("m-1", "m-5", "m-6", "m-7"), Text.takeAcked(consumer, 4));
            }
            assertEquals(0, backlog(topic));
        }
    }

    @Test
    void ack_batch_index__cumulative_into_the_middle_of_a_batch() throws Exception {
        String topic = Broker.topic("ack-index-cumulative");
        try (var producer = PayloadTest.batching(topic).create()) {
            Text.sendBatch(producer, Text.numbered(0, 5));
            Text.sendBatch(producer, Text.numbered(5, 10));
            try (var consumer = indexed(topic, Exclusive).subscribe()) {
                consumer.acknowledgeCumulative(Text.take(consumer, 10).get(6));
            }
            try (var consumer = indexed(topic, Exclusive).subscribe()) {
                assertEquals(Text.numbered(7, 10), Text.takeAcked(consumer, 3));
            }
            assertEquals(0, backlog(topic));
        }
    }

    @Test
    void ack_batch_index__negative_acks_bring_back_only_what_is_left() throws Exception {
        String topic = Broker.topic("ack-index-nack");
        try (var producer = PayloadTest.batching(topic).create();
                Consumer<byte[]> consumer = indexed(topic, Shared)
                        .negativeAckRedeliveryDelay(100, TimeUnit.MILLISECONDS)
                        .subscribe()) {
            Text.sendBatch(producer, Text.numbered(0, 4));
            List<Message<byte[]>> messages = Text.take(consumer, 4);
            acknowledge(consumer, messages, 0, 2);
            consumer.negativeAcknowledge(messages.get(1));
            consumer.negativeAcknowledge(messages.get(3));
            List<Message<byte[]>> again = Text.take(consumer, 2);
            assertEquals(List.of("m-1", "m-3"), Text.of(again));
            assertEquals(1, again.get(0).getRedeliveryCount());
        }
    }
}
