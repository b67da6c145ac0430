package suite;

import static org.apache.pulsar.client.api.SubscriptionType.Exclusive;
import static org.apache.pulsar.client.api.SubscriptionType.Shared;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;

import java.util.List;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import org.apache.pulsar.client.api.ConsumerBuilder;
import org.apache.pulsar.client.api.RegexSubscriptionMode;
import org.apache.pulsar.client.api.SubscriptionInitialPosition;
import org.apache.pulsar.common.api.proto.BaseCommand;
import org.apache.pulsar.common.protocol.Commands;
import org.junit.jupiter.api.Test;

/** One consumer on many topics: named, or found by a pattern, also when they come and go (PIP-145). */
class PatternTest {
    private static void put(String topic, String text) throws Exception {
        try (var producer = Broker.producer(topic)) {
            producer.send(Text.bytes(text));
        }
    }

    /** At most 50 characters: of a longer pattern Pulsar's brokers leave the matching to the client. */
    private static ConsumerBuilder<byte[]> matching(String pattern) {
        return Broker.CLIENT.newConsumer()
                .topicsPattern(Pattern.compile(pattern))
                .subscriptionName("s")
                .subscriptionType(Shared)
                .subscriptionInitialPosition(SubscriptionInitialPosition.Earliest);
    }

    @Test
    void multi_topics__one_consumer_on_several() throws Exception {
        List<String> topics = List.of(Broker.topic("multi-a"), Broker.topic("multi-b"));
        Broker.ADMIN.topics().createPartitionedTopic(topics.get(1), 2);
        try (var consumer = Broker.CLIENT.newConsumer().topics(topics).subscriptionName("s").subscribe()) {
            put(topics.get(0), "a");
            put(topics.get(1), "b");
            assertEquals(Set.of("a", "b"), Set.copyOf(Text.takeAcked(consumer, 2)));
        }
    }

    @Test
    void regex_subscription__topics_that_are_there() throws Exception {
        String prefix = "persistent://" + Broker.namespace("regex") + "/";
        put(prefix + "metrics-a", "a");
        put(prefix + "metrics-b", "b");
        put(prefix + "other", "other");
        Broker.ADMIN.topics().createPartitionedTopic(prefix + "metrics-c", 3);
        put(prefix + "metrics-c", "c");
        try (var consumer = matching(prefix + "metrics-.*").subscribe()) {
            assertEquals(Set.of("a", "b", "c"), Set.copyOf(Text.takeAcked(consumer, 3)));
            Text.assertSilent(consumer);
            put(prefix + "other", "other again");
            put(prefix + "metrics-a", "a again");
            assertEquals(List.of("a again"), Text.takeAcked(consumer, 1));
        }
    }

    @Test
    void regex_subscription__persistent_or_not() throws Exception {
        String namespace = Broker.namespace("regex-mode");
        try (var stored = Broker.consumer("persistent://" + namespace + "/t", "other", Exclusive);
                var passing = Broker.consumer("non-persistent://" + namespace + "/t", "other", Exclusive);
                var persistent = matching(namespace + "/.*").subscribe();
                var nonPersistent = matching(namespace + "/.*")
                        .subscriptionTopicsMode(RegexSubscriptionMode.NonPersistentOnly)
                        .subscribe();
                var all = matching(namespace + "/.*")
                        .subscriptionName("all")
                        .subscriptionTopicsMode(RegexSubscriptionMode.AllTopics)
                        .subscribe()) {
            put(stored.getTopic(), "stored");
            put(passing.getTopic(), "passing");
            assertEquals(List.of("stored"), Text.takeAcked(persistent, 1));
            assertEquals(List.of("passing"), Text.takeAcked(nonPersistent, 1));
            assertEquals(Set.of("stored", "passing"), Set.copyOf(Text.takeAcked(all, 2)));
        }
    }

    @Test
    void regex_subscription__is_looked_at_again_from_time_to_time() throws Exception {
        String prefix = "persistent://" + Broker.namespace("poll") + "/";
        try (var consumer = matching(prefix + "t-.*").patternAutoDiscoveryPeriod(1, TimeUnit.SECONDS).subscribe()) {
            put(prefix + "t-1", "one");
            put(prefix + "u-1", "another");
            assertEquals(List.of("one"), Text.takeAcked(consumer, 1));
        }
    }

    @Test
    void topic_list_watcher__a_topic_that_comes_later_is_told() throws Exception {
        String prefix = "persistent://" + Broker.namespace("watch") + "/";
        put(prefix + "t-0", "zero");
        // Nothing but the broker's word brings the news within this test's patience.
        try (var consumer = matching(prefix + "t-.*").patternAutoDiscoveryPeriod(1, TimeUnit.HOURS).subscribe()) {
            assertEquals(List.of("zero"), Text.takeAcked(consumer, 1));
            put(prefix + "t-1", "one");
            put(prefix + "other", "other");
            assertEquals(List.of("one"), Text.takeAcked(consumer, 1));
            Broker.ADMIN.topics().createPartitionedTopic(prefix + "t-2", 2);
            put(prefix + "t-2", "two");
            assertEquals(List.of("two"), Text.takeAcked(consumer, 1));
        }
    }

    @Test
    void topic_list_watcher__tells_what_comes_and_goes() throws Exception {
        String namespace = Broker.namespace("told");
        String prefix = "persistent://" + namespace + "/";
        Broker.ADMIN.topics().createNonPartitionedTopic(prefix + "t-0");
        Broker.ADMIN.topics().createNonPartitionedTopic(prefix + "other");
        // The client forgets a topic's consumer in its own time, so the broker is asked itself.
        try (var raw = new Raw()) {
            raw.connect(21);
            raw.send(Commands.serializeWithSize(
                    Commands.newWatchTopicList(1, 7, namespace, prefix + "t-.*", null)));
            BaseCommand answer = raw.next();
            assertEquals(BaseCommand.Type.WATCH_TOPIC_LIST_SUCCESS, answer.getType());
            var list = answer.getWatchTopicListSuccess();
            assertEquals(7, list.getWatcherId());
            assertEquals(List.of(prefix + "t-0"), list.getTopicsList());
            Broker.ADMIN.topics().createNonPartitionedTopic(prefix + "other-2");
            Broker.ADMIN.topics().createNonPartitionedTopic(prefix + "t-1");
            var born = raw.next().getWatchTopicUpdate();
            assertEquals(List.of(prefix + "t-1"), born.getNewTopicsList());
            assertEquals(0, born.getDeletedTopicsCount());
            Broker.ADMIN.topics().delete(prefix + "t-0");
            var gone = raw.next().getWatchTopicUpdate();
            assertEquals(7, gone.getWatcherId());
            assertEquals(List.of(prefix + "t-0"), gone.getDeletedTopicsList());
            assertNotEquals(list.getTopicsHash(), gone.getTopicsHash());
        }
    }
}
