package suite;

import static org.apache.pulsar.client.api.SubscriptionType.Exclusive;
import static org.apache.pulsar.client.api.SubscriptionType.Shared;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.util.Base64;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.TimeUnit;
import java.util.stream.Collectors;
import org.apache.pulsar.client.api.BatcherBuilder;
import org.apache.pulsar.client.api.CompressionType;
import org.apache.pulsar.client.api.ConsumerCryptoFailureAction;
import org.apache.pulsar.client.api.CryptoKeyReader;
import org.apache.pulsar.client.api.EncryptionKeyInfo;
import org.apache.pulsar.client.api.Message;
import org.apache.pulsar.client.api.MessageId;
import org.apache.pulsar.client.api.MessageIdAdv;
import org.apache.pulsar.client.api.ProducerBuilder;
import org.apache.pulsar.client.api.PulsarClientException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

/** What the client makes of payloads before they travel: batches, compression, chunks, encryption. */
class PayloadTest {
    /** Its batches end by {@code flush} only. */
    static ProducerBuilder<byte[]> batching(String topic) {
        return Broker.CLIENT.newProducer()
                .topic(topic)
                .enableBatching(true)
                .batchingMaxMessages(1_000)
                .batchingMaxPublishDelay(1, TimeUnit.HOURS);
    }

    @Test
    void batch__is_one_entry_and_arrives_as_single_messages() throws Exception {
        String topic = Broker.topic("batch");
        try (var consumer = Broker.consumer(topic, "s", Exclusive); var producer = batching(topic).create()) {
            List<MessageId> ids = Text.sendBatch(producer, Text.numbered(0, 10));
            var first = (MessageIdAdv) ids.get(0);
            for (int index = 0; index < ids.size(); index++) {
                var id = (MessageIdAdv) ids.get(index);
                assertEquals(first.getEntryId(), id.getEntryId());
                assertEquals(index, id.getBatchIndex());
            }
            List<Message<byte[]>> messages = Text.take(consumer, 10);
            assertEquals(Text.numbered(0, 10), Text.of(messages));
            assertEquals(ids, messages.stream().map(Message::getMessageId).toList());
            assertEquals(10, ((MessageIdAdv) messages.get(0).getMessageId()).getBatchSize());
        }
    }

    @Test
    void batch__many_small_batches_keep_the_order() throws Exception {
        String topic = Broker.topic("batches");
        try (var consumer = Broker.consumer(topic, "s", Exclusive);
                var producer = batching(topic).batchingMaxMessages(7).create()) {
            for (String text : Text.numbered(0, 1_000)) {
                producer.newMessage().key(text).property("text", text).value(Text.bytes(text)).sendAsync();
            }
            producer.flush();
            for (String text : Text.numbered(0, 1_000)) {
                Message<byte[]> message = Text.next(consumer);
                assertEquals(text, Text.of(message));
                assertEquals(text, message.getKey());
                assertEquals(text, message.getProperty("text"));
            }
        }
    }

    @Test
    void batch_by_key__an_entry_has_one_key() throws Exception {
        String topic = Broker.topic("batch-by-key");
        try (var consumer = Broker.consumer(topic, "s", Shared);
                var producer = batching(topic).batcherBuilder(BatcherBuilder.KEY_BASED).create()) {
            for (int number = 0; number < 30; number++) {
                producer.newMessage().key("k" + number % 3).value(Text.bytes("m-" + number)).sendAsync();
            }
            producer.flush();
            List<Message<byte[]>> messages = Text.take(consumer, 30);
            Map<Long, List<String>> keysByEntry = messages.stream()
                    .collect(Collectors.groupingBy(
                            message -> ((MessageIdAdv) message.getMessageId()).getEntryId(),
                            Collectors.mapping(Message::getKey, Collectors.toList())));
            assertEquals(3, keysByEntry.size());
            keysByEntry.values().forEach(keys -> assertEquals(1, keys.stream().distinct().count()));
            for (String key : List.of("k0", "k1", "k2")) {
                List<Integer> numbers = messages.stream()
                        .filter(message -> message.getKey().equals(key))
                        .map(message -> Integer.parseInt(Text.of(message).substring(2)))
                        .toList();
                assertEquals(numbers.stream().sorted().toList(), numbers);
            }
        }
    }

    @ParameterizedTest
    @EnumSource(CompressionType.class)
    void compression__single_and_batched(CompressionType type) throws Exception {
        String topic = Broker.topic("compression");
        String long_ = "a text that compresses well ".repeat(1_000);
        try (var consumer = Broker.consumer(topic, "s", Exclusive);
                var single = Broker.producing(topic).compressionType(type).create();
                var batched = batching(topic).compressionType(type).create()) {
            single.send(Text.bytes(long_));
            Text.sendBatch(batched, List.of(long_, "short"));
            assertEquals(List.of(long_, long_, "short"), Text.takeAcked(consumer, 3));
        }
    }

