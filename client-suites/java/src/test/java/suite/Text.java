package suite;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;

import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;
import org.apache.pulsar.client.api.Consumer;
import org.apache.pulsar.client.api.Message;
import org.apache.pulsar.client.api.MessageId;
import org.apache.pulsar.client.api.Producer;
import org.apache.pulsar.client.api.PulsarClientException;
import org.apache.pulsar.client.api.Reader;

/** Messages whose payload is a short text, sent and received by the handful. */
final class Text {
    private Text() {}

    /** {@code m-0, m-1, ...} */
    static List<String> numbered(int from, int to) {
        return IntStream.range(from, to).mapToObj(number -> "m-" + number).toList();
    }

    static byte[] bytes(String text) {
        return text.getBytes(UTF_8);
    }

    static String of(Message<byte[]> message) {
        return new String(message.getData(), UTF_8);
    }

    static List<String> of(List<Message<byte[]>> messages) {
        return messages.stream().map(Text::of).toList();
    }

    /** One after another, each with its receipt. */
    static List<MessageId> send(Producer<byte[]> producer, List<String> texts) throws PulsarClientException {
        List<MessageId> ids = new ArrayList<>();
        for (String text : texts) {
            ids.add(producer.send(bytes(text)));
        }
        return ids;
    }

    /** All in one batch of a batching producer whose batches end by {@code flush} only. */
    static List<MessageId> sendBatch(Producer<byte[]> producer, List<String> texts) throws PulsarClientException {
        var sends = texts.stream().map(text -> producer.sendAsync(bytes(text))).toList();
        producer.flush();
        return sends.stream().map(send -> send.join()).toList();
    }

    /** The next message; fails when none comes. */
    static Message<byte[]> next(Consumer<byte[]> consumer) throws PulsarClientException {
        Message<byte[]> message = consumer.receive((int) Await.PATIENCE.toSeconds(), TimeUnit.SECONDS);
        assertNotNull(message, () -> "nothing came to " + consumer.getSubscription() + " of " + consumer.getTopic());
        return message;
    }

    static List<Message<byte[]>> take(Consumer<byte[]> consumer, int count) throws PulsarClientException {
        List<Message<byte[]>> messages = new ArrayList<>();
        for (int taken = 0; taken < count; taken++) {
            messages.add(next(consumer));
        }
        return messages;
    }

    /** The next texts, acknowledged. */
    static List<String> takeAcked(Consumer<byte[]> consumer, int count) throws PulsarClientException {
        List<String> texts = new ArrayList<>();
        for (Message<byte[]> message : take(consumer, count)) {
            texts.add(of(message));
            consumer.acknowledge(message);
        }
        return texts;
    }

    static List<String> take(Reader<byte[]> reader, int count) throws PulsarClientException {
        List<String> texts = new ArrayList<>();
        for (int taken = 0; taken < count; taken++) {
            Message<byte[]> message = reader.readNext((int) Await.PATIENCE.toSeconds(), TimeUnit.SECONDS);
            assertNotNull(message, () -> "nothing came to the reader of " + reader.getTopic());
            texts.add(of(message));
        }
        return texts;
    }

    /** That nothing is there and nothing comes while one looks. */
    static void assertSilent(Consumer<byte[]> consumer) throws PulsarClientException {
        Message<byte[]> message = consumer.receive(500, TimeUnit.MILLISECONDS);
        assertNull(message, () -> "unexpected: " + of(message) + " " + message.getMessageId());
    }
}
