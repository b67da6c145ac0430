// Connecting, closing, and what a producer is promised.

const assert = require('node:assert/strict');
const { test } = require('node:test');
const {
  ADMIN_URL, Pulsar, admin, assertSilent, newClient, newTopic, numbers, readTexts, receive, receiveTexts, send, sendTexts, text,
  unique,
} = require('./suite');

const UNBATCHED = { batchingEnabled: false };
const client = newClient();

function reader(topic, options = {}) {
  return client.createReader({ topic, startMessageId: Pulsar.MessageId.earliest(), ...options });
}

test('connect__what_one_client_sends_another_receives', async () => {
  const topic = newTopic();
  const consumer = await newClient().subscribe({ topic, subscription: 'all' });
  await send(await newClient().createProducer({ topic }), 'hello');
  assert.equal(text(await receive(consumer)), 'hello');
});

test('token__a_client_with_a_token_connects_where_none_is_asked_for', async () => {
  const topic = newTopic();
  const bearer = newClient({ authentication: new Pulsar.AuthenticationToken({ token: 'a.b.c' }) });
  const consumer = await bearer.subscribe({ topic, subscription: 'all' });
  await send(await bearer.createProducer({ topic }), 'hello');
  assert.equal(text(await receive(consumer)), 'hello');
});

test('lookup__a_topic_is_found_over_http', async () => {
  const topic = newTopic();
  const over = newClient({ serviceUrl: ADMIN_URL });
  const consumer = await over.subscribe({ topic, subscription: 'all' });
  await send(await over.createProducer({ topic }), 'hello');
  assert.equal(text(await receive(consumer)), 'hello');
});

test('errors__a_topic_of_a_missing_namespace_is_refused_and_the_connection_stays', async () => {
  const hasty = newClient({ operationTimeoutSeconds: 5 });
  const producer = await hasty.createProducer({ topic: newTopic() });
  await assert.rejects(hasty.createProducer({ topic: newTopic('persistent', `public/${unique('missing')}`) }));
  await assert.rejects(hasty.subscribe({ topic: newTopic('persistent', `${unique('missing')}/x`), subscription: 'all' }));
  await send(producer, 'still here');
  assert.ok(producer.isConnected());
});

test('close__a_closed_producer_frees_its_name', async () => {
  const topic = newTopic();
  const first = await client.createProducer({ topic, producerName: 'only' });
  await first.close();
  await assert.rejects(send(first, 'late'));
  const second = await client.createProducer({ topic, producerName: 'only' });
  assert.equal(second.getProducerName(), 'only');
});

test('close__a_closed_consumer_leaves_the_rest_to_the_next', async () => {
  const topic = newTopic();
  const first = await client.subscribe({ topic, subscription: 'all' });
  await sendTexts(await client.createProducer({ topic, ...UNBATCHED }), ['a', 'b', 'c']);
  assert.deepEqual(await receiveTexts(first, 1), ['a']);
  await first.close();
  const second = await client.subscribe({ topic, subscription: 'all' });
  assert.deepEqual(await receiveTexts(second, 2), ['b', 'c']);
});

test('send__key_properties_event_time_and_payload_arrive', async () => {
  const topic = newTopic();
  const consumer = await client.subscribe({ topic, subscription: 'all' });
  const producer = await client.createProducer({ topic, ...UNBATCHED });
  const data = Buffer.from(Array.from({ length: 10_000 }, (_, n) => n % 256));
  const id = await producer.send({
    data, properties: { a: '1', b: 'ü' }, partitionKey: 'key', eventTimestamp: 1_700_000_000_000,
  });
  const message = await receive(consumer);
  assert.deepEqual(message.getData(), data);
  assert.deepEqual({ ...message.getProperties() }, { a: '1', b: 'ü' });
  assert.equal(message.getPartitionKey(), 'key');
  assert.equal(message.getEventTimestamp(), 1_700_000_000_000);
  assert.ok(message.getPublishTimestamp() > 1_700_000_000_000);
  assert.equal(message.getTopicName(), topic);
  assert.equal(message.getRedeliveryCount(), 0);
  assert.equal(message.getMessageId().toString(), id.toString());
});

