package suite;

import static org.apache.pulsar.client.api.SubscriptionType.Exclusive;
import static org.apache.pulsar.client.api.SubscriptionType.Shared;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.pulsar.client.admin.LongRunningProcessStatus;
import org.apache.pulsar.client.admin.PulsarAdminException.NotFoundException;
import org.apache.pulsar.client.admin.PulsarAdminException;
import org.apache.pulsar.client.admin.Topics;
import org.apache.pulsar.client.api.Message;
import org.apache.pulsar.client.api.MessageId;
import org.apache.pulsar.client.api.MessageIdAdv;
import org.apache.pulsar.client.impl.MessageIdImpl;
import org.junit.jupiter.api.Test;

/** Topics and subscriptions by the admin API. */
class AdminTopicsTest {
    private static final Topics TOPICS = Broker.ADMIN.topics();

    private static long backlog(String topic) throws PulsarAdminException {
        return TOPICS.getStats(topic).getSubscriptions().get("s").getMsgBacklog();
    }

    private static void awaitBacklog(String topic, long count) {
        Await.until("the backlog is " + count, () -> backlog(topic), left -> left == count);
    }

    /** A topic with a subscription `s` and ten messages that wait in it. */
    private static List<MessageId> filled(String topic) throws Exception {
        TOPICS.createSubscription(topic, "s", MessageId.earliest);
        try (var producer = Broker.producer(topic)) {
            return Text.send(producer, Text.numbered(0, 10));
        }
    }

    private static List<String> left(String topic, int count) throws Exception {
        try (var consumer = Broker.consumer(topic, "s", Exclusive)) {
            return Text.takeAcked(consumer, count);
        }
    }

    @Test
    void admin_topics__create_list_delete() throws Exception {
        String namespace = Broker.namespace("topics");
        String topic = "persistent://" + namespace + "/t";
        TOPICS.createNonPartitionedTopic(topic);
        assertThrows(PulsarAdminException.ConflictException.class, () -> TOPICS.createNonPartitionedTopic(topic));
        TOPICS.createNonPartitionedTopic("persistent://" + namespace + "/with%2Fslash and space");
        assertTrue(TOPICS.getList(namespace).containsAll(
                List.of(topic, "persistent://" + namespace + "/with%2Fslash and space")));
        TOPICS.delete(topic);
        assertFalse(TOPICS.getList(namespace).contains(topic));
        assertThrows(NotFoundException.class, () -> TOPICS.delete(topic));
    }

    @Test
    void admin_partitions__create_grow_delete() throws Exception {
        String namespace = Broker.namespace("partitions");
        String topic = "persistent://" + namespace + "/t";
        TOPICS.createPartitionedTopic(topic, 2, Map.of("owner", "me"));
        assertEquals(List.of(topic), TOPICS.getPartitionedTopicList(namespace));
        var metadata = TOPICS.getPartitionedTopicMetadata(topic);
        assertEquals(2, metadata.partitions);
        assertEquals(Map.of("owner", "me"), metadata.properties);
        assertTrue(TOPICS.getList(namespace).containsAll(List.of(topic + "-partition-0", topic + "-partition-1")));
        assertThrows(PulsarAdminException.ConflictException.class, () -> TOPICS.createPartitionedTopic(topic, 3));
        TOPICS.updatePartitionedTopic(topic, 3);
        assertEquals(3, TOPICS.getPartitionedTopicMetadata(topic).partitions);
        TOPICS.deletePartitionedTopic(topic);
        assertEquals(List.of(), TOPICS.getPartitionedTopicList(namespace));
        assertFalse(TOPICS.getList(namespace).contains(topic + "-partition-0"));
    }

