import { generateKeyPairSync, type KeyObject } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { exportJWK, SignJWT } from 'jose';
import { createDatabase, type TestDatabase } from './support/database.js';
import { Service } from './support/service.js';
import { until } from './support/until.js';

describe('tokens of a key server', () => {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  let answering = false;
  /** Calls back instead of an answer, as long as it is there. */
  let hold: ((answer: () => void) => void) | null = null;
  let keys: Server;
  let database: TestDatabase;
  let service: Service;

  beforeAll(async () => {
    const body = JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: 'k1' }] });
    keys = createServer((_request, response) => {
      const answer = (): void => void response.writeHead(answering ? 200 : 503).end(body);
      if (hold) hold(answer);
      else answer();
    });
    keys.listen(0, '127.0.0.1');
    await once(keys, 'listening');
    database = await createDatabase();
    const { port } = keys.address() as AddressInfo;
    service = await Service.start({
      DATABASE_URL: database.url,
      JWT_SECRET: '',
      JWT_JWKS_URI: `http://127.0.0.1:${port}/jwks`,
    });
  });
  afterAll(async () => {
    await service.remove();
    await database.drop();
    keys.close();
  });

  const sign = (key: KeyObject): Promise<string> =>
    new SignJWT({ role: 'viewer' })
      .setProtectedHeader({ alg: 'ES256', kid: 'k1' })
      .setExpirationTime('1h')
      .sign(key);

  it('lets nobody in while it is away, says that it is not the token, and lets in when it is back', async () => {
    const token = await sign(privateKey);
    const authorization = `Bearer ${token}`;
    answering = false;
    const away = await service.get('/devices', { authorization });
    expect({ status: away.status, code: away.body.code }).toEqual({
      status: 503,
      code: 'key_server_unavailable',
    });
    expect(await (await service.live(`?token=${token}`)).closed()).toBe(1013);
    answering = true;
    expect((await service.get('/devices', { authorization })).status).toBe(200);
    const client = await service.live(`?token=${token}`);
    await client.hear('connected', (data) => data['authenticated'] === true);
    client.end();
    const forged = await sign(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey);
    expect((await service.get('/devices', { authorization: `Bearer ${forged}` })).status).toBe(401);
    expect(await (await service.live(`?token=${forged}`)).closed()).toBe(4401);
    expect((await service.read('/devices')).status).toBe(401);
  });

  it('notes whom it has refused, also when the client did not wait for that', async () => {
    const { port } = keys.address() as AddressInfo;
    const impatient = await Service.start({
      DATABASE_URL: database.url,
      MQTT_CLIENT_ID: 'impatient',
      JWT_SECRET: '',
      JWT_JWKS_URI: `http://127.0.0.1:${port}/jwks`,
    });
    try {
      answering = true;
      const asked = new Promise<() => void>((resolve) => (hold = resolve));
      const forged = await sign(generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey);
      const client = connect(impatient.port, '127.0.0.1');
      client.write(
        `GET /devices HTTP/1.1\r\nHost: x\r\nX-Request-Id: impatient-1\r\nAuthorization: Bearer ${forged}\r\n\r\n`,
      );
      const answer = await asked;
      hold = null;
      client.destroy();
      await once(client, 'close');
      // Asked after it, and of the same process: by then it knows that the client is gone.
      await impatient.get('/health/live');
      answer();
      const entries = await until('the denial', async () => {
        const rows = await database.query(
          "SELECT outcome, detail, source FROM audit_log WHERE request_id = 'impatient-1'",
        );
        return rows.length > 0 && rows;
      });
      expect(entries).toEqual([{ outcome: 'denied', detail: 'bad_token', source: '127.0.0.1' }]);
    } finally {
      await impatient.remove();
    }
  });
});
