import type { IPublishPacket, MqttClient } from 'mqtt';
import { brokersHere, startBroker, type BrokerUnderTest } from './support/brokers.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { Service } from './support/service.js';
import { until } from './support/until.js';

describe.each(brokersHere())('commands by way of %s', (kind) => {
  let database: TestDatabase;
  let broker: BrokerUnderTest;
  let service: Service;
  let device: MqttClient;
  const received: { topic: string; body: Record<string, unknown>; packet: IPublishPacket }[] = [];

  beforeAll(async () => {
    [database, broker] = await Promise.all([createDatabase(), startBroker(kind)]);
    service = await Service.start({ DATABASE_URL: database.url, ...broker.env });
    device = await service.mqtt({ protocolVersion: kind === 'mosquitto 5' ? 5 : 4 });
    device.on('message', (topic, payload, packet) =>
      received.push({ topic, body: JSON.parse(payload.toString('utf8')) as Record<string, unknown>, packet }),
    );
    await device.subscribeAsync('devices/+/commands', { qos: 1 });
    for (const id of ['pump_1', 'pump_2', 'pump_3']) await service.register(id, 'pulse_oximeter');
  });
  afterAll(async () => {
    await device.endAsync();
    await service.remove();
    await broker.stop();
    await database.drop();
  });

  const online = (id: string): Promise<unknown> =>
    device.publishAsync(`devices/${id}/status`, JSON.stringify({ status: 'online' }), { qos: 1 });
  const respond = (id: string, body: object): Promise<unknown> =>
    device.publishAsync(`devices/${id}/responses`, JSON.stringify(body), { qos: 1 });
  const statusOf = async (id: string, commandId: string): Promise<string> =>
    (await service.read(`/devices/${id}/commands/${commandId}`)).body.status as string;

  it('keeps an offline device’s commands in order and sends them when it comes online', async () => {
    const ids: string[] = [];
    for (const interval of [1, 2, 3]) {
      const { status, body } = await service.post('/devices/pump_1/command', {
        command: 'set_interval',
        parameters: { interval },
      });
      expect({ status, ledger: body.status }).toEqual({ status: 202, ledger: 'queued' });
      ids.push(body.command_id);
    }
    const cancelled = await service.post('/devices/pump_1/command', { command: 'restart' });
    const cancel = `/devices/pump_1/commands/${cancelled.body.command_id}/cancel`;
    expect((await service.post(cancel, {})).body.status).toBe('cancelled');
    expect(received).toEqual([]);

    await online('pump_1');
    await until('the commands', () => received.length === 3);
    expect(received.map(({ body }) => [body['interval'], body['command_id']])).toEqual(
      ids.map((id, i) => [i + 1, id]),
    );
    await until('the ledger', async () => (await statusOf('pump_1', ids[2] ?? '')) === 'sent');
    expect((await service.post(cancel, {})).body.code).toBe('command_not_cancellable');
    if (kind === 'mosquitto 5') {
      expect(received[0]?.packet.properties).toEqual({
        payloadFormatIndicator: true,
        contentType: 'application/json',
        responseTopic: 'devices/pump_1/responses',
        correlationData: Buffer.from(ids[0] ?? ''),
        messageExpiryInterval: expect.any(Number),
        userProperties: { command_id: ids[0], expires_at: expect.any(String) },
      });
    }
  });

  it('follows the device’s answers, and tells', async () => {
    const watcher = await service.live(`?token=${await service.token()}`);
    await watcher.hear('connected');
    const { body } = await service.post('/devices/pump_1/command', { command: 'measure_now' });
    const { command_id: id } = body;
    await respond('pump_1', { command_id: id, status: 'acknowledged' });
    await until('the acknowledgement', async () => (await statusOf('pump_1', id)) === 'acknowledged');
    await respond('pump_1', { command_id: id, status: 'completed', result: { spo2: 98 } });
    await watcher.hear('command.completed', (data) => data['command_id'] === id);
    await respond('pump_1', { command_id: id, status: 'failed', error: 'late' });
    await respond('pump_1', { command_id: id, status: 'completed', result: { spo2: 98 } });
    const ledger = await service.read(`/devices/pump_1/commands/${id}`);
    expect(ledger.body).toMatchObject({
      status: 'completed',
      result: { spo2: 98 },
      error: null,
      attempts: 1,
    });
    const told = watcher.messages.filter(({ data }) => data['command_id'] === id).map(({ event }) => event);
    expect(told).toEqual(['command.queued', 'command.sent', 'command.acknowledged', 'command.completed']);
    watcher.end();
  });

  it('takes an answer whose error is long, or no text', async () => {
    await online('pump_3');
    for (const [error, kept] of [
      ['x'.repeat(1_500), 'x'.repeat(1_000)],
      [{ code: 7 }, '{"code":7}'],
    ]) {
      const { body } = await service.post('/devices/pump_3/command', { command: 'identify' });
      await until('it to be sent', async () => (await statusOf('pump_3', body.command_id)) === 'sent');
      await respond('pump_3', { command_id: body.command_id, status: 'failed', error });
      await until('it to have failed', async () => (await statusOf('pump_3', body.command_id)) === 'failed');
      const ledger = await service.read(`/devices/pump_3/commands/${body.command_id}`);
      expect(ledger.body.error).toBe(kept);
    }
  });

  it('takes null for what is not given', async () => {
    const order = { command: 'identify', parameters: null, expires_in: null };
    const { status, body } = await service.post('/devices/pump_3/command', order);
    expect({ status, parameters: body.parameters }).toEqual({ status: 202, parameters: {} });
    expect(Date.parse(body.expires_at) - Date.parse(body.created_at)).toBe(3_600_000);
  });

  if (kind === 'mosquitto 5')
    it('takes an answer that names its command by its correlation data alone', async () => {
      const { body } = await service.post('/devices/pump_1/command', { command: 'sync_time' });
      const command = await until('the command', () =>
        received.find((each) => each.body['command_id'] === body.command_id),
      );
      const { responseTopic = '', correlationData = Buffer.alloc(0) } = command.packet.properties ?? {};
      const properties = { correlationData, userProperties: { firmware: '1.2' } };
      await device.publishAsync(responseTopic, '{"status":"completed"}', { qos: 1, properties });
      await until('the answer', async () => (await statusOf('pump_1', body.command_id)) === 'completed');
    });

  it('quarantines answers to another device’s command, to none, and malformed ones', async () => {
    const { body } = await service.post('/devices/pump_1/command', { command: 'identify' });
    await respond('pump_2', { command_id: body.command_id, status: 'completed' });
    await respond('pump_1', { command_id: '00000000-0000-4000-8000-000000000000', status: 'completed' });
    await respond('pump_1', { command_id: body.command_id, status: 'done' });
    await respond('pump_1', { command_id: body.command_id, status: 'completed', device_id: 'pump_2' });
    const rows = await until('the quarantine', async () => {
      const found = await database.query<{ reason: string }>(
        'SELECT reason FROM rejected_messages ORDER BY id',
      );
      return found.length === 4 && found;
    });
    expect(rows.map(({ reason }) => reason)).toEqual([
      'device_id_mismatch',
      'invalid_payload',
      'invalid_payload',
      'device_id_mismatch',
    ]);
    expect(await statusOf('pump_1', body.command_id)).toBe('sent');
  });

  it('quarantines an answer to what the device was not sent', async () => {
    const order = { command: 'restart', expires_in: '500ms' };
    const { body } = await service.post('/devices/pump_2/command', order);
    await respond('pump_2', { command_id: body.command_id, status: 'completed' });
    const details = (): Promise<{ reason: string; detail: string }[]> =>
      database.query(
        `SELECT reason, detail FROM rejected_messages WHERE position('was not sent' IN detail) > 0`,
      );
    await until('the quarantine', async () => (await details()).length === 1);
    await until('the expiry', async () => (await statusOf('pump_2', body.command_id)) === 'expired');
    await respond('pump_2', { command_id: body.command_id, status: 'completed', result: 1 });
    await until('the other', async () => (await details()).length === 2);
    expect(await details()).toEqual(
      Array(2).fill({
        reason: 'invalid_payload',
        detail: 'command_id is that of a command that was not sent.',
      }),
    );
    expect((await service.read(`/devices/pump_2/commands/${body.command_id}`)).body).toMatchObject({
      status: 'expired',
      attempts: 0,
      acknowledged_at: null,
      completed_at: null,
      late: false,
    });
    await online('pump_2');
    await until(
      'pump_2 to be online',
      async () => (await service.read('/devices/pump_2')).body.status === 'online',
    );
    expect(received.some(({ topic }) => topic === 'devices/pump_2/commands')).toBe(false);
  });

  it('expires what is not done in time, and records a late answer', async () => {
    const { body } = await service.post('/devices/pump_2/command', {
      command: 'restart',
      expires_in: '2s',
    });
    await until('the command', () => received.some((each) => each.body['command_id'] === body.command_id));
    await until('the expiry', async () => (await statusOf('pump_2', body.command_id)) === 'expired');
    await respond('pump_2', { command_id: body.command_id, status: 'completed', result: 1 });
    const late = await until('the late answer', async () => {
      const answer = await service.read(`/devices/pump_2/commands/${body.command_id}`);
      return answer.body.completed_at !== null && answer.body;
    });
    expect(late).toMatchObject({
      status: 'expired',
      result: 1,
      late: true,
      late_response: 'completed',
      sent_at: expect.any(String),
    });
  });

  it('refuses reserved parameter names, unknown devices and unusable bodies', async () => {
    const send = async (body: unknown, id = 'pump_1'): Promise<[number, string, unknown]> => {
      const answer = await service.post(`/devices/${id}/command`, body);
      return [answer.status, answer.body.code, answer.body.errors?.[0]?.field];
    };
    expect(await send({ command: 'restart', parameters: { command_id: '1' } })).toEqual([
      400,
      'validation_failed',
      'parameters.command_id',
    ]);
    expect(await send({ command: '' })).toEqual([400, 'validation_failed', 'command']);
    expect(await send({ command: 'restart', parameters: [1] })).toEqual([
      400,
      'validation_failed',
      'parameters',
    ]);
    expect(await send('{"command":"restart","parameters":{"a":1e400}}')).toEqual([
      400,
      'validation_failed',
      'parameters.a',
    ]);
    expect(await send({ command: 'restart', expires_in: 'soon' })).toEqual([
      400,
      'validation_failed',
      'expires_in',
    ]);
    expect(await send({ command: 'restart', expires_in: '104000000d' })).toEqual([
      400,
      'validation_failed',
      'expires_in',
    ]);
    expect(await send({ command: 'restart' }, 'nobody')).toEqual([404, 'device_not_found', undefined]);
    expect((await service.read('/devices/pump_1/commands/not-a-uuid')).status).toBe(400);
    const unknown = '/devices/pump_1/commands/00000000-0000-4000-8000-000000000000';
    expect((await service.read(unknown)).body.code).toBe('command_not_found');
  });

  it('takes the commands of the catalogue, and names what is wrong with others', async () => {
    const { status, body } = await service.read('/device-types');
    expect(status).toBe(200);
    const types = body.data as {
      type: string;
      commands: { command: string; parameters: { properties: Record<string, object> } }[];
    }[];
    expect(types.map(({ type }) => type)).toEqual([
      'blood_pressure_monitor',
      'glucose_meter',
      'pulse_oximeter',
      'ecg_monitor',
      'weight_scale',
      'temperature_sensor',
    ]);
    for (const { type, commands } of types) {
      expect(commands.map(({ command }) => command)).toEqual(
        expect.arrayContaining([
          'start_monitoring',
          'stop_monitoring',
          'measure_now',
          'set_interval',
          'sync_time',
          'identify',
          'restart',
        ]),
      );
      const spec = commands.find(({ command }) => command === 'start_monitoring');
      expect(spec?.parameters.properties['interval']).toMatchObject({
        type: 'integer',
        minimum: 1,
        maximum: 86_400,
      });
      // The seed's example.
      await service.register(`of_type_${type}`, type);
      const taken = await service.post(`/devices/of_type_${type}/command`, {
        command: 'start_monitoring',
        parameters: { interval: 30, duration: 3_600 },
      });
      expect(taken.status).toBe(202);
      for (const [order, field] of [
        [{ command: 'self_destruct' }, 'command'],
        [{ command: 'start_monitoring', parameters: { interval: '30' } }, 'parameters.interval'],
        [{ command: 'start_monitoring', parameters: { pace: 30 } }, 'parameters.pace'],
      ]) {
        const refused = await service.post(`/devices/of_type_${type}/command`, order);
        expect(refused.status).toBe(400);
        expect(refused.body).toMatchObject({
          code: 'validation_failed',
          errors: [{ field, message: expect.any(String) }],
        });
      }
    }
  });

  it('lists the ledger, newest first, page by page', async () => {
    const first = await service.read('/devices/pump_1/commands?limit=2');
    const second = await service.read(`/devices/pump_1/commands?limit=100&cursor=${first.body.next_cursor}`);
    const commands = [...first.body.data, ...second.body.data] as { command: string; created_at: string }[];
    expect(commands.map(({ command }) => command)).toEqual([
      'identify',
      ...(kind === 'mosquitto 5' ? ['sync_time'] : []),
      'measure_now',
      'restart',
      'set_interval',
      'set_interval',
      'set_interval',
    ]);
    expect(second.body.next_cursor).toBeNull();
  });
});