    @Test
    void admin_stats__of_a_topic() throws Exception {
        String topic = Broker.topic("admin-stats");
        try (var producer = Broker.producing(topic).producerName("p").create();
                var consumer = Broker.consuming(topic, "s", Shared).consumerName("c").subscribe()) {
            Text.send(producer, Text.numbered(0, 10));
            List<Message<byte[]>> messages = Text.take(consumer, 10);
            consumer.acknowledge(messages.get(0));
            awaitBacklog(topic, 9);
            var stats = TOPICS.getStats(topic);
            assertEquals(10, stats.getMsgInCounter());
            assertEquals(10, stats.getMsgOutCounter());
            assertTrue(stats.getBytesInCounter() > 0);
            assertTrue(stats.getStorageSize() > 0);
            assertEquals(1, stats.getPublishers().size());
            var publisher = stats.getPublishers().get(0);
            assertEquals("p", publisher.getProducerName());
            assertTrue(publisher.getAddress().contains("127.0.0.1"));
            assertNotNull(publisher.getConnectedSince());
            var subscription = stats.getSubscriptions().get("s");
            assertEquals("Shared", subscription.getType());
            assertEquals(9, subscription.getUnackedMessages());
            var shown = subscription.getConsumers().get(0);
            assertEquals("c", shown.getConsumerName());
            assertEquals(9, shown.getUnackedMessages());
            assertEquals(10, shown.getMsgOutCounter());
        }
    }

    @Test
    void admin_stats__of_a_partitioned_topic() throws Exception {
        String topic = Broker.topic("admin-partitioned-stats");
        TOPICS.createPartitionedTopic(topic, 2);
        TOPICS.createSubscription(topic, "s", MessageId.earliest);
        try (var producer = Broker.producer(topic)) {
            Text.send(producer, Text.numbered(0, 10));
            var stats = TOPICS.getPartitionedStats(topic, true);
            assertEquals(2, stats.getMetadata().partitions);
            assertEquals(Set.of(topic + "-partition-0", topic + "-partition-1"), stats.getPartitions().keySet());
            assertEquals(10, stats.getMsgInCounter());
            assertEquals(10, stats.getSubscriptions().get("s").getMsgBacklog());
        }
    }

    @Test
    void admin_internal_stats__name_ledgers_and_cursors() throws Exception {
        String topic = Broker.topic("admin-internal");
        List<MessageId> ids = filled(topic);
        var last = (MessageIdAdv) ids.get(9);
        var stats = TOPICS.getInternalStats(topic);
        assertEquals(10, stats.numberOfEntries);
        assertTrue(stats.totalSize > 0);
        assertEquals(last.getLedgerId() + ":" + last.getEntryId(), stats.lastConfirmedEntry);
        assertTrue(stats.ledgers.stream().anyMatch(ledger -> ledger.ledgerId == last.getLedgerId()));
        assertTrue(stats.cursors.containsKey("s"));
        assertNotNull(stats.cursors.get("s").markDeletePosition);
    }

    @Test
    void admin_subscriptions__create_list_delete() throws Exception {
        String topic = Broker.topic("admin-subscriptions");
        try (var producer = Broker.producer(topic)) {
            List<MessageId> ids = Text.send(producer, Text.numbered(0, 10));
            TOPICS.createSubscription(topic, "earliest", MessageId.earliest);
            TOPICS.createSubscription(topic, "latest", MessageId.latest);
            TOPICS.createSubscription(topic, "at", ids.get(4), false, Map.of("a", "b"));
            assertEquals(Set.of("earliest", "latest", "at"), Set.copyOf(TOPICS.getSubscriptions(topic)));
            assertThrows(
                    PulsarAdminException.ConflictException.class,
                    () -> TOPICS.createSubscription(topic, "latest", MessageId.latest));
            var subscriptions = TOPICS.getStats(topic).getSubscriptions();
            assertEquals(10, subscriptions.get("earliest").getMsgBacklog());
            assertEquals(0, subscriptions.get("latest").getMsgBacklog());
            assertEquals(Map.of("a", "b"), TOPICS.getSubscriptionProperties(topic, "at"));
            TOPICS.updateSubscriptionProperties(topic, "at", Map.of("c", "d"));
            assertEquals(Map.of("c", "d"), TOPICS.getSubscriptionProperties(topic, "at"));
            try (var consumer = Broker.consumer(topic, "at", Exclusive)) {
                String first = Text.of(Text.next(consumer));
                assertTrue(Set.of("m-4", "m-5").contains(first), first);
                assertThrows(PulsarAdminException.class, () -> TOPICS.deleteSubscription(topic, "at"));
            }
            TOPICS.deleteSubscription(topic, "at");
            TOPICS.deleteSubscription(topic, "latest", true);
            assertEquals(List.of("earliest"), TOPICS.getSubscriptions(topic));
            assertThrows(NotFoundException.class, () -> TOPICS.deleteSubscription(topic, "at"));
        }
    }