    @Test
    void chunks__a_large_payload_travels_in_pieces() throws Exception {
        String topic = Broker.topic("chunks");
        byte[] large = new byte[12 * 1024 * 1024];
        new Random(1).nextBytes(large);
        try (var consumer = Broker.consumer(topic, "s", Exclusive);
                var producer = Broker.producing(topic).enableChunking(true).create()) {
            producer.send(Text.bytes("before"));
            MessageId id = producer.newMessage().key("k").property("p", "v").value(large).send();
            producer.send(Text.bytes("after"));
            assertEquals("before", Text.of(Text.next(consumer)));
            Message<byte[]> message = Text.next(consumer);
            assertArrayEquals(large, message.getData());
            assertEquals("v", message.getProperty("p"));
            assertEquals(id, message.getMessageId());
            assertTrue(message.getMessageId().toString().contains(";"), "the first and the last chunk's ids");
            assertEquals("after", Text.of(Text.next(consumer)));
            consumer.acknowledgeCumulative(message);
        }
    }

    @Test
    void chunks__those_of_two_producers_may_be_mixed() throws Exception {
        String topic = Broker.topic("chunks-mixed");
        int size = 60_000;
        byte[][] payloads = new byte[20][size];
        try (var consumer = Broker.consuming(topic, "s", Shared).maxPendingChunkedMessage(100).subscribe();
                var one = Broker.producing(topic).enableChunking(true).chunkMaxMessageSize(10_000).create();
                var two = Broker.producing(topic).enableChunking(true).chunkMaxMessageSize(7_000).create()) {
            for (int index = 0; index < payloads.length; index++) {
                new Random(index).nextBytes(payloads[index]);
                var producer = index % 2 == 0 ? one : two;
                producer.newMessage().property("index", "" + index).value(payloads[index]).sendAsync();
            }
            one.flush();
            two.flush();
            var seen = new boolean[payloads.length];
            for (int taken = 0; taken < payloads.length; taken++) {
                Message<byte[]> message = Text.next(consumer);
                int index = Integer.parseInt(message.getProperty("index"));
                assertArrayEquals(payloads[index], message.getData());
                seen[index] = true;
                consumer.acknowledge(message);
            }
            for (boolean one_ : seen) {
                assertTrue(one_);
            }
        }
        // All chunks of an acknowledged message are acknowledged.
        Await.until("the backlog is empty", () ->
                Broker.ADMIN.topics().getStats(topic).getSubscriptions().get("s").getMsgBacklog() == 0);
    }

    @Test
    void max_message_size__is_held_by_the_client_that_was_told() throws Exception {
        String topic = Broker.topic("max-size");
        byte[] fits = new byte[5 * 1024 * 1024 - 10 * 1024];
        byte[] tooLarge = new byte[5 * 1024 * 1024 + 1];
        new Random(1).nextBytes(fits);
        try (var consumer = Broker.consumer(topic, "s", Exclusive); var producer = Broker.producer(topic)) {
            assertThrows(PulsarClientException.InvalidMessageException.class, () -> producer.send(tooLarge));
            producer.send(fits);
            assertArrayEquals(fits, Text.next(consumer).getData());
        }
    }

    @Test
    void encryption__only_who_has_the_key_reads() throws Exception {
        String topic = Broker.topic("encryption");
        var keys = new Keys();
        try (var producer = Broker.producing(topic).addEncryptionKey("k1").cryptoKeyReader(keys).create();
                var batched = batching(topic).addEncryptionKey("k1").cryptoKeyReader(keys).create();
                var reading = Broker.consuming(topic, "reading", Exclusive).cryptoKeyReader(keys).subscribe();
                var blind = Broker.consuming(topic, "blind", Exclusive)
                        .cryptoFailureAction(ConsumerCryptoFailureAction.CONSUME)
                        .subscribe()) {
            producer.newMessage().property("p", "in the clear").value(Text.bytes("secret")).send();
            Text.sendBatch(batched, List.of("secret 1", "secret 2"));
            assertEquals(List.of("secret", "secret 1", "secret 2"), Text.takeAcked(reading, 3));
            Message<byte[]> sealed = Text.next(blind);
            String text = new String(sealed.getData(), StandardCharsets.ISO_8859_1);
            assertTrue(!text.contains("secret") && !text.isEmpty());
            assertEquals("in the clear", sealed.getProperty("p"));
            assertTrue(sealed.getEncryptionCtx().orElseThrow().getKeys().containsKey("k1"));
        }
    }

    /** An RSA pair, made for this run. */
    private static final class Keys implements CryptoKeyReader {
        private static final long serialVersionUID = 1L;
        private final transient KeyPair pair;

        Keys() throws Exception {
            KeyPairGenerator generator = KeyPairGenerator.getInstance("RSA");
            generator.initialize(2048);
            pair = generator.generateKeyPair();
        }

        @Override
        public EncryptionKeyInfo getPublicKey(String name, Map<String, String> metadata) {
            return pem("PUBLIC KEY", pair.getPublic().getEncoded());
        }

        @Override
        public EncryptionKeyInfo getPrivateKey(String name, Map<String, String> metadata) {
            return pem("PRIVATE KEY", pair.getPrivate().getEncoded());
        }

        private static EncryptionKeyInfo pem(String kind, byte[] der) {
            String body = Base64.getMimeEncoder(64, new byte[] {'\n'}).encodeToString(der);
            String text = "-----BEGIN " + kind + "-----\n" + body + "\n-----END " + kind + "-----\n";
            return new EncryptionKeyInfo(Text.bytes(text), Map.of());
        }
    }
}
