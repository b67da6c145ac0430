// Subscription types, acknowledging, giving back, dead letters.

const assert = require('node:assert/strict');
const { test } = require('node:test');
const {
  Pulsar, admin, assertSilent, collect, eventually, newClient, newTopic, numbers, receive, receiveTexts, send, sendBatches,
  sendTexts, sorted, text,
} = require('./suite');

const UNBATCHED = { batchingEnabled: false };
const client = newClient();

function subscribe(topic, subscriptionType, options = {}) {
  return newClient().subscribe({
    topic, subscription: 'all', subscriptionType, subscriptionInitialPosition: 'Earliest', ...options,
  });
}

function producer(topic, options = {}) {
  return client.createProducer({ topic, ...UNBATCHED, ...options });
}

async function receiveMany(consumer, count) {
  const messages = [];
  for (let n = 0; n < count; n += 1) messages.push(await receive(consumer));
  return messages;
}

test('subscribe__begins_at_the_latest_or_the_earliest_message', async () => {
  const topic = newTopic();
  const sender = await producer(topic);
  await client.subscribe({ topic, subscription: 'keeper' });
  await send(sender, 'before');
  const latest = await client.subscribe({ topic, subscription: 'latest' });
  const earliest = await client.subscribe({ topic, subscription: 'earliest', subscriptionInitialPosition: 'Earliest' });
  await send(sender, 'after');
  assert.deepEqual(await receiveTexts(latest, 1), ['after']);
  assert.deepEqual(await receiveTexts(earliest, 2), ['before', 'after']);
});

test('subscribe__another_type_is_refused_while_there_are_consumers', async () => {
  const topic = newTopic();
  await subscribe(topic, 'Shared');
  for (const other of ['Exclusive', 'Failover', 'KeyShared']) await assert.rejects(subscribe(topic, other), /ConsumerBusy/);
});

test('subscribe__a_listener_is_given_the_messages', async () => {
  const topic = newTopic();
  const got = [];
  await client.subscribe({
    topic,
    subscription: 'all',
    listener: (message, consumer) => {
      got.push(text(message));
      consumer.acknowledge(message);
    },
  });
  await sendTexts(await producer(topic), numbers(1, 20));
  await eventually('all messages', () => got.length === 20);
  assert.deepEqual(got, numbers(1, 20));
  await eventually('all acks', async () => (await admin.backlog(topic, 'all')) === 0);
});

test('exclusive__a_second_consumer_is_refused', async () => {
  const topic = newTopic();
  const first = await subscribe(topic, 'Exclusive');
  await assert.rejects(subscribe(topic, 'Exclusive'), /ConsumerBusy/);
  await send(await producer(topic), 'a');
  assert.deepEqual(await receiveTexts(first, 1), ['a']);
});

test('failover__one_gets_everything_and_the_next_takes_over', async () => {
  const topic = newTopic();
  const consumers = [await subscribe(topic, 'Failover', { consumerName: 'a' }),
    await subscribe(topic, 'Failover', { consumerName: 'b' })];
  const sender = await producer(topic);
  await sendTexts(sender, numbers(1, 10));
  const shares = await collect(consumers, 10);
  const active = shares[0].length ? 0 : 1;
  assert.deepEqual(shares[active].map(text), numbers(1, 10));
  await send(sender, 'unacknowledged');
  assert.equal(text(await receive(consumers[active])), 'unacknowledged');
  await consumers[active].close();
  await send(sender, 'new');
  assert.deepEqual(await receiveTexts(consumers[1 - active], 2), ['unacknowledged', 'new']);
});

test('shared__consumers_share_the_messages', async () => {
  const topic = newTopic();
  const consumers = await Promise.all(numbers(1, 3).map(() => subscribe(topic, 'Shared', { receiverQueueSize: 10 })));
  await eventually('three consumers with permits', async () => {
    const { consumers: all } = await admin.subscription(topic, 'all');
    return all.filter((one) => one.availablePermits > 0).length === 3;
  });
  await sendTexts(await producer(topic), numbers(1, 30));
  const shares = await collect(consumers, 30);
  assert.deepEqual(sorted(shares.flat().map(text)), numbers(1, 30));
  assert.ok(shares.every((share) => share.length > 0));
});

test('key_shared__a_key_has_one_consumer_and_its_order', async () => {
  const topic = newTopic();
  const consumers = await Promise.all(numbers(1, 3).map(() => subscribe(topic, 'KeyShared')));
  const sender = await producer(topic);
  const keys = numbers(1, 20).map((n) => `key-${n}`);
  for (const n of numbers(1, 5)) {
    for (const partitionKey of keys) await send(sender, n, { partitionKey });
  }
  const shares = await collect(consumers, 100);
  const orders = new Map();
  const owners = new Map();
  shares.forEach((share, owner) => share.forEach((message) => {
    const key = message.getPartitionKey();
    orders.set(key, [...(orders.get(key) || []), text(message)]);
    owners.set(key, (owners.get(key) || new Set()).add(owner));
  }));
  assert.equal(orders.size, 20);
  for (const key of keys) {
    assert.deepEqual(orders.get(key), numbers(1, 5));
    assert.equal(owners.get(key).size, 1);
  }
  assert.ok(shares.filter((share) => share.length > 0).length > 1);
});

