// One real PostgreSQL for all end-to-end suites; each suite makes a database of its own in it.
import { mkdtempSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { EmbeddedPostgres } from '../../dist/libs/platform/src/embedded/embedded-postgres.js';

export default async function globalSetup() {
  const folder = mkdtempSync(join(tmpdir(), 'mqtt-service-test-'));
  const server = await EmbeddedPostgres.start(folder, 'postgres');
  globalThis.__POSTGRES__ = { server, folder };
  process.env.TEST_POSTGRES_URL = server.url;
}
