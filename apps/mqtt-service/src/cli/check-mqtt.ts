import { randomUUID } from 'node:crypto';
import type { MqttClient } from 'mqtt';
import { loadConfig, type Config } from '#platform';
import { connectOnce } from './connect.js';

const WITHIN_MS = 5_000;
const ROUND_TRIPS = 5;

/** Tests the broker connection as configured, under a client id of its own: the service may go on meanwhile. */
async function check(config: Config): Promise<boolean> {
  const { mqtt } = config;
  say(
    `Broker       ${mqtt.host}:${mqtt.port}, ${mqtt.tls ? 'TLS' : 'plaintext'}, MQTT ${mqtt.protocolVersion === 5 ? '5' : '3.1.1'}, user ${mqtt.username ?? '(none)'}`,
  );
  let client: MqttClient;
  try {
    client = await connectOnce(config);
  } catch (error) {
    say(`Connection   FAILED. ${error instanceof Error ? error.message : String(error)}`);
    return false;
  }
  say('Connection   ok');
  try {
    const subscribed = await checkSubscriptions(client, config);
    const trip = await checkRoundTrip(client, config);
    return subscribed && trip;
  } finally {
    await client.endAsync();
  }
}

async function checkSubscriptions(client: MqttClient, config: Config): Promise<boolean> {
  const { data, status, responses } = config.mqtt.topics;
  let all = true;
  for (const filter of [data, status, responses]) {
    const granted = await client.subscribeAsync(filter, { qos: 1 }).catch(() => []);
    const ok = granted[0]?.qos === 1;
    say(`Subscribe    ${filter}: ${ok ? 'granted, QoS 1' : 'REFUSED'}`);
    all &&= ok;
    if (ok) await client.unsubscribeAsync(filter);
  }
  return all;
}

/** Publishes on the events topic, which the service writes to anyway, and waits for its own message. */
async function checkRoundTrip(client: MqttClient, config: Config): Promise<boolean> {
  const topic = `${config.mqtt.topics.events || 'events'}/check/${randomUUID()}`;
  const times: number[] = [];
  try {
    const [grant] = await client.subscribeAsync(topic, { qos: 1 });
    if (grant?.qos !== 1) throw new Error(`${topic} may not be subscribed to`);
    for (let trip = 0; trip < ROUND_TRIPS; trip += 1) {
      const begun = performance.now();
      const back = nextMessage(client);
      await client.publishAsync(topic, String(trip), { qos: 1 });
      await back;
      times.push(performance.now() - begun);
    }
  } catch (error) {
    say(`Round trip   FAILED: ${error instanceof Error ? error.message : String(error)}`);
    return false;
  }
  times.sort((a, b) => a - b);
  const median = times[Math.floor(times.length / 2)] ?? 0;
  say(`Round trip   ok, median of ${ROUND_TRIPS}: ${median.toFixed(1)} ms`);
  return true;
}

function nextMessage(client: MqttClient): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('the message did not come back in time')), WITHIN_MS);
    client.once('message', () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}

async function main(): Promise<void> {
  process.exitCode = (await check(loadConfig())) ? 0 : 1;
}

main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
