package suite;

import static org.apache.pulsar.client.api.SubscriptionType.Exclusive;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.EOFException;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.apache.pulsar.client.api.PulsarClientException;
import org.apache.pulsar.common.api.proto.BaseCommand;
import org.apache.pulsar.common.api.proto.ServerError;
import org.apache.pulsar.common.protocol.Commands;
import org.junit.jupiter.api.Test;

/** Connections: what is agreed on, how they are kept, and what becomes of requests that cannot be served. */
class ConnectionTest {
    @Test
    void connect__versions_and_features_are_told() throws Exception {
        try (var raw = new Raw()) {
            BaseCommand answer = raw.connect(21);
            assertEquals(BaseCommand.Type.CONNECTED, answer.getType());
            var connected = answer.getConnected();
            assertFalse(connected.getServerVersion().isBlank());
            assertEquals(21, connected.getProtocolVersion());
            assertEquals(5 * 1024 * 1024, connected.getMaxMessageSize());
            assertTrue(connected.getFeatureFlags().isSupportsTopicWatchers());
            assertTrue(connected.getFeatureFlags().isSupportsGetPartitionedMetadataWithoutAutoCreation());
        }
    }

    @Test
    void connect__an_older_client_is_answered_in_its_version() throws Exception {
        try (var raw = new Raw()) {
            assertEquals(12, raw.connect(12).getConnected().getProtocolVersion());
        }
    }

    @Test
    void connect__many_clients_at_once() throws Exception {
        String topic = Broker.topic("clients");
        try (var consumer = Broker.consumer(topic, "s", Exclusive)) {
            for (int number = 0; number < 10; number++) {
                try (var client = Broker.builder().connectionsPerBroker(2).build()) {
                    client.newProducer().topic(topic).create().send(Text.bytes("m-" + number));
                }
            }
            assertEquals(Text.numbered(0, 10), Text.takeAcked(consumer, 10));
        }
    }

    @Test
    void errors__the_first_command_has_to_connect() throws Exception {
        try (var raw = new Raw()) {
            raw.send(Commands.newLookup(Broker.topic("early"), false, 1));
            assertThrows(EOFException.class, () -> {
                while (true) {
                    raw.next();
                }
            });
        }
    }

    @Test
    void ping__is_answered() throws Exception {
        try (var raw = new Raw()) {
            raw.connect(21);
            raw.ping();
            assertEquals(BaseCommand.Type.PONG, raw.next().getType());
        }
    }

    @Test
    void lookup__over_the_protocol_and_over_http() throws Exception {
        String topic = Broker.topic("lookup");
        try (var raw = new Raw()) {
            raw.connect(21);
            raw.send(Commands.newLookup(topic, false, 7));
            var response = raw.next().getLookupTopicResponse();
            assertEquals(7, response.getRequestId());
            assertEquals(Broker.SERVICE_URL, response.getBrokerServiceUrl());
        }
        assertEquals(Broker.SERVICE_URL, Broker.ADMIN.lookups().lookupTopic(topic));
        // A client may also find its way by the HTTP port.
        try (var client = Broker.builder().serviceUrl(Broker.ADMIN_URL).build();
                var producer = client.newProducer().topic(topic).create();
                var consumer = Broker.consumer(topic, "s", Exclusive)) {
            producer.send(Text.bytes("found"));
            assertEquals(List.of("found"), Text.takeAcked(consumer, 1));
        }
    }

    @Test
    void errors__what_cannot_be_is_refused_and_the_connection_kept() throws Exception {
        String topic = Broker.topic("errors");
        try (var client = Broker.builder().operationTimeout(5, TimeUnit.SECONDS).build();
                var producer = client.newProducer().topic(topic).create()) {
            String noTenant = "persistent://" + Broker.unique("no-tenant") + "/ns/t";
            String noNamespace = "persistent://public/" + Broker.unique("no-ns") + "/t";
            for (String nowhere : List.of(noTenant, noNamespace)) {
                assertThrows(PulsarClientException.class, () -> client.newProducer().topic(nowhere).create());
                assertThrows(
                        PulsarClientException.class,
                        () -> client.newConsumer().topic(nowhere).subscriptionName("s").subscribe());
            }
            assertThrows(
                    PulsarClientException.InvalidTopicNameException.class,
                    () -> client.newProducer().topic("persistent://a/b").create());
            producer.send(Text.bytes("the connection is the same"));
        }
    }

    @Test
    void checksum__a_message_that_was_damaged_is_refused() throws Exception {
        String topic = Broker.topic("checksum");
        try (var raw = new Raw(); var consumer = Broker.consumer(topic, "s", Exclusive)) {
            raw.connect(21);
            raw.send(Commands.newProducer(topic, 1, 2, "p", Map.of(), false));
            assertEquals(BaseCommand.Type.PRODUCER_SUCCESS, raw.next().getType());
            raw.send(Raw.message(1, 0, "damaged", true));
            BaseCommand refusal = raw.next();
            assertEquals(BaseCommand.Type.SEND_ERROR, refusal.getType());
            assertEquals(ServerError.ChecksumError, refusal.getSendError().getError());
            raw.send(Raw.message(1, 1, "sound", false));
            assertEquals(BaseCommand.Type.SEND_RECEIPT, raw.next().getType());
            assertEquals(List.of("sound"), Text.takeAcked(consumer, 1));
        }
    }

    @Test
    void send_errors__a_message_in_the_clear_where_encryption_is_required() throws Exception {
        String namespace = Broker.namespace("encrypted");
        String topic = "persistent://" + namespace + "/t";
        Broker.ADMIN.namespaces().setEncryptionRequiredStatus(namespace, true);
        assertThrows(PulsarClientException.class, () -> Broker.producer(topic));
        try (var raw = new Raw()) {
            raw.connect(21);
            // A producer that says that it encrypts, and does not.
            raw.send(Commands.newProducer(topic, 1, 2, "p", true, Map.of(), false));
            assertEquals(BaseCommand.Type.PRODUCER_SUCCESS, raw.next().getType());
            raw.send(Raw.message(1, 5, "in the clear", false));
            BaseCommand refusal = raw.next();
            assertEquals(BaseCommand.Type.SEND_ERROR, refusal.getType());
            assertEquals(5, refusal.getSendError().getSequenceId());
            assertEquals(ServerError.MetadataError, refusal.getSendError().getError());
        }
    }
}
