// What payloads travel in, and schemas.

const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const { test } = require('node:test');
const {
  admin, eventually, newClient, newTopic, numbers, receive, receiveTexts, send, sendBatches, sendTexts, text,
} = require('./suite');

const client = newClient();

test('batch__many_messages_share_an_entry_and_keep_their_order', async () => {
  const topic = newTopic();
  const consumer = await client.subscribe({ topic, subscription: 'all' });
  const ids = await sendBatches(client, topic, numbers(0, 99), 10);
  // (ledger,entry,partition,index within the batch)
  const entries = new Set(ids.map((id) => id.toString().split(',')[1]));
  assert.equal(entries.size, 10);
  assert.deepEqual(await receiveTexts(consumer, 100), numbers(0, 99));
});

for (const compressionType of ['LZ4', 'Zlib', 'ZSTD', 'SNAPPY']) {
  test(`compression__payloads_arrive_as_they_were, ${compressionType}`, async () => {
    const topic = newTopic();
    const consumer = await client.subscribe({ topic, subscription: 'all' });
    const texts = numbers(1, 10).map((n) => `${n} ${'many words '.repeat(500)}`);
    await sendTexts(await client.createProducer({ topic, compressionType, batchingEnabled: false }), texts);
    assert.deepEqual(await receiveTexts(consumer, 10), texts);
    await sendBatches(client, topic, texts, 10, { compressionType });
    assert.deepEqual(await receiveTexts(consumer, 10), texts);
  });
}

test('chunks__a_payload_above_the_limit_arrives_whole', async () => {
  const topic = newTopic();
  const consumer = await client.subscribe({ topic, subscription: 'all' });
  const producer = await client.createProducer({ topic, chunkingEnabled: true, batchingEnabled: false });
  const data = Buffer.concat(Array(12 * 1024).fill(crypto.randomBytes(1024)));
  await producer.send({ data, properties: { size: String(data.length) } });
  await send(producer, 'a small one behind it');
  const message = await receive(consumer);
  assert.ok(message.getData().equals(data));
  assert.deepEqual({ ...message.getProperties() }, { size: String(data.length) });
  await consumer.acknowledge(message);
  assert.deepEqual(await receiveTexts(consumer, 1), ['a small one behind it']);
  await eventually('all chunks acknowledged', async () => (await admin.backlog(topic, 'all')) === 0);
});

const PERSON = {
  type: 'record', name: 'Person', fields: [{ name: 'name', type: 'string' }, { name: 'age', type: 'int' }],
};
const OLDER = { ...PERSON, fields: [PERSON.fields[0], { name: 'age', type: 'string' }] };
const LARGER = { ...PERSON, fields: [...PERSON.fields, { name: 'mail', type: ['null', 'string'], default: null }] };

function schema(schemaType, definition) {
  return { schemaType, name: 'person', schema: JSON.stringify(definition), properties: { origin: 'suite' } };
}

function schemas(topic, which) {
  return admin.call('GET', `schemas/${topic.split('://')[1]}/${which}`);
}

async function topicKnowsSchemaOfProducer(schemaType) {
  const topic = newTopic();
  const consumer = await client.subscribe({ topic, subscription: 'all', schema: schema(schemaType, PERSON) });
  await send(await client.createProducer({ topic, schema: schema(schemaType, PERSON) }), 'any bytes');
  assert.equal(text(await receive(consumer)), 'any bytes');
  const stored = await schemas(topic, 'schema');
  assert.equal(stored.type, schemaType.toUpperCase());
  assert.equal(stored.version, 0);
  assert.deepEqual(JSON.parse(stored.data), PERSON);
  assert.equal(stored.properties.origin, 'suite');
}

test('schema_json__the_topic_knows_the_schema_of_its_producer', () => topicKnowsSchemaOfProducer('Json'));

test('schema_avro__the_topic_knows_the_schema_of_its_producer', () => topicKnowsSchemaOfProducer('Avro'));

test('schema_string__is_what_it_was', async () => {
  const topic = newTopic();
  const strings = { schemaType: 'String', name: 'string', schema: '' };
  const consumer = await client.subscribe({ topic, subscription: 'all', schema: strings });
  await send(await client.createProducer({ topic, schema: strings }), 'grüße');
  assert.equal(text(await receive(consumer)), 'grüße');
});

test('schema_compatibility__a_changed_type_is_refused', async () => {
  const topic = newTopic();
  const producer = await client.createProducer({ topic, schema: schema('Avro', PERSON) });
  await assert.rejects(client.createProducer({ topic, schema: schema('Avro', OLDER) }), /IncompatibleSchema/);
  await assert.rejects(
    client.subscribe({ topic, subscription: 'all', schema: schema('Avro', OLDER) }), /IncompatibleSchema/,
  );
  await send(producer, 'still fine');
});

test('schema_versions__an_added_optional_field_is_a_new_version', async () => {
  const topic = newTopic();
  for (const definition of [PERSON, LARGER, PERSON]) {
    await (await client.createProducer({ topic, schema: schema('Avro', definition) })).close();
  }
  const { getSchemaResponses: all } = await schemas(topic, 'schemas');
  assert.deepEqual(all.map((one) => JSON.parse(one.data)), [PERSON, LARGER]);
  assert.deepEqual(all.map((one) => one.version), [0, 1]);
});
