import type { MqttClient } from 'mqtt';
import { createDatabase, type TestDatabase } from './support/database.js';
import type { LiveClient } from './support/live-client.js';
import { Service } from './support/service.js';
import { until } from './support/until.js';

describe('the life of a device', () => {
  let database: TestDatabase;
  let service: Service;
  let device: MqttClient;
  let watcher: LiveClient;

  beforeAll(async () => {
    database = await createDatabase();
    service = await Service.start({ DATABASE_URL: database.url });
    device = await service.mqtt();
    watcher = await service.live(`?token=${await service.token()}`);
    await watcher.hear('connected');
  });
  afterAll(async () => {
    watcher.end();
    await device.endAsync();
    await service.remove();
    await database.drop();
  });

  const weigh = async (id: string, value: number, timestamp?: string): Promise<void> => {
    const body = { metric_type: 'weight', value, unit: 'kg', ...(timestamp !== undefined && { timestamp }) };
    await device.publishAsync(`devices/${id}/data`, JSON.stringify(body), { qos: 1 });
  };
  const valuesOf = async (id: string, claims: object, path = 'data'): Promise<number[]> => {
    const token = await service.token({ ...claims });
    const { body } = await service.get(`/devices/${id}/${path}`, { authorization: `Bearer ${token}` });
    return (body.data as { value: number }[]).map(({ value }) => value);
  };
  const as = async (claims: Record<string, unknown>): Promise<Record<string, string>> => ({
    authorization: `Bearer ${await service.token(claims)}`,
  });

  it('is registered for their own patient only by whoever is confined to one', async () => {
    const own = await as({ scope: 'devices:write', patient_id: 2 });
    const nobody = await as({ role: 'patient', scope: 'devices:write' });
    const wanted = { device_id: 'scale_of_2', type: 'weight_scale' };
    for (const [patient_id, caller] of [
      [3, own],
      [2, nobody],
    ] as const) {
      const answer = await service.post('/devices/register', { ...wanted, patient_id }, caller);
      expect({ status: answer.status, code: answer.body.code }).toEqual({
        status: 403,
        code: 'foreign_patient',
      });
    }
    expect((await service.read('/devices/scale_of_2')).status).toBe(404);
    expect((await service.post('/devices/register', { ...wanted, patient_id: 2 }, own)).status).toBe(201);
  });

  describe('PATCH /devices/{device_id}', () => {
    it('assigns a device to another patient, for everything that comes after', async () => {
      await service.register('scale_1', 'weight_scale', 1);
      await weigh('scale_1', 70, '2024-01-01T00:00:00Z');
      await until('the first', async () => (await valuesOf('scale_1', { role: 'admin' })).length === 1);
      const { status, body } = await service.patch('/devices/scale_1', { patient_id: 2, model: 'S2' });
      expect(status).toBe(200);
      expect(body).toMatchObject({
        patient_id: 2,
        model: 'S2',
        serial_number: null,
      });
      const told = await watcher.hear('device.updated', (data) => data['device_id'] === 'scale_1');
      expect(told.data).toEqual({
        device_id: 'scale_1',
        patient_id: 2,
        device_type: 'weight_scale',
        model: 'S2',
        serial_number: null,
        reassigned: true,
      });
      await weigh('scale_1', 90);
      const next = await watcher.hear(
        'device.data.received',
        (data) => data['device_id'] === 'scale_1' && data['value'] === 90,
      );
      expect(next.data['patient_id']).toBe(2);
      expect(
        (await service.get('/devices/scale_1', await as({ role: 'patient', patient_id: 1 }))).status,
      ).toBe(404);
    });

    it('shows the new patient nothing that was measured for the one before', async () => {
      const mine = { role: 'patient', patient_id: 2 };
      await until('the second', async () => (await valuesOf('scale_1', { role: 'admin' })).length === 2);
      for (const path of ['data', 'data?from=2020-01-01T00:00:00Z', 'data?max_points=10', 'latest'])
        expect(await valuesOf('scale_1', mine, path)).toEqual([90]);
      const csv = await service.get('/devices/scale_1/data', { ...(await as(mine)), accept: 'text/csv' });
      expect(csv.text).not.toContain(',70,');
      const { body } = await service.get('/devices/scale_1/data?interval=1d&aggregate=count', await as(mine));
      expect(body.data).toHaveLength(1);
    });

    it('takes back what was ordered for the patient before, and shows the new one nothing of it', async () => {
      await service.register('scale_handed_on', 'weight_scale', 1);
      const order = async (): Promise<string> =>
        (await service.post('/devices/scale_handed_on/command', { command: 'identify' })).body.command_id;
      const before = await order();
      const claims = { scope: 'commands:read commands:send stream', patient_id: 2 };
      const owner = await service.live(`?token=${await service.token(claims)}`);
      await owner.hear('connected');
      await service.patch('/devices/scale_handed_on', { patient_id: 2 });
      const cancelled = await watcher.hear('command.cancelled', (data) => data['command_id'] === before);
      expect(cancelled.data['patient_id']).toBeNull();
      const after = await order();
      await owner.hear('command.queued', (data) => data['command_id'] === after);
      expect(owner.messages.filter(({ data }) => data['command_id'] === before)).toEqual([]);
      owner.end();
      const mine = await as(claims);
      const path = '/devices/scale_handed_on/commands';
      const { body } = await service.get(path, mine);
      expect(body.data.map((command: { command_id: string }) => command.command_id)).toEqual([after]);
      expect((await service.get(`${path}/${after}`, mine)).status).toBe(200);
      expect((await service.get(`${path}/${before}`, mine)).body.code).toBe('command_not_found');
      expect((await service.post(`${path}/${before}/cancel`, {}, mine)).body.code).toBe('command_not_found');
      expect((await service.read(path)).body.data).toHaveLength(2);
    });

    it('shows the new patient nothing that came in before, though the device dated it later', async () => {
      await service.register('scale_5', 'weight_scale', 1);
      await weigh('scale_5', 70, new Date(Date.now() + 240_000).toISOString());
      await until('the first', async () => (await valuesOf('scale_5', { role: 'admin' })).length === 1);
      await service.patch('/devices/scale_5', { patient_id: 2 });
      const mine = { role: 'patient', patient_id: 2 };
      await weigh('scale_5', 90);
      await until('the second', async () => (await valuesOf('scale_5', { role: 'admin' })).length === 2);
      const ahead = encodeURIComponent(new Date(Date.now() + 60_000).toISOString());
      for (const path of ['data', 'data?max_points=10', 'latest'])
        expect(await valuesOf('scale_5', mine, path)).toEqual([90]);
      expect(await valuesOf('scale_5', mine, `data?from=${ahead}`)).toEqual([]);
      for (const accept of ['text/csv', 'application/x-ndjson']) {
        const { text } = await service.get('/devices/scale_5/data', { ...(await as(mine)), accept });
        expect(text).toContain('90');
        expect(text).not.toContain('70');
      }
      const { body } = await service.get(
        '/devices/scale_5/data?interval=1d&aggregate=max,min',
        await as(mine),
      );
      expect(body.data).toMatchObject([{ min: 90, max: 90 }]);
    });

    it('tells the new patient nothing that was measured before, whenever it is uploaded', async () => {
      await service.register('scale_6', 'weight_scale', 1);
      await service.patch('/devices/scale_6', { patient_id: 2 });
      const owner = await service.live(`?token=${await service.token({ role: 'patient', patient_id: 2 })}`);
      await owner.hear('connected');
      const at = (ago: number): string => new Date(Date.now() - ago).toISOString();
      const readings = [
        { metric_type: 'weight', value: 70, unit: 'kg', timestamp: at(60_000) },
        { metric_type: 'weight', value: 90, unit: 'kg', timestamp: at(0) },
      ];
      await device.publishAsync('devices/scale_6/data', JSON.stringify({ readings }), { qos: 1 });
      const last = await owner.hear('device.data.received', ({ value }) => value === 90);
      expect(last.data['patient_id']).toBe(2);
      expect(owner.messages.filter(({ data }) => data['value'] === 70)).toEqual([]);
      owner.end();
      const told = await watcher.hear(
        'device.data.received',
        ({ value, device_id }) => value === 70 && device_id === 'scale_6',
      );
      expect(told.data['patient_id']).toBeNull();
    });

    it.each([
      ['an unknown field', { patient_id: 1, status: 'online' }, 'status'],
      ['the device id', { device_id: 'x' }, 'device_id'],
      ['the type', { type: 'glucose_meter' }, 'type'],
      ['no patient', { patient_id: null }, 'patient_id'],
      ['patient 0', { patient_id: 0 }, 'patient_id'],
      ['a patient that is a text', { patient_id: '1' }, 'patient_id'],
      ['an empty model', { model: '' }, 'model'],
      ['a long serial number', { serial_number: 'x'.repeat(101) }, 'serial_number'],
    ])('refuses %s', async (_what, body, field) => {
      const answer = await service.patch('/devices/scale_1', body);
      expect({ status: answer.status, field: answer.body.errors?.[0].field }).toEqual({ status: 400, field });
    });

    it('changes nothing, and tells nothing, when nothing is to be changed', async () => {
      const before = (await service.read('/devices/scale_1')).body;
      const told = watcher.messages.length;
      for (const body of [{}, { patient_id: 2 }, { model: 'S2' }])
        expect((await service.patch('/devices/scale_1', body)).body).toMatchObject({
          patient_id: 2,
          model: 'S2',
        });
      expect({ ...(await service.read('/devices/scale_1')).body, status: '' }).toEqual({
        ...before,
        status: '',
      });
      expect(watcher.messages.slice(told).filter(({ event }) => event === 'device.updated')).toEqual([]);
    });

    it('answers 404 for an unknown device, and keeps those out who may not', async () => {
      expect((await service.patch('/devices/nobody', {})).body.code).toBe('device_not_found');
      const viewer = await as({ role: 'viewer' });
      for (const answer of [
        await service.patch('/devices/scale_1', {}, viewer),
        await service.delete('/devices/scale_1', viewer),
        await service.post('/devices/scale_1/credentials', {}, viewer),
      ])
        expect({ status: answer.status, code: answer.body.code }).toEqual({
          status: 403,
          code: 'insufficient_scope',
        });
      const confined = await as({ scope: 'devices:write', patient_id: 3 });
      expect((await service.patch('/devices/scale_1', { model: 'X' }, confined)).status).toBe(404);
      expect((await service.delete('/devices/scale_1', confined)).status).toBe(404);
      expect((await service.post('/devices/scale_1/credentials', {}, confined)).status).toBe(404);
      const own = await as({ scope: 'devices:write', patient_id: 2 });
      expect((await service.patch('/devices/scale_1', { patient_id: 3 }, own)).body.code).toBe(
        'foreign_patient',
      );
    });

    it('loses nothing of twenty at once, each of which names something else', async () => {
      await service.register('scale_2', 'weight_scale', 1);
      const answers = await Promise.all(
        Array.from({ length: 20 }, (_, i) =>
          service.patch('/devices/scale_2', i % 2 === 0 ? { model: `M${i}` } : { serial_number: `S${i}` }),
        ),
      );
      expect(answers.map(({ status }) => status)).toEqual(Array<number>(20).fill(200));
      const { body } = await service.read('/devices/scale_2');
      expect(body).toMatchObject({
        model: expect.stringMatching(/^M/),
        serial_number: expect.stringMatching(/^S/),
      });
    });
  });

  describe('DELETE /devices/{device_id}', () => {
    it('ends its service for good and keeps its readings', async () => {
      const { body } = await service.register('scale_3', 'weight_scale', 5);
      const own = await service.mqtt({
        ...loginOf(body.credentials),
        will: {
          topic: 'devices/scale_3/status',
          payload: Buffer.from('{"status":"offline"}'),
          qos: 1,
          retain: false,
        },
      });
      await weigh('scale_3', 60, '2024-01-01T00:00:00Z');
      await until(
        'it to be online',
        async () => (await service.read('/devices/scale_3')).body.status === 'online',
      );
      const sent = await service.post('/devices/scale_3/command', { command: 'tare' });
      await device.publishAsync('devices/scale_3/status', '{"status":"offline"}', { qos: 1 });
      await until(
        'it to be offline',
        async () => (await service.read('/devices/scale_3')).body.status === 'offline',
      );
      const queued = await service.post('/devices/scale_3/command', { command: 'restart' });
      expect([sent.body.status, queued.body.status]).toEqual(['sent', 'queued']);
      await weigh('scale_3', 61, '2024-01-01T00:01:00Z');
      await until(
        'it to be online',
        async () => (await service.read('/devices/scale_3')).body.status === 'online',
      );
      const late = await service.post('/devices/scale_3/command', { command: 'identify' });
      expect(late.status).toBe(202);

      const dropped = new Promise<void>((resolve) => own.once('close', () => resolve()));
      const answer = await service.delete('/devices/scale_3');
      expect({ status: answer.status, text: answer.text }).toEqual({ status: 204, text: '' });
      await dropped;
      await expect(service.mqtt(loginOf(body.credentials))).rejects.toThrow();
      await watcher.hear('device.decommissioned', (data) => data['device_id'] === 'scale_3');

      const view = (await service.read('/devices/scale_3')).body;
      expect(view).toMatchObject({ status: 'offline', decommissioned_at: expect.any(String) });
      expect(await valuesOf('scale_3', { role: 'admin' })).toEqual([61, 60]);
      const listed = (await service.read('/devices?patient_id=5')).body.data;
      expect(listed).toEqual([]);
      await weigh('scale_3', 62);
      const rejected = await until('the quarantine', async () => {
        const { body: page } = await service.read('/rejected-messages?device_id=scale_3');
        return page.data.length > 0 && page.data;
      });
      // No will of the session that was cut off is among them.
      expect(rejected.map(({ topic, reason }: { topic: string; reason: string }) => [topic, reason])).toEqual(
        [['devices/scale_3/data', 'decommissioned_device']],
      );
      expect((await service.read('/devices/scale_3')).body.status).toBe('offline');
      await own.endAsync(true);
    });

    it('cancels what was queued, and takes no further order', async () => {
      await service.register('scale_4', 'weight_scale', 5);
      const { body } = await service.post('/devices/scale_4/command', { command: 'restart' });
      await service.delete('/devices/scale_4');
      await until(
        'the ledger',
        async () =>
          (await service.read(`/devices/scale_4/commands/${body.command_id}`)).body.status === 'cancelled',
      );
      await watcher.hear('command.cancelled', (data) => data['command_id'] === body.command_id);
      for (const answer of [
        await service.post('/devices/scale_4/command', { command: 'restart' }),
        await service.patch('/devices/scale_4', { model: 'X' }),
        await service.post('/devices/scale_4/credentials', {}),
      ])
        expect({ status: answer.status, code: answer.body.code }).toEqual({
          status: 409,
          code: 'device_decommissioned',
        });
    });

    it('may be done again; its id stays taken', async () => {
      const before = (await service.read('/devices/scale_4')).body;
      expect((await service.delete('/devices/scale_4')).status).toBe(204);
      expect((await service.read('/devices/scale_4')).body).toEqual(before);
      const again = await service.register('scale_4', 'weight_scale', 9);
      expect({ status: again.status, code: again.body.code }).toEqual({
        status: 409,
        code: 'device_already_registered',
      });
      expect((await service.delete('/devices/nobody')).status).toBe(404);
    });

    it('and PATCH and rotation at once leave nobody with an account', async () => {
      for (let round = 0; round < 5; round += 1) {
        const id = `race_${round}`;
        await service.register(id, 'weight_scale', 5);
        const [patched, deleted, rotated] = await Promise.all([
          service.patch(`/devices/${id}`, { patient_id: 6 }),
          service.delete(`/devices/${id}`),
          service.post(`/devices/${id}/credentials`, {}),
        ]);
        expect(deleted.status).toBe(204);
        for (const { status } of [patched, rotated]) expect([200, 409]).toContain(status);
        expect((await service.read(`/devices/${id}`)).body.decommissioned_at).not.toBeNull();
        if (rotated.status === 200) await expect(service.mqtt(loginOf(rotated.body))).rejects.toThrow();
      }
      const left = await database.query("SELECT FROM device_credentials WHERE device_id LIKE 'race%'");
      expect(left).toEqual([]);
    });
  });

  it.each(['mqtt_user', 'hduce_mqtt_service', 'hduce_mqtt_service-out-1', 'mqtt-service-setup'])(
    'refuses to register %s, a name of the service’s own',
    async (id) => {
      const answer = await service.register(id);
      expect([answer.status, answer.body.errors?.[0].field]).toEqual([400, 'device_id']);
    },
  );

  it('refuses to register the names another replica has at the broker, and warns of one that is there', async () => {
    await service.register('replica_2-out-1', 'weight_scale');
    const replica = await Service.prepare({
      DATABASE_URL: database.url,
      // Nobody listens there.
      MQTT_BROKER_HOST: '127.0.0.1',
      MQTT_CLIENT_ID: 'replica_2',
      MQTT_USERNAME: 'account_of_replica_2',
    });
    await replica.launch();
    await until('the warning', () => replica.log.includes("replica_2-out-1 has a name of the service's own"));
    await replica.end();
    for (const id of ['replica_2', 'replica_2-out-2', 'account_of_replica_2']) {
      const answer = await service.register(id, 'weight_scale');
      expect([id, answer.status, answer.body.errors?.[0].field]).toEqual([id, 400, 'device_id']);
    }
    expect((await service.register('replica_20', 'weight_scale')).status).toBe(201);
    await replica.remove();
  });
});

function loginOf(credentials: { username: string; password: string; client_id: string }): {
  username: string;
  password: string;
  clientId: string;
} {
  return { username: credentials.username, password: credentials.password, clientId: credentials.client_id };
}