    @Test
    void admin_peek__looks_and_changes_nothing() throws Exception {
        String topic = Broker.topic("admin-peek");
        TOPICS.createSubscription(topic, "s", MessageId.earliest);
        try (var producer = Broker.producer(topic); var batching = PayloadTest.batching(topic).create()) {
            producer.newMessage().key("k").property("p", "v").eventTime(77).value(Text.bytes("one")).send();
            producer.send(Text.bytes("two"));
            Text.sendBatch(batching, List.of("three", "four"));
        }
        List<Message<byte[]>> messages = TOPICS.peekMessages(topic, "s", 3);
        assertEquals(List.of("one", "two", "three"), Text.of(messages).subList(0, 3));
        assertEquals("k", messages.get(0).getKey());
        assertEquals("v", messages.get(0).getProperty("p"));
        assertEquals(77, messages.get(0).getEventTime());
        assertTrue(messages.get(0).getPublishTime() > 0);
        // The batch is one entry.
        assertEquals(3, backlog(topic));
    }

    @Test
    void admin_peek__a_message_by_its_id() throws Exception {
        String topic = Broker.topic("admin-get");
        var id = (MessageIdAdv) filled(topic).get(6);
        List<Message<byte[]>> messages = TOPICS.getMessagesById(topic, id.getLedgerId(), id.getEntryId());
        assertEquals(List.of("m-6"), Text.of(messages));
        assertThrows(PulsarAdminException.class, () -> TOPICS.getMessagesById(topic, id.getLedgerId(), 1_000));
        assertEquals("m-1", Text.of(TOPICS.examineMessage(topic, "earliest", 2)));
        assertEquals("m-9", Text.of(TOPICS.examineMessage(topic, "latest", 1)));
    }

    @Test
    void admin_skip__some_and_all() throws Exception {
        String topic = Broker.topic("admin-skip");
        filled(topic);
        TOPICS.skipMessages(topic, "s", 4);
        awaitBacklog(topic, 6);
        assertEquals(Text.numbered(4, 6), left(topic, 2));
        TOPICS.skipAllMessages(topic, "s");
        awaitBacklog(topic, 0);
        assertThrows(NotFoundException.class, () -> TOPICS.skipMessages(topic, "nobody", 1));
    }

    @Test
    void admin_expire__up_to_a_message() throws Exception {
        String topic = Broker.topic("admin-expire");
        List<MessageId> ids = filled(topic);
        TOPICS.expireMessages(topic, "s", ids.get(6), false);
        awaitBacklog(topic, 3);
        assertEquals(Text.numbered(7, 10), left(topic, 3));
    }

    @Test
    void admin_reset_cursor__to_a_message_and_to_a_time() throws Exception {
        String topic = Broker.topic("admin-reset");
        List<MessageId> ids = filled(topic);
        assertEquals(Text.numbered(0, 10), left(topic, 10));
        TOPICS.resetCursor(topic, "s", ids.get(6));
        assertEquals(Text.numbered(6, 10), left(topic, 4));
        TOPICS.resetCursor(topic, "s", ids.get(6), true);
        assertEquals(Text.numbered(7, 10), left(topic, 3));
        TOPICS.resetCursor(topic, "s", 1);
        assertEquals(Text.numbered(0, 10), left(topic, 10));
        TOPICS.resetCursor(topic, "s", MessageId.latest);
        awaitBacklog(topic, 0);
    }

    @Test
    void admin_reset_cursor__brings_back_a_connected_consumer() throws Exception {
        String topic = Broker.topic("admin-reset-connected");
        List<MessageId> ids = filled(topic);
        try (var consumer = Broker.consumer(topic, "s", Shared)) {
            Text.takeAcked(consumer, 10);
            // The client gathers acks; those that come after the reset count.
            awaitBacklog(topic, 0);
            TOPICS.resetCursor(topic, "s", ids.get(8));
            assertEquals(Text.numbered(8, 10), Text.takeAcked(consumer, 2));
        }
    }

