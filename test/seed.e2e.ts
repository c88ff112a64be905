import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { WebSocket } from 'ws';
import { Service } from './support/service.js';
import { until } from './support/until.js';

/** The examples of the seed, word for word. */
const REGISTER = `{
    "device_id": "device_123",
    "type": "blood_pressure_monitor",
    "patient_id": 1
}`;
const COMMAND = `{
    "command": "start_monitoring",
    "parameters": {"interval": 30}
}`;
const DATA = `{
    "device_id": "device_123",
    "metric_type": "blood_pressure",
    "systolic": 120,
    "diastolic": 80,
    "heart_rate": 72,
    "timestamp": "2024-01-23T10:30:00Z"
}`;
const STATUS = `{
    "device_id": "device_123",
    "status": "online",
    "battery": 85,
    "signal_strength": -45
}`;
const WEBSOCKET_CLIENT = `
const ws = new WebSocket('ws://localhost:8004/ws/mqtt');

ws.onopen = () => {
    console.log('Connected to MQTT service');
};

ws.onmessage = (event) => {
    const data = JSON.parse(event.data);
    console.log('Device data:', data);
};
return ws;`;

const READINGS = [
  { metric_type: 'systolic', value: 120, unit: 'mm[Hg]' },
  { metric_type: 'diastolic', value: 80, unit: 'mm[Hg]' },
  { metric_type: 'heart_rate', value: 72, unit: '/min' },
].map((reading) => ({
  ...reading,
  device_id: 'device_123',
  timestamp: '2024-01-23T10:30:00.000Z',
  metadata: {},
}));

describe("the seed's examples on the embedded default", () => {
  let service: Service;

  beforeAll(async () => {
    service = await Service.start();
  });
  afterAll(async () => service.remove());

  it('registers the device', async () => {
    const answer = await service.post('/devices/register', REGISTER);
    expect(answer.status).toBe(201);
    expect(answer.body).toMatchObject({
      device_id: 'device_123',
      type: 'blood_pressure_monitor',
      patient_id: 1,
    });
    expect(answer.body.credentials).toMatchObject({ username: 'device_123', client_id: 'device_123' });
  });

  it('streams and stores the data example, shows the status example and answers the history', async () => {
    const printed: unknown[][] = [];
    const run = new Function('WebSocket', 'console', WEBSOCKET_CLIENT.replace('8004', String(service.port)));
    const socket = run(WebSocket, { log: (...words: unknown[]) => printed.push(words) }) as WebSocket;
    await until('the client to connect', () =>
      printed.some(([word]) => word === 'Connected to MQTT service'),
    );

    const device = await service.mqtt();
    await device.publishAsync('devices/device_123/status', STATUS, { qos: 1 });
    await device.publishAsync('devices/device_123/data', DATA, { qos: 1 });

    const event = await until('the streamed measurement', () =>
      printed
        .map(([, data]) => data as Record<string, unknown>)
        .find((data) => data?.['event'] === 'device.data.received'),
    );
    expect(event).toMatchObject({
      id: expect.any(String),
      time: expect.any(String),
      data: {
        device_id: 'device_123',
        patient_id: 1,
        metric_type: 'blood_pressure',
        systolic: 120,
        diastolic: 80,
        heart_rate: 72,
        readings: READINGS.map(({ metric_type, value, unit, timestamp }) => ({
          metric_type,
          value,
          unit,
          timestamp,
        })),
      },
    });
    expect(printed).toContainEqual(['Device data:', expect.objectContaining({ event: 'connected' })]);
    socket.close();

    const history = await service.read('/devices/device_123/data');
    expect(history.status).toBe(200);
    expect(history.body).toMatchObject({ device_id: 'device_123', next_cursor: null });
    expect(history.body.data).toHaveLength(3);
    expect(history.body.data).toEqual(
      expect.arrayContaining(READINGS.map((reading) => ({ id: expect.any(Number), ...reading }))),
    );
    const shown = await service.read('/devices/device_123');
    expect(shown.body).toMatchObject({ status: 'online', battery: 85, signal_strength: -45 });
    await device.endAsync();
  });

  it('publishes the command example, flattened, on the topic of the device', async () => {
    const device = await service.mqtt();
    const received = new Promise<{ payload: string; retain: boolean }>((resolve) =>
      device.on('message', (_topic, payload, packet) =>
        resolve({ payload: payload.toString('utf8'), retain: packet.retain }),
      ),
    );
    await device.subscribeAsync('devices/device_123/commands', { qos: 1 });
    const answer = await service.post('/devices/device_123/command', COMMAND);
    expect(answer.status).toBe(202);
    expect(answer.body).toMatchObject({
      command: 'start_monitoring',
      parameters: { interval: 30 },
      status: 'sent',
    });
    const { payload, retain } = await received;
    expect(retain).toBe(false);
    expect(JSON.parse(payload)).toEqual({
      command: 'start_monitoring',
      interval: 30,
      command_id: answer.body.command_id,
      issued_at: expect.any(String),
    });
    await device.endAsync();
  });

  it.each(['/health', '/health/detailed', '/docs', '/redoc'])(
    'answers GET %s without a token',
    async (path) => {
      expect((await service.get(path)).status).toBe(200);
    },
  );

  it('finds all again after kill -9, and leaves no PostgreSQL behind', async () => {
    const database = await until('the pid of PostgreSQL', () => postgresPid(service));
    await service.end('SIGKILL');
    await until('PostgreSQL to follow', () => !isRunning(database));
    await service.launch();
    await service.untilReady();
    const history = await service.read('/devices/device_123/data');
    expect(history.body.data).toHaveLength(3);
  });

  it('stops on SIGINT with exit code 0, and everything with it', async () => {
    const database = await until('the pid of PostgreSQL', () => postgresPid(service));
    expect(await service.end('SIGINT')).toBe(0);
    expect(isRunning(database)).toBe(false);
    await expect(service.mqtt()).rejects.toThrow();
  });

  it('names the variable when a port is taken', async () => {
    await service.launch();
    const second = await Service.prepare({ PORT: String(service.port) });
    expect(await second.launchInVain()).toEqual({
      code: 1,
      output: expect.stringContaining(`Port ${service.port} is already in use. Set PORT to another one.`),
    });
    const third = await Service.prepare({ MQTT_BROKER_PORT: String(service.brokerPort) });
    expect(await third.launchInVain()).toEqual({
      code: 1,
      output: expect.stringContaining(`Port ${service.brokerPort} is already in use. Set MQTT_BROKER_PORT`),
    });
    await second.remove();
    await third.remove();
  });
});

function postgresPid(service: Service): number {
  const [pid] = readFileSync(join(service.folder, 'data', 'postgres', 'postmaster.pid'), 'utf8').split('\n');
  return Number(pid);
}

function isRunning(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
