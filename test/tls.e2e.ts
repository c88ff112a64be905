import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, copyFileSync, readFileSync } from 'node:fs';
import type { IncomingMessage } from 'node:http';
import { get } from 'node:https';
import { connect, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { connect as connectTls, createServer, type ConnectionOptions, type Server } from 'node:tls';
import { connectAsync } from 'mqtt';
import { WebSocket } from 'ws';
import { TestAuthority, type Issued } from './support/certificates.js';
import { createDatabase, type TestDatabase } from './support/database.js';
import { freePort } from './support/free-port.js';
import { Mosquitto } from './support/mosquitto.js';
import { installedPostgresVersions, PostgresServer, unprivileged } from './support/postgres-server.js';
import { Service } from './support/service.js';
import { until } from './support/until.js';

const ROOT = join(__dirname, '..');
const MESSAGE = '{"metric_type":"weight","value":70.5}';

const missing = [
  ...(TestAuthority.available ? [] : ['openssl']),
  ...(Mosquitto.installed ? [] : ['mosquitto']),
  ...(installedPostgresVersions().length > 0 ? [] : ['postgresql']),
];
if (missing.length > 0) {
  process.stderr.write(
    `Not tested with TLS: ${missing.join(', ')} not installed (Debian: apt-get install)\n`,
  );
}

(missing.length === 0 ? describe : describe.skip)('TLS', () => {
  let authority: TestAuthority;
  let stranger: TestAuthority;
  let server: Issued;
  let database: TestDatabase;
  const services: Service[] = [];

  beforeAll(async () => {
    authority = TestAuthority.create('Hospital');
    stranger = TestAuthority.create('Stranger');
    server = authority.issue('server', 'DNS:localhost');
    database = await createDatabase();
  });
  afterEach(async () => {
    await Promise.all(services.splice(0).map((service) => service.remove()));
  });
  afterAll(async () => {
    await database.drop();
    authority.remove();
    stranger.remove();
  });

  /** A service that is removed after the test, not started yet. */
  const prepare = async (env: Readonly<Record<string, string>>): Promise<Service> => {
    const service = await Service.prepare({ DATABASE_URL: database.url, ...env });
    services.push(service);
    return service;
  };

  describe('to the broker', () => {
    let mosquitto: Mosquitto;
    let env: Readonly<Record<string, string>>;

    beforeAll(async () => {
      const port = await freePort();
      const client = authority.issue('service', 'DNS:mqtt-service');
      mosquitto = await Mosquitto.prepare([
        `listener ${port} 127.0.0.1`,
        `cafile ${authority.cert}`,
        `certfile ${server.cert}`,
        `keyfile ${server.key}`,
        'require_certificate true',
      ]);
      await mosquitto.start();
      env = {
        ...mosquitto.env,
        MQTT_BROKER_HOST: 'localhost',
        MQTT_BROKER_PORT: String(port),
        MQTT_TLS: 'true',
        MQTT_TLS_CA: authority.cert,
        MQTT_TLS_CERT: client.cert,
        MQTT_TLS_KEY: client.key,
      };
    });
    afterAll(() => mosquitto.remove());

    it.each(['5', '3.1.1'])('takes measurements in and publishes events, MQTT %s', async (version) => {
      const service = await prepare({ ...env, MQTT_PROTOCOL_VERSION: version });
      await service.launch();
      await service.untilReady();
      await service.register(`scale_${version}`, 'weight_scale');
      const device = await connectAsync(`mqtt://127.0.0.1:${mosquitto.port}`, {
        username: mosquitto.username,
        password: mosquitto.password,
      });
      const events: string[] = [];
      device.on('message', (topic) => events.push(topic));
      await device.subscribeAsync('events/#', { qos: 1 });
      await device.publishAsync(`devices/scale_${version}/data`, MESSAGE, { qos: 1 });
      await until('the event', () => events.includes(`events/device.data.received/scale_${version}`));
      expect((await service.read(`/devices/scale_${version}/data`)).body.data).toHaveLength(1);
      await device.endAsync();
    });

    const check = (more: Readonly<Record<string, string>>): Promise<{ code: number; output: string }> =>
      new Promise((resolve) => {
        const { PATH, HOME } = process.env;
        const options = { cwd: ROOT, env: { PATH, HOME, ...env, ...more } };
        execFile(process.execPath, ['scripts/run.mjs', 'cli/check-mqtt'], options, (error, stdout) =>
          resolve({ code: error ? Number(error.code) : 0, output: stdout }),
        );
      });

    it('npm run check:mqtt uses it, and says why a certificate is refused', async () => {
      expect(await check({})).toEqual({ code: 0, output: expect.stringContaining(', TLS, MQTT 5') });
      expect(await check({ MQTT_TLS_CA: stranger.cert })).toEqual({
        code: 1,
        output: expect.stringMatching(/certificate/),
      });
      // The certificate is for localhost.
      expect(await check({ MQTT_BROKER_HOST: '127.0.0.1' })).toEqual({
        code: 1,
        output: expect.stringContaining("IP: 127.0.0.1 is not in the cert's list"),
      });
      expect((await check({ MQTT_TLS_CERT: '', MQTT_TLS_KEY: '' })).code).toBe(1);
    });
  });

  describe.each(['TLSv1.2', 'TLSv1.3'] as const)('to a broker it does not trust, %s', (version) => {
    let impostor: Server;
    let received: Buffer[];
    let handshakes: number;

    beforeAll(async () => {
      received = [];
      handshakes = 0;
      const files = { cert: readFileSync(server.cert), key: readFileSync(server.key) };
      impostor = createServer({ ...files, minVersion: version, maxVersion: version }, (socket) => {
        socket.on('data', (chunk: Buffer) => received.push(chunk)).on('error', () => undefined);
      });
      impostor.on('connection', () => (handshakes += 1));
      impostor.on('tlsClientError', () => undefined);
      impostor.listen(0, '127.0.0.1');
      await once(impostor, 'listening');
    });
    afterAll(() => impostor.close());

    it.each<[string, string, boolean]>([
      ['another authority', 'localhost', false],
      ['another name', '127.0.0.1', false],
      ['nothing wrong', 'localhost', true],
    ])('sends no password: %s', async (what, host, trusted) => {
      received.length = 0;
      handshakes = 0;
      const service = await prepare({
        MQTT_BROKER_HOST: host,
        MQTT_BROKER_PORT: String((impostor.address() as AddressInfo).port),
        MQTT_TLS: 'true',
        MQTT_TLS_CA: (what === 'another authority' ? stranger : authority).cert,
      });
      await service.launch();
      if (trusted) {
        await until('the CONNECT', () => Buffer.concat(received).includes('mqtt_password'));
      } else {
        await until('several attempts', () => handshakes > 4);
        expect(Buffer.concat(received)).toHaveLength(0);
        expect(service.log).toMatch(/Broker .* not usable \(\w+: .*cert/);
      }
    });
  });

  describe.each(installedPostgresVersions())('to PostgreSQL %s', (postgresVersion) => {
    let postgres: PostgresServer;
    let encrypted: TestDatabase;

    beforeAll(async () => {
      const key = `${server.key}.postgres`;
      copyFileSync(server.key, key);
      const account = unprivileged();
      if (account) chownSync(key, account.uid, account.gid);
      chmodSync(key, 0o600);
      postgres = await PostgresServer.start(postgresVersion, [
        'ssl=on',
        `ssl_cert_file=${server.cert}`,
        `ssl_key_file=${key}`,
        'log_connections=on',
        'logging_collector=on',
        'log_filename=postgresql.log',
      ]);
      encrypted = await createDatabase(postgres.url);
    });
    afterAll(async () => {
      await encrypted.drop();
      await postgres.remove();
    });

    const urlFor = (host: string, trusted: TestAuthority): string => {
      const url = new URL(encrypted.url);
      url.hostname = host;
      url.search = `sslmode=verify-full&sslrootcert=${trusted.cert}`;
      return url.href;
    };
    /** What PostgreSQL says of a connection that was made under this name. */
    const connectionsOf = (name: string): readonly string[] =>
      readFileSync(postgres.log, 'utf8')
        .split('\n')
        .filter(
          (line) => line.includes('connection authorized') && line.includes(`application_name=${name} `),
        );

    it('encrypts every connection', async () => {
      const mosquitto = await Mosquitto.prepare();
      await mosquitto.start();
      // An external broker: with the embedded one, no lease is needed.
      const service = await prepare({ ...mosquitto.env, DATABASE_URL: urlFor('localhost', authority) });
      await service.launch();
      await service.untilReady();
      expect((await service.register('scale_1', 'weight_scale')).status).toBe(201);
      const [lease] = await encrypted.query<{ pid: number }>(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'mqtt-service-lease'",
      );
      // The lease's connection is lost: what PostgreSQL may still hold of it is cleaned up on a connection of its own.
      await encrypted.query('SELECT pg_terminate_backend($1)', [lease?.pid]);
      const names = ['mqtt-service', 'mqtt-service-ingest', 'mqtt-service-lease', 'mqtt-service-cleaner'];
      await until('all connections', () => names.every((name) => connectionsOf(name).length > 0));
      for (const line of names.flatMap(connectionsOf)) expect(line).toContain('SSL enabled');
      await service.end();
      await mosquitto.remove();
    });

    it.each<[string, string, () => TestAuthority]>([
      ['another authority', 'localhost', () => stranger],
      ['another name', '127.0.0.1', () => authority],
    ])('refuses %s', async (_what, host, trusted) => {
      const before = connectionsOf('mqtt-service').length;
      const service = await prepare({ DATABASE_URL: urlFor(host, trusted()) });
      await service.launch();
      await until('the complaint', () => /Not reachable \((UNABLE_TO_VERIFY|\w*CERT)/.test(service.log));
      expect((await service.get('/health/ready')).status).toBe(503);
      expect(connectionsOf('mqtt-service')).toHaveLength(before);
      expect(await service.end()).toBe(0);
    });
  });

  describe('HTTPS', () => {
    /** GET by a client that trusts this authority. */
    const ask = async (port: number, path: string, ca: string): Promise<{ status: number; text: string }> => {
      const request = get({ host: 'localhost', port, path, ca: readFileSync(ca), agent: false });
      const [response] = (await once(request, 'response')) as [IncomingMessage];
      const chunks: Buffer[] = [];
      for await (const chunk of response) chunks.push(chunk as Buffer);
      return { status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString() };
    };

    it('serves REST and WebSocket, and no plain HTTP', async () => {
      const service = await prepare({ TLS_CERT: server.cert, TLS_KEY: server.key });
      await service.launch(() => ask(service.port, '/health/live', authority.cert));
      expect(await ask(service.port, '/openapi.json', authority.cert)).toMatchObject({ status: 200 });
      await expect(ask(service.port, '/health/live', stranger.cert)).rejects.toThrow(/certificate/);
      await expect(service.get('/health/live')).rejects.toThrow();
      const socket = new WebSocket(`wss://localhost:${service.port}/ws/mqtt?token=${await service.token()}`, {
        ca: readFileSync(authority.cert),
      });
      const [first] = (await once(socket, 'message')) as [Buffer];
      expect(JSON.parse(first.toString())).toMatchObject({ event: 'connected' });
      socket.terminate();
      await until('the addresses', () => service.log.includes(`wss://127.0.0.1:${service.port}/ws/mqtt`));
    });

    it('answers who would rather speak HTTP/2, too', async () => {
      const service = await prepare({ TLS_CERT: server.cert, TLS_KEY: server.key });
      await service.launch(() => ask(service.port, '/health/live', authority.cert));
      const socket = connectTls({ host: 'localhost', port: service.port, ca: readFileSync(authority.cert) });
      socket.write(
        'GET /health/live HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: h2c\r\n\r\n',
      );
      expect(await text(socket)).toMatch(/^HTTP\/1\.1 200 /);
    });

    it('ends a connection that never finishes its handshake', async () => {
      const service = await prepare({
        TLS_CERT: server.cert,
        TLS_KEY: server.key,
        HTTP_REQUEST_TIMEOUT: '3s',
      });
      await service.launch(() => ask(service.port, '/health/live', authority.cert));
      const socket = connect(service.port, '127.0.0.1').on('error', () => undefined);
      const begun = performance.now();
      // The head of a record that is 512 bytes long, and then a byte now and then.
      socket.write(Buffer.from([22, 3, 1, 2, 0, 1]));
      const drip = setInterval(() => socket.write(Buffer.from([0])), 200);
      socket.resume();
      await once(socket, 'close');
      clearInterval(drip);
      expect(performance.now() - begun).toBeGreaterThan(900);
      expect(performance.now() - begun).toBeLessThan(10_000);
    });

    it('agrees on nothing but forward secrecy and authenticated encryption, also once its certificate is renewed', async () => {
      const files = { cert: `${server.cert}.ciphers`, key: `${server.key}.ciphers` };
      copyFileSync(server.cert, files.cert);
      copyFileSync(server.key, files.key);
      const service = await prepare({ TLS_CERT: files.cert, TLS_KEY: files.key });
      await service.launch(() => ask(service.port, '/health/live', authority.cert));
      /** What is agreed on, or null. */
      const agreed = async (options: ConnectionOptions): Promise<string | null> => {
        const ca = readFileSync(authority.cert);
        const socket = connectTls({ host: 'localhost', port: service.port, ca, ...options });
        try {
          await once(socket, 'secureConnect');
          return socket.getCipher().standardName;
        } catch {
          return null;
        } finally {
          socket.destroy();
        }
      };
      const old = { maxVersion: 'TLSv1.2' } as const;
      const check = async (): Promise<void> => {
        for (const ciphers of [
          'AES256-GCM-SHA384',
          'AES128-SHA',
          'ECDHE-RSA-AES256-SHA384',
          'ECDHE-RSA-AES128-SHA',
          'ECDHE-ECDSA-AES256-SHA384',
        ])
          expect([ciphers, await agreed({ ...old, ciphers: `${ciphers}:@SECLEVEL=0` })]).toEqual([
            ciphers,
            null,
          ]);
        const obsolete = { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', ciphers: 'ALL:@SECLEVEL=0' } as const;
        expect(await agreed(obsolete)).toBeNull();
        expect(await agreed(old)).toMatch(/^TLS_ECDHE_.*(GCM|POLY1305)/);
        expect(await agreed({})).toMatch(/^TLS_(AES|CHACHA20)/);
      };
      await check();
      const next = authority.issue('next_ciphers', 'DNS:localhost');
      copyFileSync(next.cert, files.cert);
      copyFileSync(next.key, files.key);
      await until('the new certificate', () => service.log.includes('changed, and in use'));
      await check();
    });

    it('shows a renewed certificate without a restart, and the one before until both files are there', async () => {
      const files = { cert: `${server.cert}.renewed`, key: `${server.key}.renewed` };
      copyFileSync(server.cert, files.cert);
      copyFileSync(server.key, files.key);
      const service = await prepare({ TLS_CERT: files.cert, TLS_KEY: files.key, LOG_LEVEL: 'INFO' });
      await service.launch(() => ask(service.port, '/health/live', authority.cert));
      const next = stranger.issue('next', 'DNS:localhost');
      copyFileSync(next.cert, files.cert);
      await until('the complaint', () => service.log.includes('changed to what can not be used'));
      expect(await ask(service.port, '/health/live', authority.cert)).toMatchObject({ status: 200 });
      copyFileSync(next.key, files.key);
      await until('the new certificate', async () => {
        return (await ask(service.port, '/health/live', stranger.cert)).status === 200;
      });
      await expect(ask(service.port, '/health/live', authority.cert)).rejects.toThrow(/certificate/);
    });

    it('does not start with a key that belongs to another certificate', async () => {
      const other = authority.issue('other', 'DNS:localhost');
      const service = await prepare({ TLS_CERT: server.cert, TLS_KEY: other.key });
      expect(await service.launchInVain()).toMatchObject({
        code: 1,
        output: expect.stringContaining('TLS_CERT, TLS_KEY: expected a PEM certificate and the key'),
      });
    });
  });
});
