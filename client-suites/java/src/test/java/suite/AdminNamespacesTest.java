package suite;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.pulsar.client.admin.Namespaces;
import org.apache.pulsar.client.admin.PulsarAdminException.ConflictException;
import org.apache.pulsar.client.admin.PulsarAdminException.NotFoundException;
import org.apache.pulsar.client.admin.PulsarAdminException;
import org.apache.pulsar.client.admin.TopicPolicies;
import org.apache.pulsar.client.api.MessageId;
import org.apache.pulsar.common.policies.data.AutoSubscriptionCreationOverride;
import org.apache.pulsar.common.policies.data.AutoTopicCreationOverride;
import org.apache.pulsar.common.policies.data.RetentionPolicies;
import org.apache.pulsar.common.policies.data.SchemaCompatibilityStrategy;
import org.apache.pulsar.common.policies.data.TenantInfo;
import org.apache.pulsar.common.protocol.schema.PostSchemaPayload;
import org.junit.jupiter.api.Test;

/** Clusters, tenants, namespaces and their policies by the admin API. */
class AdminNamespacesTest {
    private static final Namespaces NAMESPACES = Broker.ADMIN.namespaces();

    private interface Setter<T> {
        void set(T value) throws PulsarAdminException;
    }

    private interface Getter<T> {
        T get() throws PulsarAdminException;
    }

    /** Set, told, and, where it can be, removed. Pulsar's policies take effect a moment after they are set. */
    private static <T> void policy(String name, T value, Setter<T> set, Getter<T> get) throws PulsarAdminException {
        set.set(value);
        Await.until(name + " is " + value, get::get, value::equals);
    }

    @Test
    void admin_clusters__brokers_and_health() throws Exception {
        List<String> clusters = Broker.ADMIN.clusters().getClusters();
        assertEquals(1, clusters.size());
        assertNotNull(Broker.ADMIN.clusters().getCluster(clusters.get(0)));
        assertThrows(NotFoundException.class, () -> Broker.ADMIN.clusters().getCluster("no-cluster"));
        assertEquals(1, Broker.ADMIN.brokers().getActiveBrokers(clusters.get(0)).size());
        assertNotNull(Broker.ADMIN.brokers().getLeaderBroker().getBrokerId());
        assertFalse(Broker.ADMIN.brokers().getVersion().isBlank());
        Broker.ADMIN.brokers().healthcheck(org.apache.pulsar.common.naming.TopicVersion.V2);
    }

    @Test
    void admin_metrics__are_there_for_prometheus() throws Exception {
        String topic = Broker.topic("metrics");
        Broker.ADMIN.topics().createSubscription(topic, "s", MessageId.earliest);
        try (var producer = Broker.producer(topic)) {
            Text.send(producer, Text.numbered(0, 3));
            String text = get("/metrics/");
            assertTrue(text.contains("# TYPE pulsar_"));
            String line = text.lines()
                    .filter(each -> each.startsWith("pulsar_subscription_back_log{") && each.contains(topic))
                    .findFirst()
                    .orElseThrow();
            assertTrue(line.contains("subscription=\"s\""), line);
            assertEquals(3.0, Double.parseDouble(line.substring(line.lastIndexOf('}') + 1).trim().split(" ")[0]));
        }
    }

    private static String get(String path) throws Exception {
        HttpClient http =
                HttpClient.newBuilder().followRedirects(HttpClient.Redirect.NORMAL).build();
        HttpRequest request = HttpRequest.newBuilder(URI.create(Broker.ADMIN_URL + path)).build();
        HttpResponse<String> response = http.send(request, HttpResponse.BodyHandlers.ofString());
        assertEquals(200, response.statusCode());
        return response.body();
    }

