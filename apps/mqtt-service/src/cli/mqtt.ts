import { loadConfig } from '#platform';
import { connectOnce } from './connect.js';

const USAGE = `npm run mqtt -- publish TOPIC PAYLOAD     publishes one message at QoS 1
npm run mqtt -- subscribe FILTER          prints messages until it is stopped

Broker and account are those of the service's own configuration.
`;

async function main([action, topic, payload]: readonly string[]): Promise<void> {
  if (action === 'publish' && topic !== undefined && payload !== undefined) {
    const client = await connectOnce(loadConfig());
    await client.publishAsync(topic, payload, { qos: 1 });
    await client.endAsync();
    process.stdout.write(`published on ${topic}\n`);
  } else if (action === 'subscribe' && topic !== undefined) {
    const client = await connectOnce(loadConfig());
    client.on('message', (from, message) => process.stdout.write(`${from} ${message.toString('utf8')}\n`));
    const [grant] = await client.subscribeAsync(topic, { qos: 1 });
    if (grant?.qos !== 1) throw new Error(`The broker refused ${topic}.`);
    process.stdout.write(`listening on ${topic}\n`);
  } else {
    process.stderr.write(USAGE);
    process.exitCode = 1;
  }
}

main(process.argv.slice(2)).catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exit(1);
});
