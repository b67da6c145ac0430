package suite;

import java.util.Locale;
import java.util.Set;
import java.util.UUID;
import org.apache.pulsar.client.admin.PulsarAdmin;
import org.apache.pulsar.client.admin.PulsarAdminException;
import org.apache.pulsar.client.api.ClientBuilder;
import org.apache.pulsar.client.api.Consumer;
import org.apache.pulsar.client.api.ConsumerBuilder;
import org.apache.pulsar.client.api.Producer;
import org.apache.pulsar.client.api.ProducerBuilder;
import org.apache.pulsar.client.api.PulsarClient;
import org.apache.pulsar.client.api.PulsarClientException;
import org.apache.pulsar.client.api.SubscriptionInitialPosition;
import org.apache.pulsar.client.api.SubscriptionType;

/**
 * Where the broker is: one client and one admin for all tests, and names of topics and namespaces that nobody else
 * uses. Which broker it is, nothing here knows.
 */
final class Broker {
    static final String SERVICE_URL = required("PULSAR_SERVICE_URL");
    static final String ADMIN_URL = required("PULSAR_ADMIN_URL");
    static final PulsarClient CLIENT;
    static final PulsarAdmin ADMIN;

    static {
        try {
            CLIENT = builder().build();
            ADMIN = PulsarAdmin.builder().serviceHttpUrl(ADMIN_URL).build();
        } catch (PulsarClientException failure) {
            throw new ExceptionInInitializerError(failure);
        }
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            ADMIN.close();
            CLIENT.closeAsync();
        }));
    }

    private Broker() {}

    /** A client of the test's own, for what is a property of a connection. */
    static ClientBuilder builder() {
        return PulsarClient.builder().serviceUrl(SERVICE_URL);
    }

    /** A topic of the default namespace that nobody else uses; it does not exist yet. */
    static String topic(String what) {
        return "persistent://public/default/" + unique(what);
    }

    /** A new namespace, for tests that set policies or list topics. */
    static String namespace(String what) throws PulsarAdminException {
        String namespace = "public/" + unique(what);
        ADMIN.namespaces().createNamespace(namespace, Set.of(cluster()));
        return namespace;
    }

    static String cluster() throws PulsarAdminException {
        return ADMIN.clusters().getClusters().get(0);
    }

    static String unique(String what) {
        return "java-" + what.toLowerCase(Locale.ROOT) + "-" + UUID.randomUUID().toString().substring(0, 8);
    }

    /** Unbatched, so that a message is an entry. */
    static Producer<byte[]> producer(String topic) throws PulsarClientException {
        return producing(topic).create();
    }

    static ProducerBuilder<byte[]> producing(String topic) {
        return CLIENT.newProducer().topic(topic).enableBatching(false);
    }

    /** From the earliest message on. */
    static Consumer<byte[]> consumer(String topic, String subscription, SubscriptionType type)
            throws PulsarClientException {
        return consuming(topic, subscription, type).subscribe();
    }

    static ConsumerBuilder<byte[]> consuming(String topic, String subscription, SubscriptionType type) {
        return CLIENT.newConsumer()
                .topic(topic)
                .subscriptionName(subscription)
                .subscriptionType(type)
                .subscriptionInitialPosition(SubscriptionInitialPosition.Earliest);
    }

    private static String required(String name) {
        String value = System.getenv(name);
        if (value == null || value.isBlank()) {
            throw new IllegalStateException(name + " is not set: start a broker and set PULSAR_SERVICE_URL and"
                    + " PULSAR_ADMIN_URL to its addresses");
        }
        return value;
    }
}