test('flow__no_more_is_delivered_than_the_receiver_queue_takes', async () => {
  const topic = newTopic();
  const first = await subscribe(topic, 'Shared', { receiverQueueSize: 5 });
  await sendTexts(await producer(topic), numbers(1, 50));
  await eventually('five on their way', async () => (await admin.subscription(topic, 'all')).unackedMessages === 5);
  const other = await subscribe(topic, 'Shared', { receiverQueueSize: 100 });
  assert.equal((await receiveTexts(other, 45)).length, 45);
  await assertSilent(other);
  // Also keeps it from being collected as garbage, which would close it and give its five to the other.
  assert.equal((await receiveTexts(first, 5)).length, 5);
});

test('ack__only_what_was_acknowledged_stays_away', async () => {
  const topic = newTopic();
  const first = await subscribe(topic, 'Shared');
  await sendTexts(await producer(topic), numbers(1, 10));
  for (const message of await receiveMany(first, 10)) {
    if (Number(text(message)) % 2 === 0) await first.acknowledgeId(message.getMessageId());
  }
  await first.close();
  const second = await subscribe(topic, 'Shared');
  assert.deepEqual(sorted(await receiveTexts(second, 5)), ['1', '3', '5', '7', '9']);
  await assertSilent(second);
});

test('ack_cumulative__everything_up_to_it_stays_away', async () => {
  const topic = newTopic();
  const first = await subscribe(topic, 'Exclusive');
  await sendTexts(await producer(topic), numbers(1, 10));
  const messages = await receiveMany(first, 10);
  await first.acknowledgeCumulative(messages[6]);
  await first.close();
  assert.deepEqual(await receiveTexts(await subscribe(topic, 'Exclusive'), 3), numbers(8, 10));
});

test('ack_batch_index__single_messages_of_a_batch_stay_away', async () => {
  const topic = newTopic();
  const first = await subscribe(topic, 'Shared', { batchIndexAckEnabled: true });
  await sendBatches(client, topic, numbers(0, 9), 10);
  for (const message of await receiveMany(first, 10)) {
    if (!['3', '7'].includes(text(message))) await first.acknowledge(message);
  }
  await first.close();
  const second = await subscribe(topic, 'Shared', { batchIndexAckEnabled: true });
  assert.deepEqual(await receiveTexts(second, 2), ['3', '7']);
  await assertSilent(second);
});

test('redelivery_count__goes_up_with_each_negative_ack', async () => {
  const topic = newTopic();
  const consumer = await subscribe(topic, 'Shared', { nAckRedeliverTimeoutMs: 100 });
  await send(await producer(topic), 'a');
  const counts = [];
  for (let n = 0; n < 4; n += 1) {
    const message = await receive(consumer);
    counts.push(message.getRedeliveryCount());
    consumer.negativeAcknowledge(message);
  }
  assert.deepEqual(counts, [0, 1, 2, 3]);
});

test('negative_ack__the_message_comes_again_and_others_do_not', async () => {
  const topic = newTopic();
  const consumer = await subscribe(topic, 'Shared', { nAckRedeliverTimeoutMs: 100 });
  await sendTexts(await producer(topic), numbers(1, 5));
  for (const message of await receiveMany(consumer, 5)) {
    if (text(message) === '3') consumer.negativeAcknowledgeId(message.getMessageId());
    else await consumer.acknowledge(message);
  }
  assert.deepEqual(await receiveTexts(consumer, 1), ['3']);
  await assertSilent(consumer);
});

test('dead_letter__after_too_many_deliveries_the_message_moves', async () => {
  const topic = newTopic();
  const deadLetterTopic = `${topic}-dead`;
  const graveyard = await client.subscribe({ topic: deadLetterTopic, subscription: 'operators' });
  const deadLetterPolicy = { deadLetterTopic, maxRedeliverCount: 2, initialSubscriptionName: 'first' };
  const consumer = await subscribe(topic, 'Shared', { nAckRedeliverTimeoutMs: 100, deadLetterPolicy });
  await send(await producer(topic), 'poison', { partitionKey: 'key', properties: { a: '1' } });
  for (let n = 0; n < 3; n += 1) consumer.negativeAcknowledge(await receive(consumer));
  const letter = await receive(graveyard);
  assert.equal(text(letter), 'poison');
  assert.equal(letter.getPartitionKey(), 'key');
  assert.equal(letter.getProperties().a, '1');
  await eventually('an empty backlog', async () => (await admin.backlog(topic, 'all')) === 0);
});