test('send__order_is_kept_with_many_in_flight', async () => {
  const topic = newTopic();
  const consumer = await client.subscribe({ topic, subscription: 'all' });
  const producer = await client.createProducer({ topic, ...UNBATCHED });
  await Promise.all(numbers(1, 500).map((one) => send(producer, one)));
  assert.deepEqual(await receiveTexts(consumer, 500), numbers(1, 500));
});

test('producer_name__made_up_names_differ', async () => {
  const topic = newTopic();
  const producers = await Promise.all(numbers(1, 5).map(() => client.createProducer({ topic })));
  assert.equal(new Set(producers.map((producer) => producer.getProducerName())).size, 5);
});

test('producer_name__a_name_is_used_by_one_producer_at_a_time', async () => {
  const topic = newTopic();
  await newClient().createProducer({ topic, producerName: 'only' });
  await assert.rejects(newClient().createProducer({ topic, producerName: 'only' }), /ProducerBusy/);
});

test('deduplication__what_was_stored_is_not_stored_again', async () => {
  const namespace = await admin.namespace();
  await admin.call('POST', `namespaces/${namespace}/deduplication`, true);
  const topic = newTopic('persistent', namespace);
  const producer = await client.createProducer({ topic, producerName: 'sender', ...UNBATCHED });
  for (const [sequenceId, one] of [[5, 'a'], [6, 'b'], [5, 'a again'], [6, 'b again'], [7, 'c']]) {
    await send(producer, one, { sequenceId });
  }
  assert.deepEqual(await readTexts(await reader(topic)), ['a', 'b', 'c']);
});

test('sequence_ids__a_producer_that_comes_back_goes_on_where_it_was', async () => {
  const namespace = await admin.namespace();
  await admin.call('POST', `namespaces/${namespace}/deduplication`, true);
  const topic = newTopic('persistent', namespace);
  for (const one of ['a', 'b']) {
    // The client numbers its messages from the last sequence id that the broker tells; from zero, `b` would be a duplicate.
    const producer = await client.createProducer({ topic, producerName: 'sender', ...UNBATCHED });
    await send(producer, one);
    await producer.close();
  }
  assert.deepEqual(await readTexts(await reader(topic)), ['a', 'b']);
});

test('access_modes__an_exclusive_producer_has_the_topic_for_itself', async () => {
  const topic = newTopic();
  const exclusive = await newClient().createProducer({ topic, accessMode: 'Exclusive' });
  for (const accessMode of ['Exclusive', 'Shared']) {
    await assert.rejects(newClient().createProducer({ topic, accessMode }), /ProducerFenced|ProducerBusy/);
  }
  await send(exclusive, 'mine');
});

test('access_modes__a_waiting_producer_gets_the_topic_when_it_is_free', async () => {
  const topic = newTopic();
  const first = await newClient().createProducer({ topic, accessMode: 'Exclusive', ...UNBATCHED });
  let got = false;
  const waiting = newClient().createProducer({ topic, accessMode: 'WaitForExclusive', ...UNBATCHED });
  waiting.then(() => { got = true; });
  await send(first, 'first');
  assert.ok(!got);
  await first.close();
  await send(await waiting, 'second');
  assert.deepEqual(await readTexts(await reader(topic)), ['first', 'second']);
});

test('access_modes__a_fencing_producer_shuts_out_the_others', async () => {
  const topic = newTopic();
  const old = await newClient().createProducer({ topic, accessMode: 'Exclusive', ...UNBATCHED });
  await send(old, 'old');
  const fencing = await newClient().createProducer({ topic, accessMode: 'ExclusiveWithFencing', ...UNBATCHED });
  await send(fencing, 'new');
  await assert.rejects(send(old, 'too late'));
  assert.deepEqual(await readTexts(await reader(topic)), ['old', 'new']);
});

test('max_message_size__a_larger_message_is_refused', async () => {
  const topic = newTopic();
  const consumer = await client.subscribe({ topic, subscription: 'all' });
  const producer = await client.createProducer({ topic, ...UNBATCHED });
  await assert.rejects(send(producer, Buffer.alloc(6 * 1024 * 1024)), /MessageTooBig/);
  await send(producer, 'a small one passes');
  assert.deepEqual(await receiveTexts(consumer, 1), ['a small one passes']);
  await assertSilent(consumer);
});
