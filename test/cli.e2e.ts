import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { decodeJwt } from 'jose';
import { createDatabase, type TestDatabase } from './support/database.js';
import { freePort } from './support/free-port.js';
import { JWT_SECRET, Service } from './support/service.js';

const ROOT = join(__dirname, '..');

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs an npm script as a user would. */
const npm = (script: string, args: readonly string[], env: Record<string, string> = {}): Promise<Outcome> =>
  execute('npm', ['run', script, '--', ...args], env);

/** Runs what an npm script runs, without npm. */
const cli = (name: string, args: readonly string[], env: Record<string, string>): Promise<Outcome> =>
  execute(process.execPath, ['scripts/run.mjs', `cli/${name}`, ...args], env);

function execute(command: string, args: readonly string[], env: Record<string, string>): Promise<Outcome> {
  return new Promise((resolve) => {
    const { PATH, HOME } = process.env;
    const options = { cwd: ROOT, env: { PATH, HOME, ...env } };
    execFile(command, [...args], options, (error, stdout, stderr) =>
      resolve({ code: error ? Number(error.code) : 0, stdout, stderr }),
    );
  });
}

describe('the command line', () => {
  let folder: string;
  let database: TestDatabase;

  beforeAll(async () => {
    database = await createDatabase();
    folder = mkdtempSync(join(tmpdir(), 'mqtt-service-cli-'));
  });
  afterAll(async () => {
    await database.drop();
    rmSync(folder, { recursive: true, force: true });
  });

  it('npm run token prints a token alone, valid for the service of the same folder', async () => {
    const service = await Service.start({ DATABASE_URL: database.url, DATA_DIR: folder, JWT_SECRET: '' });
    const { code, stdout } = await npm('token', ['--role', 'clinician', '--sub', 'operator-1'], {
      DATA_DIR: folder,
    });
    expect(code).toBe(0);
    expect(stdout).toMatch(/^[\w-]+\.[\w-]+\.[\w-]+\n$/);
    expect(decodeJwt(stdout.trim())).toMatchObject({ role: 'clinician', sub: 'operator-1' });
    expect((await service.get('/devices', { authorization: `Bearer ${stdout.trim()}` })).status).toBe(200);
    await service.remove();
  });

  it('npm run token takes scope, patient, tenant and lifetime, and refuses nonsense and production', async () => {
    const env = { DATA_DIR: folder };
    const { stdout } = await cli(
      'token',
      ['--scope', 'devices:read stream', '--patient-id', '4', '--tenant', 't', '--expires-in', '10m'],
      env,
    );
    const claims = decodeJwt(stdout.trim());
    expect(claims).toMatchObject({ scope: 'devices:read stream', patient_id: 4, tenant: 't' });
    expect((claims.exp ?? 0) - (claims.iat ?? 0)).toBe(600);
    for (const args of [
      ['--role', 'king'],
      ['--scope', 'all'],
      ['--role', 'patient'],
      ['--expires-in', 'never'],
      ['--what'],
    ]) {
      expect(await cli('token', args, env)).toMatchObject({ code: 1, stdout: '' });
    }
    const production = {
      NODE_ENV: 'production',
      JWT_SECRET,
      DATABASE_URL: 'postgresql://u:words-of-the-database@h/d',
    };
    const refused = await cli('token', [], {
      ...production,
      MQTT_BROKER_HOST: 'h',
      MQTT_PASSWORD: 'words-of-the-broker',
      ALLOW_INSECURE_TRANSPORT: 'true',
    });
    expect(refused).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringContaining('refused when NODE_ENV=production'),
    });
  });

  it('npm run check:mqtt says whether the broker can be used', async () => {
    const service = await Service.start({ DATABASE_URL: database.url });
    const env = { MQTT_BROKER_PORT: String(service.brokerPort) };
    const good = await npm('check:mqtt', [], env);
    expect(good).toMatchObject({ code: 0, stdout: expect.stringContaining('Round trip   ok') });
    expect(good.stdout.match(/granted, QoS 1/g)).toHaveLength(3);
    expect(await cli('check-mqtt', [], { ...env, MQTT_PASSWORD: 'wrong' })).toMatchObject({ code: 1 });
    const nobody = await npm('check:mqtt', [], { MQTT_BROKER_PORT: String(await freePort()) });
    expect(nobody).toMatchObject({ code: 1, stdout: expect.stringContaining('FAILED') });
    await service.remove();
  });

  it('npm run mqtt publishes', async () => {
    const service = await Service.start({ DATABASE_URL: database.url });
    await service.register('scale_1', 'weight_scale');
    const env = { MQTT_BROKER_PORT: String(service.brokerPort) };
    const message = '{"metric_type":"weight","value":70.5}';
    expect((await npm('mqtt', ['publish', 'devices/scale_1/data', message], env)).code).toBe(0);
    await service.untilReady();
    expect((await cli('mqtt', ['dance'], env)).code).toBe(1);
    await service.remove();
  });

  it('names DATA_DIR when it can not be made', async () => {
    for (const path of [
      '/proc/nowhere/data',
      join(ROOT, 'package.json', 'data'),
      join(ROOT, 'package.json'),
    ]) {
      const service = await Service.prepare({ DATA_DIR: path });
      expect(await service.launchInVain()).toMatchObject({
        code: 1,
        output: expect.stringContaining(`DATA_DIR: ${path}`),
      });
      await service.remove();
    }
  });

  it('lists everything that is wrong with the configuration at once', async () => {
    const service = await Service.prepare({
      PORT: 'high',
      LOG_LEVEL: 'LOUD',
      MQTT_TOPIC_DEVICES: 'devices/#',
    });
    const { code, output } = await service.launchInVain();
    expect(code).toBe(1);
    for (const name of ['PORT', 'LOG_LEVEL', 'MQTT_TOPIC_DEVICES'])
      expect(output).toContain(`  - ${name}: expected`);
    await service.remove();
  });
});
