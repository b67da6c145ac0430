// Seeks, readers and compacted views.

const assert = require('node:assert/strict');
const { test } = require('node:test');
const {
  PATIENCE_MS, Pulsar, admin, assertSilent, eventually, newClient, newTopic, numbers, readTexts, receive, receiveTexts, send,
  sendTexts, sorted, text,
} = require('./suite');

const client = newClient();

function producer(topic, options = {}) {
  return client.createProducer({ topic, batchingEnabled: false, ...options });
}

function reader(topic, startMessageId = Pulsar.MessageId.earliest(), options = {}) {
  return client.createReader({ topic, startMessageId, ...options });
}

// Sends 1 to 5, a millisecond or more later 6 to 10.
async function sendWithPause(sender) {
  const ids = await sendTexts(sender, numbers(1, 5));
  const between = Date.now() + 1;
  await eventually('a later millisecond', () => Date.now() > between);
  return { ids: [...ids, ...await sendTexts(sender, numbers(6, 10))], between };
}

test('durable_cursor__survives_consumers_and_an_unload', async () => {
  const topic = newTopic();
  const sender = await producer(topic);
  const first = await client.subscribe({ topic, subscription: 'all', subscriptionType: 'Shared' });
  await sendTexts(sender, numbers(1, 10));
  for (let n = 0; n < 10; n += 1) {
    const message = await receive(first);
    if (!['4', '8'].includes(text(message))) await first.acknowledge(message);
  }
  await first.close();
  await eventually('all acks', async () => (await admin.backlog(topic, 'all')) === 2);
  await admin.unload(topic);
  await send(sender, '11');
  const second = await client.subscribe({ topic, subscription: 'all', subscriptionType: 'Shared' });
  assert.deepEqual(sorted(await receiveTexts(second, 3)), ['4', '8', '11']);
});

test('seek_by_id__what_follows_comes_again', async () => {
  const topic = newTopic();
  const consumer = await client.subscribe({ topic, subscription: 'all' });
  const ids = await sendTexts(await producer(topic), numbers(1, 10));
  await receiveTexts(consumer, 10);
  await consumer.seek(ids[4]);
  assert.deepEqual(await receiveTexts(consumer, 5), numbers(6, 10));
  await assertSilent(consumer);
  await consumer.seek(Pulsar.MessageId.earliest());
  assert.deepEqual(await receiveTexts(consumer, 10), numbers(1, 10));
});

test('seek_by_id__an_id_survives_serialisation', async () => {
  const topic = newTopic();
  const consumer = await client.subscribe({ topic, subscription: 'all' });
  const ids = await sendTexts(await producer(topic), numbers(1, 3));
  await receiveTexts(consumer, 3);
  await consumer.seek(Pulsar.MessageId.deserialize(ids[1].serialize()));
  assert.deepEqual(await receiveTexts(consumer, 1), ['3']);
});

test('seek_by_time__starts_at_the_first_message_since', async () => {
  const topic = newTopic();
  const consumer = await client.subscribe({ topic, subscription: 'all' });
  const { between } = await sendWithPause(await producer(topic));
  await receiveTexts(consumer, 10);
  await consumer.seekTimestamp(between);
  assert.deepEqual(await receiveTexts(consumer, 5), numbers(6, 10));
  await assertSilent(consumer);
});

test('reader__starts_at_the_ends_or_after_a_message', async () => {
  const topic = newTopic();
  const sender = await producer(topic);
  const ids = await sendTexts(sender, numbers(1, 5));
  const latest = await reader(topic, Pulsar.MessageId.latest());
  assert.deepEqual(await readTexts(await reader(topic)), numbers(1, 5));
  assert.deepEqual(await readTexts(await reader(topic, ids[1])), numbers(3, 5));
  await send(sender, '6');
  assert.equal(text(await latest.readNext(PATIENCE_MS)), '6');
});

test('reader__acknowledges_nothing_and_leaves_no_subscription', async () => {
  const topic = newTopic();
  await sendTexts(await producer(topic), numbers(1, 3));
  const one = await reader(topic);
  assert.deepEqual(await readTexts(one), numbers(1, 3));
  await one.close();
  await eventually('no subscription', async () => Object.keys((await admin.stats(topic)).subscriptions).length === 0);
});

test('reader__seeks', async () => {
  const topic = newTopic();
  const { ids, between } = await sendWithPause(await producer(topic));
  const one = await reader(topic);
  assert.deepEqual(await readTexts(one), numbers(1, 10));
  await one.seek(ids[7]);
  assert.deepEqual(await readTexts(one), numbers(9, 10));
  await one.seekTimestamp(between);
  assert.deepEqual(await readTexts(one), numbers(6, 10));
});

test('last_message_id__readers_know_whether_there_is_more', async () => {
  const topic = newTopic();
  const sender = await producer(topic);
  const one = await reader(topic);
  assert.equal(one.hasNext(), false);
  await sendTexts(sender, numbers(1, 3));
  assert.equal(one.hasNext(), true);
  assert.deepEqual(await readTexts(one), numbers(1, 3));
  assert.equal(one.hasNext(), false);
});

test('read_compacted__the_last_message_of_each_key', async () => {
  const topic = newTopic();
  const sender = await producer(topic);
  await client.subscribe({ topic, subscription: 'keeper', subscriptionInitialPosition: 'Earliest' });
  for (const n of numbers(1, 3)) {
    for (const partitionKey of ['a', 'b', 'c']) await send(sender, partitionKey + n, { partitionKey });
  }
  await admin.compact(topic);
  await send(sender, 'a4', { partitionKey: 'a' });
  const compacted = await reader(topic, Pulsar.MessageId.earliest(), { readCompacted: true });
  assert.deepEqual(await readTexts(compacted), ['a3', 'b3', 'c3', 'a4']);
  assert.equal((await readTexts(await reader(topic))).length, 10);
});