test('unsubscribe__forgets_the_subscription', async () => {
  const topic = newTopic();
  const sender = await producer(topic);
  const consumer = await client.subscribe({ topic, subscription: 'all' });
  await send(sender, 'before');
  await consumer.unsubscribe();
  const again = await client.subscribe({ topic, subscription: 'all' });
  await send(sender, 'after');
  assert.deepEqual(await receiveTexts(again, 1), ['after']);
});

test('multi_topics__one_consumer_on_several_topics', async () => {
  const topics = [newTopic(), newTopic(), newTopic()];
  const consumer = await client.subscribe({ topics, subscription: 'all' });
  for (const topic of topics) await send(await producer(topic), topic);
  const [messages] = await collect([consumer], 3);
  assert.deepEqual(messages.map(text).sort(), [...topics].sort());
});

test('regex_subscription__takes_the_topics_that_match', async () => {
  const namespace = await admin.namespace();
  const topics = ['good-1', 'good-2', 'bad-1'].map((name) => `persistent://${namespace}/${name}`);
  const senders = await Promise.all(topics.map((topic) => producer(topic)));
  const consumer = await client.subscribe({
    topicsPattern: `persistent://${namespace}/good-.*`, subscription: 'all', subscriptionInitialPosition: 'Earliest',
  });
  for (const sender of senders) await send(sender, sender.getTopic());
  const [messages] = await collect([consumer], 2);
  assert.deepEqual(messages.map(text).sort(), topics.slice(0, 2));
  await assertSilent(consumer);
});

test('partitioned_topics__messages_spread_and_all_arrive', async () => {
  const topic = newTopic();
  await admin.partitions(topic, 3);
  assert.deepEqual(await client.getPartitionsForTopic(topic), [0, 1, 2].map((n) => `${topic}-partition-${n}`));
  const consumer = await client.subscribe({ topic, subscription: 'all' });
  const sender = await producer(topic, { messageRoutingMode: 'RoundRobinDistribution' });
  const ids = await sendTexts(sender, numbers(1, 30));
  // (ledger,entry,partition,index within the batch)
  assert.equal(new Set(ids.map((id) => id.toString().split(',')[2])).size, 3);
  assert.deepEqual(sorted(await receiveTexts(consumer, 30)), numbers(1, 30));
});

test('delayed_delivery__not_before_it_is_due_and_others_pass_it', async () => {
  const topic = newTopic();
  const consumer = await subscribe(topic, 'Shared');
  const sender = await producer(topic);
  const due = Date.now() + 3_000;
  await send(sender, 'late', { deliverAt: due });
  await send(sender, 'at once');
  assert.deepEqual(await receiveTexts(consumer, 2), ['at once', 'late']);
  // A second less: Pulsar's tick.
  assert.ok(Date.now() >= due - 1_000);
});

test('non_persistent__messages_reach_who_is_there', async () => {
  const topic = newTopic('non-persistent');
  const sender = await producer(topic);
  await send(sender, 'nobody is there');
  const consumers = [await client.subscribe({ topic, subscription: 'one' }),
    await client.subscribe({ topic, subscription: 'two' })];
  await sendTexts(sender, ['a', 'b', 'c']);
  for (const consumer of consumers) {
    assert.deepEqual(await receiveTexts(consumer, 3), ['a', 'b', 'c']);
    await assertSilent(consumer);
  }
});

test('unload__producers_and_consumers_go_on', async () => {
  const topic = newTopic();
  const consumer = await subscribe(topic, 'Shared');
  const sender = await producer(topic);
  await sendTexts(sender, numbers(1, 10));
  await admin.unload(topic);
  await sendTexts(sender, numbers(11, 20));
  const got = new Set();
  while (got.size < 20) {
    const message = await receive(consumer);
    got.add(text(message));
    await consumer.acknowledge(message);
  }
  assert.deepEqual(sorted(got), numbers(1, 20));
});

test('retention__acknowledged_messages_are_kept', async () => {
  const namespace = await admin.namespace();
  await admin.call('POST', `namespaces/${namespace}/retention`, { retentionTimeInMinutes: 60, retentionSizeInMB: 100 });
  const topic = newTopic('persistent', namespace);
  const consumer = await client.subscribe({ topic, subscription: 'all' });
  await sendTexts(await producer(topic), numbers(1, 5));
  await receiveTexts(consumer, 5);
  await eventually('an empty backlog', async () => (await admin.backlog(topic, 'all')) === 0);
  await admin.unload(topic);
  const reader = await client.createReader({ topic, startMessageId: Pulsar.MessageId.earliest() });
  for (const n of numbers(1, 5)) assert.equal(text(await reader.readNext(30_000)), n);
});
