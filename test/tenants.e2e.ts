import type { MqttClient } from 'mqtt';
import { createDatabase, type TestDatabase } from './support/database.js';
import { Service, type Answer } from './support/service.js';
import { until } from './support/until.js';

const SYSTOLIC = { north: 111, south: 122, default: 133 } as const;
type Tenant = keyof typeof SYSTOLIC;
const TENANTS = Object.keys(SYSTOLIC) as Tenant[];
/** All three have a patient 1: patient ids are a tenant's own. */
const PATIENT = 1;

describe('tenants', () => {
  let database: TestDatabase;
  let service: Service;
  let device: MqttClient;

  const claimsOf = (
    tenant: Tenant,
    more: Record<string, unknown> = { role: 'admin' },
  ): Record<string, unknown> => ({
    ...more,
    ...(tenant !== 'default' && { hospital: tenant }),
  });
  const bearer = async (tenant: Tenant, more?: Record<string, unknown>): Promise<Record<string, string>> => ({
    authorization: `Bearer ${await service.token(claimsOf(tenant, more))}`,
  });
  const read = async (tenant: Tenant, path: string, headers: Record<string, string> = {}): Promise<Answer> =>
    service.get(path, { ...(await bearer(tenant)), ...headers });
  const post = async (tenant: Tenant, path: string, body: unknown = ''): Promise<Answer> =>
    service.post(path, body, await bearer(tenant));
  const publish = (deviceId: string, payload: object): Promise<unknown> =>
    device.publishAsync(`devices/${deviceId}/data`, JSON.stringify(payload), { qos: 1 });
  const pressure = (systolic: number): object => ({ metric_type: 'blood_pressure', systolic, diastolic: 60 });
  const others = (tenant: Tenant): Tenant[] => TENANTS.filter((each) => each !== tenant);

  beforeAll(async () => {
    database = await createDatabase();
    service = await Service.start({ DATABASE_URL: database.url, JWT_TENANT_CLAIM: 'hospital' });
    device = await service.mqtt();
    for (const tenant of TENANTS) {
      const answer = await post(tenant, '/devices/register', {
        device_id: `cuff_${tenant}`,
        type: 'blood_pressure_monitor',
        patient_id: PATIENT,
      });
      expect(answer.status).toBe(201);
      await publish(`cuff_${tenant}`, pressure(SYSTOLIC[tenant]));
      await until('its readings', async () => {
        const { body } = await read(tenant, `/devices/cuff_${tenant}/latest`);
        return (body.data as unknown[]).length > 0;
      });
    }
  });
  afterAll(async () => {
    await device.endAsync();
    await service.remove();
    await database.drop();
  });

  it('stamps what is registered with the tenant of the token, or the default one', async () => {
    expect(await database.query('SELECT device_id, tenant FROM medical_devices ORDER BY id')).toEqual(
      TENANTS.map((tenant) => ({ device_id: `cuff_${tenant}`, tenant })),
    );
  });

  describe.each(TENANTS)('a token of %s', (tenant) => {
    it.each([
      ['admin', { role: 'admin' }],
      ['clinician', { role: 'clinician' }],
      ['patient', { role: 'patient', patient_id: PATIENT }],
    ])('lists its own devices only, as %s', async (_role, claims) => {
      for (const path of ['/devices', `/devices?patient_id=${PATIENT}`]) {
        const { body } = await service.get(path, await bearer(tenant, claims));
        expect(body.data.map((each: { device_id: string }) => each.device_id)).toEqual([`cuff_${tenant}`]);
      }
    });

    it('reads its own device, its readings and its exports', async () => {
      const own = `/devices/cuff_${tenant}`;
      expect((await read(tenant, own)).status).toBe(200);
      expect((await read(tenant, `${own}/data`)).text).toContain(String(SYSTOLIC[tenant]));
      expect((await read(tenant, `${own}/data`, { accept: 'text/csv' })).text).toContain(
        String(SYSTOLIC[tenant]),
      );
    });

    it("meets 404 at another tenant's device, as if it were not there", async () => {
      for (const other of [...others(tenant).map((each) => `cuff_${each}`), 'no_such_device']) {
        for (const claims of [{ role: 'admin' }, { role: 'patient', patient_id: PATIENT }]) {
          for (const path of ['', '/data', '/latest', '/data?interval=5m', '/data?max_points=10']) {
            const answer = await service.get(`/devices/${other}${path}`, await bearer(tenant, claims));
            expect({ path, status: answer.status, code: answer.body.code }).toEqual({
              path,
              status: 404,
              code: 'device_not_found',
            });
          }
        }
        const id = '7b0a2b1e-51a5-4a86-9f6c-7f3cf2d9c0aa';
        for (const answer of [
          await read(tenant, `/devices/${other}/data`, { accept: 'text/csv' }),
          await read(tenant, `/devices/${other}/data`, { accept: 'application/x-ndjson' }),
          await read(tenant, `/devices/${other}/commands`),
          await read(tenant, `/devices/${other}/commands/${id}`),
          await post(tenant, `/devices/${other}/commands/${id}/cancel`),
          await post(tenant, `/devices/${other}/command`, { command: 'stop_monitoring' }),
        ]) {
          expect({ status: answer.status, code: answer.body?.code }).toEqual({
            status: 404,
            code: 'device_not_found',
          });
        }
      }
    });

    it('watches its own devices only, whatever it subscribes to', async () => {
      const token = await service.token(claimsOf(tenant, { role: 'clinician' }));
      const all = await service.live(`?token=${token}`);
      const greedy = await service.live(`?token=${token}`);
      await Promise.all([all.hear('connected'), greedy.hear('connected')]);
      greedy.say({
        event: 'subscribe',
        data: { device_ids: TENANTS.map((each) => `cuff_${each}`), patient_ids: [PATIENT] },
      });
      await greedy.hear('subscribed');
      for (const each of [...others(tenant), tenant])
        await publish(`cuff_${each}`, pressure(SYSTOLIC[each] + 0.5));
      for (const watcher of [all, greedy]) {
        await watcher.hear('device.data.received', (data) => data['device_id'] === `cuff_${tenant}`);
        const seen = watcher.messages.flatMap(({ data }) => data['device_id'] ?? []);
        expect(new Set(seen)).toEqual(new Set([`cuff_${tenant}`]));
        watcher.end();
      }
    });

    it("sees what its own devices' messages were rejected for, and retries no other", async () => {
      for (const each of TENANTS)
        await publish(`cuff_${each}`, { metric_type: 'blood_pressure', systolic: 9_000 });
      await publish('of_nobody', pressure(120));
      const list = async (of: Tenant): Promise<{ id: number; device_id: string }[]> =>
        (await read(of, '/rejected-messages?limit=1000')).body.data;
      for (const each of TENANTS)
        await until(`the rejection of ${each}`, async () =>
          (await list(each)).some(({ device_id: id }) => id === `cuff_${each}`),
        );
      await until('that of nobody', async () =>
        (await list('default')).some(({ device_id: id }) => id === 'of_nobody'),
      );
      const own = await list(tenant);
      // What no registered device has sent is for the default tenant.
      const expected = tenant === 'default' ? ['cuff_default', 'of_nobody'] : [`cuff_${tenant}`];
      expect([...new Set(own.map(({ device_id: id }) => id))].sort()).toEqual(expected);
      for (const other of others(tenant)) {
        const filtered = await read(tenant, `/rejected-messages?device_id=cuff_${other}`);
        expect(filtered.body.data).toEqual([]);
        const [theirs] = (await list(other)).filter(({ device_id: id }) => id === `cuff_${other}`);
        const retried = await post(tenant, `/rejected-messages/${theirs?.id}/retry`);
        expect({ status: retried.status, code: retried.body.code }).toEqual({
          status: 404,
          code: 'rejected_message_not_found',
        });
      }
      const mine = own.find(({ device_id: id }) => id === `cuff_${tenant}`);
      expect((await post(tenant, `/rejected-messages/${mine?.id}/retry`)).status).toBe(409);
    });

    it("reads what its own people did in the audit log, without another tenant's patients", async () => {
      const { body } = await read(tenant, '/audit?limit=1000');
      const entries = body.data as { tenant: string | null }[];
      expect(entries.length).toBeGreaterThan(0);
      const allowed = tenant === 'default' ? ['default', null] : [tenant];
      for (const entry of entries) expect(allowed).toContain(entry.tenant);
      const foreign = `/audit?device_id=cuff_${others(tenant)[0]}&action=getDevice`;
      await read(tenant, `/devices/cuff_${others(tenant)[0]}`);
      const [newest] = await until('the refusal', async () => {
        const { body: found } = await read(tenant, foreign);
        return (found.data as { outcome: string; patient_id: number | null }[]).length > 0 && found.data;
      });
      // Whose the device is that is not there for this tenant, its log does not say.
      expect(newest).toMatchObject({ outcome: 'refused', patient_id: null });
    });
  });

  it('commands its own device, and tells of it to its own watchers', async () => {
    const [ours, theirs] = await Promise.all(
      (['north', 'south'] as const).map(async (tenant) => {
        const watcher = await service.live(`?token=${await service.token(claimsOf(tenant))}`);
        await watcher.hear('connected');
        return watcher;
      }),
    );
    expect((await post('north', '/devices/cuff_north/command', { command: 'start_monitoring' })).status).toBe(
      202,
    );
    await ours?.hear('command.queued');
    expect((await post('south', '/devices/cuff_south/command', { command: 'start_monitoring' })).status).toBe(
      202,
    );
    await theirs?.hear('command.queued');
    expect(theirs?.messages.filter(({ event }) => event === 'command.queued')).toHaveLength(1);
    expect(theirs?.messages.map(({ data }) => data['device_id'])).not.toContain('cuff_north');
    ours?.end();
    theirs?.end();
  });

  it('moves with the device, for the messages that come after', async () => {
    await post('north', '/devices/register', {
      device_id: 'cuff_moving',
      type: 'blood_pressure_monitor',
      patient_id: PATIENT,
    });
    const watcher = await service.live(`?token=${await service.token(claimsOf('south'))}`);
    await watcher.hear('connected');
    await publish('cuff_moving', pressure(101));
    await until('it to be stored', async () =>
      (await read('north', '/devices/cuff_moving/data')).text.includes('101'),
    );
    await database.query("UPDATE medical_devices SET tenant = 'south' WHERE device_id = 'cuff_moving'");
    await publish('cuff_moving', pressure(102));
    await watcher.hear('device.data.received', (data) => data['systolic'] === 102);
    expect(watcher.messages.some(({ data }) => data['systolic'] === 101)).toBe(false);
    expect((await read('north', '/devices/cuff_moving')).status).toBe(404);
    watcher.end();
  });

  it.each(['', 7, null, ['north'], 'a b', {}])('refuses a token whose claim is %j', async (hospital) => {
    const token = await service.token({ role: 'admin', hospital });
    expect((await service.get('/devices', { authorization: `Bearer ${token}` })).status).toBe(401);
    const watcher = await service.live(`?token=${token}`);
    expect(await watcher.closed()).toBe(4401);
  });

  it('takes no other claim for it', async () => {
    const token = await service.token({ role: 'admin', tenant: 'north' });
    expect((await service.get('/devices/cuff_north', { authorization: `Bearer ${token}` })).status).toBe(404);
    expect((await service.get('/devices/cuff_default', { authorization: `Bearer ${token}` })).status).toBe(
      200,
    );
  });
});
