// The devices, as a process of their own: publishes the seed's blood pressure payload at QoS 1 over several
// connections. Prints one JSON line: when it published the first message and when the broker had taken the last.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { AcknowledgementCounter, connectPacket, publishPacket } from './wire.js';

/** What the generator is told, as JSON in its first argument. */
export interface GeneratorOrder {
  readonly port: number;
  readonly username: string;
  readonly password: string;
  readonly connections: number;
  readonly devices: number;
  readonly messages: number;
  /** Messages a second over all connections; null: as fast as the broker takes them. */
  readonly rate: number | null;
}

/** What it reports, in milliseconds since 1970. */
export interface GeneratorReport {
  readonly firstPublishedAt: number;
  readonly lastAcknowledgedAt: number;
}

/** Messages a connection has unacknowledged, at most. */
const WINDOW = 500;
const TICK_MS = 5;

const order = JSON.parse(process.argv[2] ?? '') as GeneratorOrder;
const now = (): number => performance.timeOrigin + performance.now();
/** Every message gets a microsecond of its own, so that no two are the same reading. */
const firstMoment = Math.floor(now() * 1_000);
let produced = 0;
let acknowledged = 0;

class Connection {
  private packetId = 0;
  private inFlight = 0;
  private readonly acknowledgements = new AcknowledgementCounter();

  private constructor(private readonly socket: Socket) {}

  static async open(index: number, onAcknowledged: () => void): Promise<Connection> {
    const socket = connect(order.port, '127.0.0.1').setNoDelay(true);
    await once(socket, 'connect');
    const connection = new Connection(socket);
    socket.write(connectPacket(`bench-${process.pid}-${index}`, order.username, order.password));
    await new Promise<void>((resolve, reject) => {
      socket.on('error', reject);
      socket.on('close', () => reject(new Error('the broker closed the connection')));
      socket.on('data', (chunk) => {
        const { pubacks, connected } = connection.acknowledgements.count(chunk);
        if (connected) resolve();
        connection.inFlight -= pubacks;
        acknowledged += pubacks;
        if (pubacks > 0) onAcknowledged();
      });
    });
    return connection;
  }

  /** Publishes up to `wanted` messages, as many as its window allows. @returns how many. */
  publish(wanted: number): number {
    const count = Math.min(wanted, WINDOW - this.inFlight);
    if (count <= 0) return 0;
    const packets: Buffer[] = [];
    for (let i = 0; i < count; i += 1) {
      this.packetId = (this.packetId % 65_535) + 1;
      packets.push(message(produced, this.packetId));
      produced += 1;
    }
    this.inFlight += count;
    this.socket.write(Buffer.concat(packets));
    return count;
  }

  end(): void {
    this.socket.removeAllListeners('close');
    this.socket.destroy();
  }
}

function message(index: number, packetId: number): Buffer {
  const deviceId = `bench_${index % order.devices}`;
  const micros = order.rate === null ? firstMoment + index : Math.floor(now() * 1_000);
  // In a fixed-rate run the timestamp is the moment of publishing, and still different for each message of a device.
  const timestamp = `${new Date(Math.floor(micros / 1_000)).toISOString().slice(0, -1)}${String(micros % 1_000).padStart(3, '0')}Z`;
  const systolic = 100 + (index % 60);
  const payload = `{"device_id":"${deviceId}","metric_type":"blood_pressure","systolic":${systolic},"diastolic":80,"heart_rate":72,"timestamp":"${timestamp}"}`;
  return publishPacket(`devices/${deviceId}/data`, packetId, payload);
}

async function main(): Promise<void> {
  let wake: () => void = () => undefined;
  const connections = await Promise.all(
    Array.from({ length: order.connections }, (_, index) => Connection.open(index, () => wake())),
  );
  const firstPublishedAt = now();
  while (acknowledged < order.messages) {
    const elapsed = now() - firstPublishedAt;
    const due =
      order.rate === null
        ? order.messages
        : Math.min(order.messages, Math.ceil((elapsed / 1_000) * order.rate) + 1);
    for (const connection of connections) {
      const share = Math.ceil((due - produced) / connections.length);
      connection.publish(Math.min(share, due - produced));
    }
    if (order.rate !== null && produced < order.messages) await sleep(TICK_MS);
    else await new Promise<void>((resolve) => (wake = resolve));
  }
  const report: GeneratorReport = { firstPublishedAt, lastAcknowledgedAt: now() };
  process.stdout.write(`${JSON.stringify(report)}\n`);
  for (const connection of connections) connection.end();
}

await main();