    @Test
    void admin_tenants__create_list_update_delete() throws Exception {
        var tenants = Broker.ADMIN.tenants();
        String tenant = Broker.unique("tenant");
        Set<String> clusters = Set.of(Broker.cluster());
        tenants.createTenant(tenant, TenantInfo.builder().allowedClusters(clusters).build());
        assertThrows(
                ConflictException.class,
                () -> tenants.createTenant(tenant, TenantInfo.builder().allowedClusters(clusters).build()));
        assertTrue(tenants.getTenants().contains(tenant));
        assertEquals(clusters, tenants.getTenantInfo(tenant).getAllowedClusters());
        tenants.updateTenant(
                tenant,
                TenantInfo.builder().allowedClusters(clusters).adminRoles(Set.of("boss")).build());
        Await.until("it is updated", () -> tenants.getTenantInfo(tenant).getAdminRoles().equals(Set.of("boss")));
        NAMESPACES.createNamespace(tenant + "/ns");
        assertThrows(ConflictException.class, () -> tenants.deleteTenant(tenant));
        NAMESPACES.deleteNamespace(tenant + "/ns");
        tenants.deleteTenant(tenant);
        assertThrows(NotFoundException.class, () -> tenants.getTenantInfo(tenant));
    }

    @Test
    void admin_namespaces__create_list_delete() throws Exception {
        String namespace = Broker.namespace("namespaces");
        assertTrue(NAMESPACES.getNamespaces("public").contains(namespace));
        assertThrows(ConflictException.class, () -> NAMESPACES.createNamespace(namespace));
        var policies = NAMESPACES.getPolicies(namespace);
        assertEquals(Set.of(Broker.cluster()), policies.replication_clusters);
        String topic = "persistent://" + namespace + "/t";
        Broker.ADMIN.topics().createNonPartitionedTopic(topic);
        assertEquals(List.of(topic), NAMESPACES.getTopics(namespace));
        assertThrows(ConflictException.class, () -> NAMESPACES.deleteNamespace(namespace));
        Broker.ADMIN.topics().delete(topic);
        NAMESPACES.deleteNamespace(namespace);
        assertFalse(NAMESPACES.getNamespaces("public").contains(namespace));
        assertThrows(NotFoundException.class, () -> NAMESPACES.getPolicies(namespace));
        assertThrows(NotFoundException.class, () -> NAMESPACES.getNamespaces(Broker.unique("no-tenant")));
    }

    @Test
    void admin_namespaces__unload_and_clear_the_backlog() throws Exception {
        String namespace = Broker.namespace("namespace-backlog");
        String topic = "persistent://" + namespace + "/t";
        Broker.ADMIN.topics().createSubscription(topic, "s", MessageId.earliest);
        try (var producer = Broker.producer(topic)) {
            Text.send(producer, Text.numbered(0, 3));
            NAMESPACES.unload(namespace);
            producer.send(Text.bytes("after"));
            NAMESPACES.clearNamespaceBacklog(namespace);
            Await.until("it is cleared", () ->
                    Broker.ADMIN.topics().getStats(topic).getSubscriptions().get("s").getMsgBacklog() == 0);
        }
    }

