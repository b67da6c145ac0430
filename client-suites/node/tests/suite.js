// What the tests share: names, clients that end with the test, waiting for conditions, the admin API. Knows two URLs and nothing
// of the broker behind them.

const assert = require('node:assert/strict');
const crypto = require('node:crypto');
const { setTimeout: pause } = require('node:timers/promises');
const { after } = require('node:test');
const Pulsar = require('pulsar-client');

const SERVICE_URL = process.env.PULSAR_SERVICE_URL;
const ADMIN_URL = process.env.PULSAR_ADMIN_URL;
assert.ok(SERVICE_URL && ADMIN_URL, 'PULSAR_SERVICE_URL and PULSAR_ADMIN_URL are not set');

// How long a condition may take. Generous: reaching it is a failure.
const PATIENCE_MS = 30_000;
// How long nothing must come before a test believes that nothing comes.
const SILENCE_MS = 400;

Pulsar.Client.setLogHandler((level, file, line, message) => {
  if (level === Pulsar.LogLevel.ERROR) console.error(`${file}:${line} ${message}`);
});

const clients = [];
after(() => clients.forEach((client) => client.close()));

// A client that ends with the file's tests.
function newClient(options = {}) {
  const client = new Pulsar.Client({ serviceUrl: SERVICE_URL, operationTimeoutSeconds: 30, ...options });
  clients.push(client);
  return client;
}

function unique(word) {
  return `${word}-${crypto.randomBytes(6).toString('hex')}`;
}

function newTopic(domain = 'persistent', namespace = 'public/default') {
  return `${domain}://${namespace}/${unique('node')}`;
}

// Waits until `condition()` is true and returns what it returned.
async function eventually(what, condition) {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    // eslint-disable-next-line no-await-in-loop
    const value = await condition();
    if (value) return value;
    assert.ok(Date.now() < end, `${what}: not within ${PATIENCE_MS} ms`);
    // eslint-disable-next-line no-await-in-loop
    await pause(50);
  }
}

function receive(consumer) {
  return consumer.receive(PATIENCE_MS);
}

function text(message) {
  return message.getData().toString();
}

async function receiveTexts(consumer, count) {
  const texts = [];
  for (let n = 0; n < count; n += 1) {
    const message = await receive(consumer);
    texts.push(text(message));
    await consumer.acknowledge(message);
  }
  return texts;
}

async function receiveOrNull(consumer, waitMs = SILENCE_MS) {
  try {
    return await consumer.receive(waitMs);
  } catch (error) {
    assert.match(error.message, /TimeOut/);
    return null;
  }
}

async function assertSilent(consumer) {
  const message = await receiveOrNull(consumer);
  assert.equal(message && text(message), null, 'an unexpected message');
}

// Receives from all of them, acknowledging, until `total` messages came; the messages per consumer.
async function collect(consumers, total) {
  const shares = consumers.map(() => []);
  const end = Date.now() + PATIENCE_MS;
  while (shares.flat().length < total) {
    assert.ok(Date.now() < end, `${shares.flat().length} of ${total} messages within ${PATIENCE_MS} ms`);
    for (const [n, consumer] of consumers.entries()) {
      for (let message = await receiveOrNull(consumer, 20); message; message = await receiveOrNull(consumer, 20)) {
        await consumer.acknowledge(message);
        shares[n].push(message);
      }
    }
  }
  return shares;
}

function send(producer, data, options = {}) {
  return producer.send({ data: Buffer.from(data), ...options });
}

async function sendTexts(producer, texts, options = {}) {
  const ids = [];
  for (const one of texts) ids.push(await send(producer, one, options));
  return ids;
}

function numbers(first, last) {
  return Array.from({ length: last - first + 1 }, (_, n) => String(first + n));
}

function sorted(texts) {
  return [...texts].sort((a, b) => Number(a) - Number(b));
}

// Everything up to the topic's end.
async function readTexts(reader) {
  const texts = [];
  while (reader.hasNext()) texts.push(text(await reader.readNext(PATIENCE_MS)));
  return texts;
}

// The admin REST API, by the paths that Pulsar documents.
const admin = {
  async call(method, path, body) {
    const answer = await fetch(`${ADMIN_URL}/admin/v2/${path}`, {
      method,
      headers: body === undefined ? {} : { 'content-type': 'application/json' },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const content = await answer.text();
    assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${content}`);
    return content ? JSON.parse(content) : null;
  },
  path: (topic) => topic.replace('://', '/'),
  stats: (topic) => admin.call('GET', `${admin.path(topic)}/stats`),
  subscription: async (topic, name) => (await admin.stats(topic)).subscriptions[name],
  backlog: async (topic, name) => (await admin.subscription(topic, name)).msgBacklog,
  partitions: (topic, count) => admin.call('PUT', `${admin.path(topic)}/partitions`, count),
  unload: (topic) => admin.call('PUT', `${admin.path(topic)}/unload`),
  // Starts a compaction and waits for its end.
  async compact(topic) {
    await admin.call('PUT', `${admin.path(topic)}/compaction`);
    const state = async () => (await admin.call('GET', `${admin.path(topic)}/compaction`)).status;
    await eventually("the compaction's end", async () => (await state()) !== 'RUNNING');
    assert.equal(await state(), 'SUCCESS');
  },
  // A namespace of the test's own, for policies.
  async namespace() {
    const name = `public/${unique('node')}`;
    await admin.call('PUT', `namespaces/${name}`);
    return name;
  },
};

// Sends `texts` in batches of `size`; none leaves by time.
async function sendBatches(client, topic, texts, size, options = {}) {
  const producer = await client.createProducer({
    topic, batchingEnabled: true, batchingMaxMessages: size, batchingMaxPublishDelayMs: 60_000, ...options,
  });
  const sent = texts.map((one) => send(producer, one));
  await producer.flush();
  return Promise.all(sent);
}

module.exports = {
  ADMIN_URL, PATIENCE_MS, Pulsar, admin, assertSilent, collect, eventually, newClient, newTopic, numbers, readTexts, receive,
  receiveOrNull, receiveTexts, send, sendBatches, sendTexts, sorted, text, unique,
};
