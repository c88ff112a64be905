import { SignJWT } from 'jose';
import { createDatabase, type TestDatabase } from './support/database.js';
import { JWT_SECRET, Service, type Answer } from './support/service.js';

describe('Idempotency-Key', () => {
  let database: TestDatabase;
  let first: Service;
  let second: Service;

  beforeAll(async () => {
    database = await createDatabase();
    // Two on one ledger: a client may ask again somewhere else.
    [first, second] = await Promise.all([
      Service.start({ DATABASE_URL: database.url }),
      Service.start({ DATABASE_URL: database.url }),
    ]);
    for (const id of ['scale_1', 'scale_2']) await first.register(id, 'weight_scale');
  });
  afterAll(async () => {
    await Promise.all([first.remove(), second.remove()]);
    await database.drop();
  });

  const ORDER = { command: 'start_monitoring', parameters: { interval: 30, duration: 60 } };
  const order = (key: string, body: unknown = ORDER, device = 'scale_1', service = first): Promise<Answer> =>
    service.post(`/devices/${device}/command`, body, { 'idempotency-key': key });
  const stored = async (): Promise<number> => {
    const [row] = await database.query<{ count: string }>('SELECT count(*) FROM device_commands');
    return Number(row?.count);
  };

  it('makes one command of many equal orders at once, at two replicas', async () => {
    const before = await stored();
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, index) =>
        order('"key-1"', ORDER, 'scale_1', index % 2 ? first : second),
      ),
    );
    expect(answers.map(({ status }) => status)).toEqual(Array(20).fill(202));
    expect(new Set(answers.map(({ body }) => body.command_id)).size).toBe(1);
    expect(await stored()).toBe(before + 1);
  });

  it('knows an order again by what it says, not by how it is written', async () => {
    const { body } = await order('key-2');
    const parameters = { duration: 60, interval: 30 };
    const same = await order(
      '"key-2"',
      `{"expires_in":"60m","parameters":${JSON.stringify(parameters)},"command":"start_monitoring"}`,
    );
    expect({ status: same.status, id: same.body.command_id }).toEqual({ status: 202, id: body.command_id });
  });

  it('answers with what has become of the command', async () => {
    const { body } = await order('key-3');
    await first.post(`/devices/scale_1/commands/${body.command_id}/cancel`, {});
    expect((await order('key-3')).body).toMatchObject({ command_id: body.command_id, status: 'cancelled' });
  });

  it.each([
    ['command', { ...ORDER, command: 'identify', parameters: { duration: 60 } }],
    ['parameters', { ...ORDER, parameters: { interval: 31, duration: 60 } }],
    ['time', { ...ORDER, expires_in: '10m' }],
  ])('is not for an order of another %s', async (_what, body) => {
    await order('key-4');
    const before = await stored();
    const answer = await order('key-4', body);
    expect({ status: answer.status, code: answer.body.code }).toEqual({
      status: 422,
      code: 'idempotency_key_reused',
    });
    expect(await stored()).toBe(before);
  });

  it("is the caller's and the device's own", async () => {
    const other = await new SignJWT({ role: 'admin' })
      .setProtectedHeader({ alg: 'HS256' })
      .setSubject('somebody else')
      .setExpirationTime('1h')
      .sign(Buffer.from(JWT_SECRET));
    const ids = [
      await order('key-5'),
      await order('key-5', ORDER, 'scale_2'),
      await order('key-6'),
      await first.post('/devices/scale_1/command', ORDER),
      await first.post('/devices/scale_1/command', ORDER),
      await first.post('/devices/scale_1/command', ORDER, {
        'idempotency-key': 'key-5',
        authorization: `Bearer ${other}`,
      }),
    ].map(({ body }) => body.command_id as string);
    expect(new Set(ids).size).toBe(6);
  });

  it.each([
    ['longer than the column', 'x'.repeat(300), 'x'.repeat(301)],
    ['with NUL', 'a\u0000b', 'a\u0001b'],
    ['with lone surrogates', 'a\ud800b', 'a\ud801b'],
  ])('is for subjects %s, too', async (_what, one, other) => {
    const orders: Answer[] = [];
    for (const sub of [one, other, one]) {
      const authorization = `Bearer ${await first.token({ role: 'admin', sub })}`;
      orders.push(
        await first.post('/devices/scale_1/command', ORDER, { 'idempotency-key': 'key-7', authorization }),
      );
    }
    expect(orders.map(({ status }) => status)).toEqual([202, 202, 202]);
    const [mine, others, again] = orders.map(({ body }) => body.command_id as string);
    expect([again, others === mine]).toEqual([mine, false]);
    expect(orders[0]?.body.created_by).toMatch(/~[0-9a-f]{32}$/);
  });

  it.each([undefined, ''])(
    'is not for tokens with the subject %j: they would share their keys',
    async (sub) => {
      const authorization = `Bearer ${await first.token({ role: 'admin', sub })}`;
      const before = await stored();
      const refused = await first.post('/devices/scale_1/command', ORDER, {
        'idempotency-key': 'key-8',
        authorization,
      });
      expect({ status: refused.status, code: refused.body.code }).toEqual({
        status: 422,
        code: 'idempotency_key_without_subject',
      });
      expect(await stored()).toBe(before);
      const plain = await first.post('/devices/scale_1/command', ORDER, { authorization });
      expect(plain.status).toBe(202);
    },
  );

  it('shows an earlier command only to whoever may read it', async () => {
    await first.register('scale_3', 'weight_scale');
    const ordered = await order('key-9', ORDER, 'scale_3');
    await first.patch('/devices/scale_3', { patient_id: 2 });
    const authorization = `Bearer ${await first.token({ scope: 'commands:send commands:read', patient_id: 2 })}`;
    const read = await first.get(`/devices/scale_3/commands/${ordered.body.command_id}`, { authorization });
    const again = await first.post('/devices/scale_3/command', ORDER, {
      'idempotency-key': 'key-9',
      authorization,
    });
    expect([read.status, again.status, again.body.code]).toEqual([404, 422, 'idempotency_key_reused']);
    expect(again.text).not.toContain(ordered.body.command_id);
    // Who is confined to no patient may read it, and is told what became of it.
    expect((await order('key-9', ORDER, 'scale_3')).body.command_id).toBe(ordered.body.command_id);
  });

  it('may have 255 characters, and no more', async () => {
    const long = 'k'.repeat(255);
    const [bare, quoted] = [await order(long), await order(`"${long}"`)];
    expect([bare.status, quoted.body.command_id]).toEqual([202, bare.body.command_id]);
    for (const key of ['', '""', `${long}k`, `"${long}k"`, '"half', 'a "b"', 'a, b c']) {
      const answer = await order(key);
      expect({ key, status: answer.status, errors: answer.body.errors }).toEqual({
        key,
        status: 400,
        errors: [{ field: 'Idempotency-Key', message: expect.any(String) }],
      });
    }
  });
});