describe('COMMANDS_ALLOW_CUSTOM', () => {
  it('lets commands and parameters through that the catalogue does not know', async () => {
    const service = await Service.start({ COMMANDS_ALLOW_CUSTOM: 'true' });
    await service.register('pump_1', 'pulse_oximeter');
    const send = async (body: object): Promise<number> =>
      (await service.post('/devices/pump_1/command', body)).status;
    expect(await send({ command: 'vendor.calibrate', parameters: { points: [1, 2] } })).toBe(202);
    expect(await send({ command: 'start_monitoring', parameters: { interval: 30, mode: 'sleep' } })).toBe(
      202,
    );
    expect(await send({ command: 'start_monitoring', parameters: { interval: -1 } })).toBe(400);
    expect(await send({ command: 'vendor.calibrate', parameters: { command_id: 'x' } })).toBe(400);
    const large =
      '{"command":"vendor.calibrate","parameters":{"serial":9007199254740991,"of":[1,{"n":9007199254740993}]}}';
    const refused = await service.post('/devices/pump_1/command', large);
    expect({ status: refused.status, body: refused.body }).toMatchObject({
      status: 422,
      body: {
        code: 'number_not_exact',
        errors: [{ field: 'parameters.of.1.n', message: expect.stringContaining('2^53') }],
      },
    });
    expect(await send({ command: 'vendor.load', parameters: { text: 'x'.repeat(100 * 1_024) } })).toBe(413);
    await service.remove();
  });
});
