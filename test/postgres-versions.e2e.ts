import { createDatabase, type TestDatabase } from './support/database.js';
import { installedPostgresVersions, PostgresServer } from './support/postgres-server.js';
import { Service } from './support/service.js';
import { until } from './support/until.js';

const versions = installedPostgresVersions();
if (versions.length === 0) {
  process.stderr.write(
    'Not tested on an older PostgreSQL: none is installed (Debian: apt-get install postgresql)\n',
  );
}
const describeVersions =
  versions.length > 0 ? describe.each(versions) : describe.skip.each(['(none installed)']);

describeVersions('on PostgreSQL %s', (version) => {
  let server: PostgresServer;
  let database: TestDatabase;
  let service: Service;

  beforeAll(async () => {
    server = await PostgresServer.start(version);
    database = await createDatabase(server.url);
    service = await Service.start({ DATABASE_URL: database.url });
  });
  afterAll(async () => {
    await service.remove();
    await database.drop();
    await server.remove();
  });

  it('migrates, stores, quarantines, answers the history and keeps the ledger', async () => {
    expect((await service.register('scale_1', 'weight_scale')).status).toBe(201);
    const device = await service.mqtt();
    const say = (payload: string): Promise<unknown> =>
      device.publishAsync('devices/scale_1/data', payload, { qos: 1 });
    await say('{"metric_type":"weight","value":70.5,"timestamp":"2024-01-01T00:00:00Z"}');
    await say('{"metric_type":"weight","value":70.5,"timestamp":"2024-01-01T00:00:00Z"}');
    await say('{"metric_type":"weight","value":71}');
    await say('not JSON');
    await until(
      'the quarantine',
      async () => (await database.query('SELECT 1 FROM rejected_messages')).length === 1,
    );
    for (const query of ['', '?interval=1d', '?max_points=10', '?metric_type=weight&order=asc&limit=2']) {
      const { status, body } = await service.read(`/devices/scale_1/data${query}`);
      expect({ status, rows: body.data.length }).toEqual({ status: 200, rows: 2 });
    }
    expect(
      (await service.read('/devices/scale_1/data', { accept: 'text/csv' })).text.split('\r\n'),
    ).toHaveLength(4);
    expect((await service.read('/devices/scale_1/latest')).body.data).toMatchObject([{ value: 71 }]);
    expect((await service.post('/devices/scale_1/command', { command: 'identify' })).body.status).toBe(
      'sent',
    );
    await device.endAsync();
  });
});