    @Test
    void admin_last_message_id__and_the_one_of_a_time() throws Exception {
        String topic = Broker.topic("admin-last");
        List<MessageId> ids = filled(topic);
        var last = (MessageIdImpl) TOPICS.getLastMessageId(topic);
        assertEquals(((MessageIdAdv) ids.get(9)).getEntryId(), last.getEntryId());
        var first = (MessageIdAdv) TOPICS.getMessageIdByTimestamp(topic, 1);
        assertEquals(((MessageIdAdv) ids.get(0)).getEntryId(), first.getEntryId());
    }

    @Test
    void admin_terminate__tells_the_last_message() throws Exception {
        String topic = Broker.topic("admin-terminate");
        List<MessageId> ids = filled(topic);
        var last = (MessageIdAdv) TOPICS.terminateTopic(topic);
        assertEquals(((MessageIdAdv) ids.get(9)).getEntryId(), last.getEntryId());
    }

    @Test
    void admin_compaction__has_a_state() throws Exception {
        String topic = Broker.topic("admin-compaction");
        filled(topic);
        assertEquals(LongRunningProcessStatus.Status.NOT_RUN, TOPICS.compactionStatus(topic).status);
        TOPICS.triggerCompaction(topic);
        Await.until(
                "it is done",
                () -> TOPICS.compactionStatus(topic),
                status -> status.status == LongRunningProcessStatus.Status.SUCCESS);
    }

    @Test
    void admin_compaction__the_stats_tell_of_the_last_one() throws Exception {
        String topic = Broker.topic("admin-compaction-stats");
        try (var producer = Broker.producer(topic)) {
            producer.newMessage().key("a").value(Text.bytes("1")).send();
            producer.newMessage().key("b").value(Text.bytes("1")).send();
            // These three remove: one replaces, one deletes its key, one has none.
            producer.newMessage().key("a").value(Text.bytes("2")).send();
            producer.newMessage().key("b").value(new byte[0]).send();
            producer.send(Text.bytes("no key"));
        }
        assertEquals(0, TOPICS.getStats(topic).getCompaction().getLastCompactionSucceedTimestamp());
        TOPICS.triggerCompaction(topic);
        var told = Await.until(
                "it is compacted",
                () -> TOPICS.getStats(topic).getCompaction(),
                last -> last.getLastCompactionSucceedTimestamp() > 0);
        assertEquals(3, told.getLastCompactionRemovedEventCount());
        assertEquals(0, told.getLastCompactionFailedTimestamp());
    }

    @Test
    void admin_unload__needs_a_topic() throws Exception {
        String topic = Broker.topic("admin-unload");
        assertThrows(NotFoundException.class, () -> TOPICS.unload(topic));
        filled(topic);
        TOPICS.unload(topic);
        assertEquals(Text.numbered(0, 10), left(topic, 10));
    }

    @Test
    void admin_truncate__leaves_nothing_to_any_subscription() throws Exception {
        String topic = Broker.topic("admin-truncate");
        filled(topic);
        TOPICS.createSubscription(topic, "other", MessageId.earliest);
        TOPICS.truncate(topic);
        awaitBacklog(topic, 0);
        assertEquals(0, TOPICS.getStats(topic).getSubscriptions().get("other").getMsgBacklog());
    }

    @Test
    void admin_errors__what_is_not_there() throws Exception {
        String topic = Broker.topic("admin-missing");
        assertThrows(NotFoundException.class, () -> TOPICS.getStats(topic));
        assertThrows(NotFoundException.class, () -> TOPICS.getInternalStats(topic));
        assertThrows(NotFoundException.class, () -> TOPICS.getSubscriptions(topic));
        assertThrows(NotFoundException.class, () -> TOPICS.getPartitionedStats(topic, false));
        var refused = assertThrows(NotFoundException.class, () -> TOPICS.getList("public/" + Broker.unique("no-ns")));
        assertEquals(404, refused.getStatusCode());
        assertFalse(refused.getHttpError().isBlank());
    }
}
