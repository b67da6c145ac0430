package suite;

import static org.apache.pulsar.client.api.SubscriptionType.Exclusive;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.util.List;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import org.apache.pulsar.client.admin.PulsarAdminException;
import org.apache.pulsar.client.api.MessageId;
import org.apache.pulsar.client.api.PulsarClientException;
import org.apache.pulsar.client.api.transaction.Transaction;
import org.apache.pulsar.common.policies.data.BacklogQuota;
import org.apache.pulsar.common.policies.data.RetentionPolicies;
import org.junit.jupiter.api.Test;

/** What a namespace's policies do to messages; and what is not to be had. */
class PolicyTest {
    @Test
    void retention__acknowledged_messages_can_be_read_again() throws Exception {
        String namespace = Broker.namespace("retention");
        Broker.ADMIN.namespaces().setRetention(namespace, new RetentionPolicies(60, 100));
        String topic = "persistent://" + namespace + "/t";
        try (var producer = Broker.producer(topic); var consumer = Broker.consumer(topic, "s", Exclusive)) {
            Text.send(producer, Text.numbered(0, 10));
            Text.takeAcked(consumer, 10);
            Await.until("all is acknowledged", () ->
                    Broker.ADMIN.topics().getStats(topic).getSubscriptions().get("s").getMsgBacklog() == 0);
        }
        Broker.ADMIN.topics().unload(topic);
        try (var reader = Broker.CLIENT.newReader().topic(topic).startMessageId(MessageId.earliest).create()) {
            assertEquals(Text.numbered(0, 10), Text.take(reader, 10));
        }
    }

    @Test
    void ttl__messages_that_are_too_old_are_gone() throws Exception {
        String topic = Broker.topic("ttl");
        try (var producer = Broker.producer(topic)) {
            Broker.ADMIN.topics().createSubscription(topic, "s", MessageId.earliest);
            Text.send(producer, Text.numbered(0, 5));
            long sent = System.currentTimeMillis();
            // Whole seconds count: what is to expire is more than two old.
            Await.until("they have aged", () -> System.currentTimeMillis() > sent + 3_000);
            producer.send(Text.bytes("young"));
            Broker.ADMIN.topics().expireMessages(topic, "s", 2);
            Await.until("they are gone", () ->
                    Broker.ADMIN.topics().getStats(topic).getSubscriptions().get("s").getMsgBacklog() == 1);
            try (var consumer = Broker.consumer(topic, "s", Exclusive)) {
                assertEquals(List.of("young"), Text.takeAcked(consumer, 1));
            }
        }
    }

    @Test
    void backlog_quota__is_stored_and_told() throws Exception {
        String namespace = Broker.namespace("quota");
        var quota = BacklogQuota.builder()
                .limitSize(10_000)
                .retentionPolicy(BacklogQuota.RetentionPolicy.producer_exception)
                .build();
        Broker.ADMIN.namespaces().setBacklogQuota(namespace, quota);
        var shown = Broker.ADMIN.namespaces()
                .getBacklogQuotaMap(namespace)
                .get(BacklogQuota.BacklogQuotaType.destination_storage);
        assertEquals(10_000, shown.getLimitSize());
        assertEquals(BacklogQuota.RetentionPolicy.producer_exception, shown.getPolicy());
    }

    @Test
    void geo_replication__to_a_cluster_that_is_not_there_is_refused() throws Exception {
        String namespace = Broker.namespace("geo");
        assertThrows(
                PulsarAdminException.class,
                () -> Broker.ADMIN.namespaces()
                        .setNamespaceReplicationClusters(namespace, Set.of(Broker.cluster(), "elsewhere")));
    }

    @Test
    void transactions__get_an_error_and_do_not_hang() {
        assertThrows(PulsarClientException.class, () -> {
            try (var client = Broker.builder()
                    .enableTransaction(true)
                    .operationTimeout(5, TimeUnit.SECONDS)
                    .build()) {
                Transaction transaction = client.newTransaction()
                        .withTransactionTimeout(10, TimeUnit.SECONDS)
                        .build()
                        .get(60, TimeUnit.SECONDS);
                transaction.abort();
            }
        });
    }
}