    @Test
    void admin_policies__are_set_told_and_removed() throws Exception {
        String namespace = Broker.namespace("policies");
        assertNull(NAMESPACES.getRetention(namespace));
        policy(
                "retention",
                new RetentionPolicies(10, 20),
                value -> NAMESPACES.setRetention(namespace, value),
                () -> NAMESPACES.getRetention(namespace));
        policy(
                "ttl",
                60,
                value -> NAMESPACES.setNamespaceMessageTTL(namespace, value),
                () -> NAMESPACES.getNamespaceMessageTTL(namespace));
        policy(
                "deduplication",
                true,
                value -> NAMESPACES.setDeduplicationStatus(namespace, value),
                () -> NAMESPACES.getDeduplicationStatus(namespace));
        policy(
                "compaction threshold",
                1_000_000L,
                value -> NAMESPACES.setCompactionThreshold(namespace, value),
                () -> NAMESPACES.getCompactionThreshold(namespace));
        policy(
                "schema compatibility",
                SchemaCompatibilityStrategy.FORWARD,
                value -> NAMESPACES.setSchemaCompatibilityStrategy(namespace, value),
                () -> NAMESPACES.getSchemaCompatibilityStrategy(namespace));
        policy(
                "auto topic creation",
                AutoTopicCreationOverride.builder().allowAutoTopicCreation(false).build(),
                value -> NAMESPACES.setAutoTopicCreation(namespace, value),
                () -> NAMESPACES.getAutoTopicCreation(namespace));
        policy(
                "auto subscription creation",
                AutoSubscriptionCreationOverride.builder().allowAutoSubscriptionCreation(false).build(),
                value -> NAMESPACES.setAutoSubscriptionCreation(namespace, value),
                () -> NAMESPACES.getAutoSubscriptionCreation(namespace));
        var all = NAMESPACES.getPolicies(namespace);
        assertEquals(new RetentionPolicies(10, 20), all.retention_policies);
        assertEquals(60, all.message_ttl_in_seconds);
        assertEquals(true, all.deduplicationEnabled);

        NAMESPACES.removeRetention(namespace);
        Await.until("retention is removed", () -> NAMESPACES.getRetention(namespace) == null);
        NAMESPACES.removeNamespaceMessageTTL(namespace);
        Await.until("ttl is removed", () -> NAMESPACES.getNamespaceMessageTTL(namespace) == null);
        NAMESPACES.removeDeduplicationStatus(namespace);
        Await.until("deduplication is removed", () -> NAMESPACES.getDeduplicationStatus(namespace) == null);
    }

    @Test
    void admin_policies__properties() throws Exception {
        String namespace = Broker.namespace("namespace-properties");
        NAMESPACES.setProperty(namespace, "a", "1");
        NAMESPACES.setProperties(namespace, Map.of("b", "2"));
        assertEquals(Map.of("a", "1", "b", "2"), NAMESPACES.getProperties(namespace));
        assertEquals("1", NAMESPACES.removeProperty(namespace, "a"));
        NAMESPACES.clearProperties(namespace);
        assertEquals(Map.of(), NAMESPACES.getProperties(namespace));
    }

    @Test
    void admin_topic_policies__are_a_topics_own() throws Exception {
        TopicPolicies policies = Broker.ADMIN.topicPolicies();
        String topic = Broker.topic("topic-policies");
        Broker.ADMIN.topics().createNonPartitionedTopic(topic);
        policy(
                "retention",
                new RetentionPolicies(5, -1),
                value -> policies.setRetention(topic, value),
                () -> policies.getRetention(topic));
        policy(
                "ttl",
                30,
                value -> policies.setMessageTTL(topic, value),
                () -> policies.getMessageTTL(topic));
        policy(
                "compaction threshold",
                1_000L,
                value -> policies.setCompactionThreshold(topic, value),
                () -> policies.getCompactionThreshold(topic));
        policies.removeRetention(topic);
        Await.until("it is removed", () -> policies.getRetention(topic) == null);
    }

    @Test
    void admin_schemas__upload_check_delete() throws Exception {
        var schemas = Broker.ADMIN.schemas();
        String topic = Broker.topic("admin-schemas");
        Broker.ADMIN.topics().createNonPartitionedTopic(topic);
        assertThrows(NotFoundException.class, () -> schemas.getSchemaInfo(topic));
        var payload = new PostSchemaPayload(
                "AVRO",
                "{\"type\":\"record\",\"name\":\"R\",\"fields\":[{\"name\":\"a\",\"type\":\"long\"}]}",
                Map.of("p", "v"));
        schemas.createSchema(topic, payload);
        var info = schemas.getSchemaInfoWithVersion(topic);
        assertEquals(0, info.getVersion());
        assertEquals(payload.getSchema(), info.getSchemaInfo().getSchemaDefinition());
        assertEquals(Map.of("p", "v"), info.getSchemaInfo().getProperties());
        assertTrue(schemas.testCompatibility(topic, payload).isCompatibility());
        schemas.deleteSchema(topic);
        assertThrows(NotFoundException.class, () -> schemas.getSchemaInfo(topic));
    }
}
