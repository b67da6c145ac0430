package suite;

import static org.apache.pulsar.client.api.SubscriptionType.Exclusive;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Map;
import org.apache.pulsar.client.api.Message;
import org.apache.pulsar.client.api.MessageId;
import org.apache.pulsar.client.api.PulsarClientException.ProducerBlockedQuotaExceededError;
import org.apache.pulsar.client.api.PulsarClientException.ProducerBlockedQuotaExceededException;
import org.apache.pulsar.common.api.proto.BaseCommand;
import org.apache.pulsar.common.api.proto.ServerError;
import org.apache.pulsar.common.naming.TopicName;
import org.apache.pulsar.common.policies.data.BacklogQuota;
import org.apache.pulsar.common.policies.data.BacklogQuota.RetentionPolicy;
import org.apache.pulsar.common.protocol.Commands;
import org.junit.jupiter.api.Test;

/** What becomes of producers and of messages when a backlog is larger than its namespace allows. */
class QuotaTest {
    private static final int MESSAGES = 5;
    private static final int MESSAGE_BYTES = 10_000;

    @Test
    void backlog_quota__producers_wait_until_consumers_catch_up() throws Exception {
        String topic = filled("quota-hold");
        limit(topic, RetentionPolicy.producer_request_hold);
        assertRefused(topic, ServerError.ProducerBlockedQuotaExceededError);
        assertThrows(ProducerBlockedQuotaExceededError.class, () -> Broker.producer(topic));
        assertFreedByReading(topic);
    }

    @Test
    void backlog_quota__producers_fail_until_consumers_catch_up() throws Exception {
        String topic = filled("quota-exception");
        limit(topic, RetentionPolicy.producer_exception);
        assertRefused(topic, ServerError.ProducerBlockedQuotaExceededException);
        assertThrows(ProducerBlockedQuotaExceededException.class, () -> Broker.producer(topic));
        assertFreedByReading(topic);
    }

    @Test
    void backlog_quota__a_producer_that_is_there_is_closed_and_refused() throws Exception {
        String topic = filled("quota-there");
        try (var raw = new Raw()) {
            raw.connect(21);
            raw.send(Commands.newProducer(topic, 1, 2, "p", Map.of(), false));
            assertEquals(BaseCommand.Type.PRODUCER_SUCCESS, raw.next().getType());
            limit(topic, RetentionPolicy.producer_exception);
            BaseCommand closed = raw.next();
            assertEquals(BaseCommand.Type.CLOSE_PRODUCER, closed.getType());
            assertEquals(1, closed.getCloseProducer().getProducerId());
            // What it sends on, unknowing, is not answered: its client sends it again when it is back.
            raw.send(Raw.message(1, 0, "too late", false));
            raw.send(Commands.newProducer(topic, 1, 3, "p", Map.of(), false));
            BaseCommand refusal = raw.next();
            assertEquals(BaseCommand.Type.ERROR, refusal.getType());
            assertEquals(3, refusal.getError().getRequestId());
            assertEquals(ServerError.ProducerBlockedQuotaExceededException, refusal.getError().getError());
        }
    }

    @Test
    void backlog_quota__the_oldest_messages_go() throws Exception {
        String topic = filled("quota-eviction");
        limit(topic, RetentionPolicy.consumer_backlog_eviction);
        Await.until("the oldest are gone", () -> backlog(topic), left -> left < MESSAGES);
        assertEquals(BaseCommand.Type.PRODUCER_SUCCESS, asked(topic).getType());
        try (var consumer = Broker.consumer(topic, "s", Exclusive)) {
            int number = number(Text.next(consumer));
            assertTrue(number > 0, "the oldest is there");
            while (number < MESSAGES - 1) {
                int next = number(Text.next(consumer));
                assertTrue(next > number, next + " came after " + number);
                number = next;
            }
        }
    }

    /** A topic with a backlog of {@link #MESSAGES} numbered messages. */
    private static String filled(String what) throws Exception {
        String topic = "persistent://" + Broker.namespace(what) + "/t";
        Broker.ADMIN.topics().createSubscription(topic, "s", MessageId.earliest);
        try (var producer = Broker.producer(topic)) {
            for (byte number = 0; number < MESSAGES; number++) {
                byte[] payload = new byte[MESSAGE_BYTES];
                payload[0] = number;
                producer.send(payload);
            }
        }
        return topic;
    }

    private static int number(Message<byte[]> message) {
        return message.getData()[0];
    }

    /** Gives its namespace a quota that its backlog exceeds. */
    private static void limit(String topic, RetentionPolicy policy) throws Exception {
        String namespace = TopicName.get(topic).getNamespace();
        var quota = BacklogQuota.builder().limitSize(2 * MESSAGE_BYTES).retentionPolicy(policy).build();
        Broker.ADMIN.namespaces().setBacklogQuota(namespace, quota);
    }

    private static long backlog(String topic) throws Exception {
        return Broker.ADMIN.topics().getStats(topic).getSubscriptions().get("s").getMsgBacklog();
    }

    /** What a new producer is answered. */
    private static BaseCommand asked(String topic) throws Exception {
        try (var raw = new Raw()) {
            raw.connect(21);
            raw.send(Commands.newProducer(topic, 1, 2, "p", Map.of(), false));
            return raw.next();
        }
    }

    private static void assertRefused(String topic, ServerError expected) {
        // The policy may take a moment to be known everywhere.
        BaseCommand answer = Await.until(
                "the quota counts", () -> asked(topic), told -> told.getType() == BaseCommand.Type.ERROR);
        assertEquals(expected, answer.getError().getError());
    }

    private static void assertFreedByReading(String topic) throws Exception {
        try (var consumer = Broker.consumer(topic, "s", Exclusive)) {
            Text.takeAcked(consumer, MESSAGES);
        }
        Await.until("a producer may come", () -> asked(topic).getType() == BaseCommand.Type.PRODUCER_SUCCESS);
    }
}
