import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { verify, VERIFY, type AuditRow } from './support/audit-log.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { Service } from './support/service.js';

describe('the chain of the audit log', () => {
  let database: TestDatabase;
  let service: Service;

  beforeAll(async () => {
    database = await createDatabase();
    service = await Service.start({ DATABASE_URL: database.url });
    await service.register('pump_1', 'blood_pressure_monitor', 1);
    await service.read('/devices/pump_1');
  });
  afterAll(async () => {
    await service.remove();
    await database.drop();
  });

  describe('what stands there', () => {
    it.each([
      "UPDATE audit_log SET actor = 'nobody' WHERE id = 2",
      'DELETE FROM audit_log WHERE id = 2',
      'DELETE FROM audit_log WHERE false',
      'TRUNCATE audit_log',
      'UPDATE audit_head SET id = id - 1',
      'UPDATE audit_head SET hash = decode(repeat($$00$$, 32), $$hex$$)',
      'DELETE FROM audit_head',
      'TRUNCATE audit_head',
    ])('can not be changed: %s', async (sql) => {
      await expect(database.query(sql)).rejects.toThrow('the audit log is added to, and not changed');
    });

    it('is found to be whole, by a check that tells a point to keep', () => {
      const { status, output } = verify(database.url);
      expect({ status, output }).toEqual({ status: 0, output: expect.stringMatching(/\d+:[0-9a-f]{64}\n$/) });
      const point = /(\d+:[0-9a-f]{64})\n$/.exec(output)?.[1] ?? '';
      expect(verify(database.url, '--anchor', point).status).toBe(0);
      expect(verify(database.url, '--anchor', `2:${'ab'.repeat(32)}`)).toEqual({
        status: 1,
        output: expect.stringContaining('row 2 is not the one that was noted'),
      });
    });

    it('is checked in an embedded database, too, whether the service runs or not', async () => {
      const embedded = await Service.start();
      try {
        const { PATH, HOME } = process.env;
        const check = (): { status: number | null; stdout: string; stderr: string } => {
          const { status, stdout, stderr } = spawnSync(process.execPath, [VERIFY], {
            encoding: 'utf8',
            cwd: embedded.folder,
            env: { PATH, HOME, DATA_DIR: join(embedded.folder, 'data') },
          });
          return { status, stdout, stderr };
        };
        await embedded.read('/devices');
        expect(check()).toEqual({ status: 0, stdout: expect.stringContaining('as written'), stderr: '' });
        await embedded.read('/devices');
        await embedded.end();
        expect(check()).toEqual({ status: 0, stdout: expect.stringContaining('2 entries'), stderr: '' });
      } finally {
        await embedded.remove();
      }
    });

    it('can not be checked without a database, or by a point that is none', () => {
      expect(verify('postgresql://nobody@127.0.0.1:9/nothing').status).toBe(1);
      expect(verify(database.url, '--anchor', '12').status).toBe(1);
    });
  });

  describe('a log that a superuser has tampered with', () => {
    let copy: TestDatabase;

    beforeAll(async () => {
      // A database of its own, whose service has ended: nobody writes while it is tampered with.
      copy = await createDatabase();
      const other = await Service.start({ DATABASE_URL: copy.url });
      for (let index = 0; index < 8; index += 1) await other.read('/devices');
      await other.remove();
      for (const table of ['audit_log', 'audit_head']) {
        await copy.query(`ALTER TABLE ${table} DISABLE TRIGGER USER`);
        await copy.query(`CREATE TABLE original_${table} AS SELECT * FROM ${table}`);
      }
    });
    beforeEach(async () => {
      for (const table of ['audit_log', 'audit_head']) {
        await copy.query(`DELETE FROM ${table}`);
        await copy.query(`INSERT INTO ${table} SELECT * FROM original_${table}`);
      }
    });
    afterAll(() => copy.drop());

    it('is whole before that', () => expect(verify(copy.url).status).toBe(0));

    it.each([
      ['an actor', `UPDATE audit_log SET actor = 'nobody' WHERE id = 3`, 'row 3 is not what was written'],
      ['a time', `UPDATE audit_log SET at = at + INTERVAL '1 microsecond' WHERE id = 5`, 'row 5 is not what'],
      ['an outcome', `UPDATE audit_log SET outcome = 'denied' WHERE id = 1`, 'row 1 is not what was written'],
      ['a row missing', 'DELETE FROM audit_log WHERE id = 4', 'row 4 is missing'],
      ['the beginning missing', 'DELETE FROM audit_log WHERE id <= 2', 'row 1 is missing'],
      [
        'two rows exchanged',
        `UPDATE audit_log a SET actor = b.actor, request_id = b.request_id, at = b.at FROM audit_log b
         WHERE (a.id, b.id) IN ((3, 4), (4, 3))`,
        'row 3 is not what was written',
      ],
      ['the end missing', 'DELETE FROM audit_log WHERE id > 5', 'row 6 is missing: the end was cut off'],
      ['everything missing', 'DELETE FROM audit_log', 'row 1 is missing: the end was cut off'],
      [
        'a row behind the end',
        `INSERT INTO audit_log SELECT id + 1, at, patient_id, actor, role, tenant, action, device_id, target, source,
           outcome, detail, request_id, hash FROM audit_log ORDER BY id DESC LIMIT 1`,
        'row 9 is not what was written',
      ],
      [
        'a row before the beginning',
        `INSERT INTO audit_log SELECT 0, at, patient_id, actor, role, tenant, action, device_id, target, source,
           outcome, detail, request_id, hash FROM audit_log ORDER BY id LIMIT 1`,
        'row 1 is missing',
      ],
      ['no head', 'DELETE FROM audit_head', 'head of the chain is missing'],
    ])('is found to have %s', async (_what, sql, problem) => {
      await copy.query(sql);
      expect(verify(copy.url)).toEqual({ status: 1, output: expect.stringContaining(problem) });
    });

    it('passes, cut off and its head set back, unless a point of it was noted', async () => {
      const point = /(\d+:[0-9a-f]{64})\n$/.exec(verify(copy.url).output)?.[1] ?? '';
      await copy.query('DELETE FROM audit_log WHERE id > 5');
      await copy.query('UPDATE audit_head SET id = 5, hash = (SELECT hash FROM audit_log WHERE id = 5)');
      expect(verify(copy.url).status).toBe(0);
      expect(verify(copy.url, '--anchor', point)).toEqual({
        status: 1,
        output: expect.stringContaining('row 6 is missing: row 8 was noted'),
      });
    });
  });

  it('is one chain, also when two replicas write it at once', async () => {
    const replica = await Service.start({
      DATABASE_URL: database.url,
      MQTT_CLIENT_ID: 'replica',
    });
    try {
      const authorization = `Bearer ${await service.token({ role: 'viewer' })}`;
      const [last] = await database.query<{ id: string }>('SELECT id FROM audit_head');
      const requests = Array.from({ length: 150 }, () => [service, replica])
        .flat()
        .map((each) => ({ each, request: crypto.randomUUID() }));
      const answers = await Promise.all(
        requests.map(({ each, request }) =>
          each.get('/devices/pump_1/latest', { authorization, 'x-request-id': request }),
        ),
      );
      expect(answers.every(({ status }) => status === 200)).toBe(true);
      // Each is there once by the time all are answered, and many of them by one commit.
      const entries = await database.query<AuditRow & { commit: string }>(
        `SELECT *, xmin::text AS commit FROM audit_log WHERE request_id = ANY($1)`,
        [requests.map(({ request }) => request)],
      );
      expect(entries.map((entry) => entry.request_id).sort()).toEqual(
        requests.map(({ request }) => request).sort(),
      );
      for (const entry of entries)
        expect(entry).toMatchObject({ action: 'getLatestReadings', patient_id: 1, outcome: 'done' });
      expect(new Set(entries.map(({ commit }) => commit)).size).toBeLessThan(entries.length);
      const [row] = await database.query<{ count: string; width: string }>(
        `SELECT count(*), max(id) - min(id) + 1 AS width FROM audit_log WHERE id > $1`,
        [last?.id],
      );
      expect(Number(row?.count)).toBeGreaterThanOrEqual(300);
      expect(row?.width).toBe(row?.count);
      expect(verify(database.url).status).toBe(0);
    } finally {
      await replica.remove();
    }
  });
});
