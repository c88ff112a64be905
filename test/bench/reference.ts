// The reference: the shortest way from mqtt.js to PostgreSQL that loses nothing. Batches, unnest, PUBACK after commit,
// in order; no validation, no quarantine, no events.
import { connect, type IPublishPacket, type Packet } from 'mqtt';
import { Pool } from 'pg';

const [port = '', username = '', password = '', databaseUrl = '', clientId = ''] = process.argv.slice(2);
const BATCH = 500;
const AT_ONCE = 2;

interface BloodPressure {
  readonly device_id: string;
  readonly systolic: number;
  readonly diastolic: number;
  readonly heart_rate: number;
  readonly timestamp: string;
}

const pool = new Pool({ connectionString: databaseUrl, max: AT_ONCE });
const client = connect({
  host: '127.0.0.1',
  port: Number(port),
  username,
  password,
  protocolVersion: 5,
  clientId,
  clean: false,
  properties: { receiveMaximum: 4_000, sessionExpiryInterval: 3_600 },
});
const sender = client as unknown as { _sendPacket(packet: Packet): void };
const waiting: IPublishPacket[] = [];
let running = 0;
let acknowledged: Promise<void> = Promise.resolve();

client.handleMessage = (packet, done) => {
  waiting.push(packet);
  if (waiting.length === 1) setTimeout(flush, 5);
  if (waiting.length >= BATCH) flush();
  done(new Error('acknowledged later'));
};

function flush(): void {
  if (waiting.length === 0 || running >= AT_ONCE) return;
  const batch = waiting.splice(0, BATCH);
  running += 1;
  const stored = store(batch);
  acknowledged = Promise.all([acknowledged, stored]).then(() => {
    for (const { messageId } of batch) sender._sendPacket({ cmd: 'puback', messageId: messageId ?? 0 });
    running -= 1;
    flush();
  });
}

async function store(batch: readonly IPublishPacket[]): Promise<void> {
  const columns: [string[], string[], number[], string[], string[]] = [[], [], [], [], []];
  const add = (deviceId: string, metric: string, value: number, unit: string, time: string): void => {
    columns[0].push(deviceId);
    columns[1].push(metric);
    columns[2].push(value);
    columns[3].push(unit);
    columns[4].push(time);
  };
  for (const { payload } of batch) {
    const message = JSON.parse(payload.toString()) as BloodPressure;
    add(message.device_id, 'systolic', message.systolic, 'mm[Hg]', message.timestamp);
    add(message.device_id, 'diastolic', message.diastolic, 'mm[Hg]', message.timestamp);
    add(message.device_id, 'heart_rate', message.heart_rate, '/min', message.timestamp);
  }
  await pool.query({
    name: 'insert',
    text: `INSERT INTO device_readings (device_id, metric_type, value, unit, timestamp)
           SELECT * FROM unnest($1::text[], $2::text[], $3::numeric[], $4::text[], $5::timestamptz[])
           ON CONFLICT DO NOTHING`,
    values: columns,
  });
}

await client.subscribeAsync('devices/+/data', { qos: 1 });
process.stdout.write('ready\n');
