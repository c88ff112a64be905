import { createSecretKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { exportJWK, SignJWT, UnsecuredJWT } from 'jose';
import { parseConfig } from '../config/config.js';
import { bearerToken, InvalidTokenError, TokenVerifier } from './token-verifier.js';

// Long enough for HS512 too, so that only the algorithm is wrong with such a token.
const SECRET = 'a secret of sixty-four bytes or more, which suits every HMAC there is';
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const otherRsa = generateKeyPairSync('rsa', { modulusLength: 2048 });
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const pem = (key: KeyObject): string => key.export({ type: 'spki', format: 'pem' }).toString();
const hmac = (secret: string): KeyObject => createSecretKey(secret, 'utf8');

const verifier = (env: Readonly<Record<string, string>>): TokenVerifier =>
  new TokenVerifier(parseConfig(env));
const now = (): number => Math.floor(Date.now() / 1_000);

interface Token {
  readonly alg?: string;
  readonly key?: KeyObject;
  readonly header?: Readonly<Record<string, unknown>>;
  /** Seconds from when it is signed. */
  readonly expiresIn?: number;
  readonly claims?: Readonly<Record<string, unknown>>;
}

/** A token that is good for an hour, but for what is said otherwise. */
async function sign(token: Token): Promise<string> {
  const { alg = 'HS256', key = hmac(SECRET), header, expiresIn = 3_600, claims } = token;
  const payload = { sub: 'operator-1', role: 'viewer', exp: now() + expiresIn, ...claims };
  return new SignJWT(payload).setProtectedHeader({ ...header, alg }).sign(key);
}

describe('TokenVerifier', () => {
  it.each<[string, Readonly<Record<string, string>>, Token]>([
    ['HS256 by the secret', { JWT_SECRET: SECRET }, {}],
    [
      'RS256 by the public key',
      { JWT_PUBLIC_KEY: pem(rsa.publicKey) },
      { alg: 'RS256', key: rsa.privateKey },
    ],
    ['ES256 by the public key', { JWT_PUBLIC_KEY: pem(ec.publicKey) }, { alg: 'ES256', key: ec.privateKey }],
    [
      'the issuer and the audience asked for',
      { JWT_SECRET: SECRET, JWT_ISSUER: 'https://id.example', JWT_AUDIENCE: 'mqtt' },
      { claims: { iss: 'https://id.example', aud: ['other', 'mqtt'] } },
    ],
    ['a clock that is 3 s behind', { JWT_SECRET: SECRET }, { expiresIn: -3 }],
    ['a clock that is 3 s ahead', { JWT_SECRET: SECRET }, { claims: { nbf: now() + 3 } }],
  ])('accepts %s', async (_what, env, token) => {
    const principal = await verifier(env).verify(await sign(token));
    expect(principal.subject).toBe('operator-1');
    expect(principal.has('readings:read')).toBe(true);
    expect(principal.has('commands:send')).toBe(false);
  });

  it.each<[string, Readonly<Record<string, string>>, Token]>([
    ['another secret', { JWT_SECRET: SECRET }, { key: hmac(`${SECRET}.`) }],
    ['HS512', { JWT_SECRET: SECRET }, { alg: 'HS512' }],
    ['no exp', { JWT_SECRET: SECRET }, { claims: { exp: undefined } }],
    ['an exp that is no number', { JWT_SECRET: SECRET }, { claims: { exp: 'never' } }],
    ['an nbf that is still to come', { JWT_SECRET: SECRET }, { claims: { nbf: now() + 30 } }],
    [
      'the public key passed off as an HS256 secret',
      { JWT_PUBLIC_KEY: pem(rsa.publicKey) },
      { key: hmac(pem(rsa.publicKey)) },
    ],
    [
      "another RSA key, brought along in the token's header",
      { JWT_PUBLIC_KEY: pem(rsa.publicKey) },
      {
        alg: 'RS256',
        key: otherRsa.privateKey,
        header: { jwk: otherRsa.publicKey.export({ format: 'jwk' }) },
      },
    ],
    ['RS256 where the secret is asked for', { JWT_SECRET: SECRET }, { alg: 'RS256', key: rsa.privateKey }],
    [
      'PS256 by the public key',
      { JWT_PUBLIC_KEY: pem(rsa.publicKey) },
      { alg: 'PS256', key: rsa.privateKey },
    ],
    ['a sub that is a number', { JWT_SECRET: SECRET }, { claims: { sub: 42 } }],
    ['a sub that is null', { JWT_SECRET: SECRET }, { claims: { sub: null } }],
    ['no issuer', { JWT_SECRET: SECRET, JWT_ISSUER: 'https://id.example' }, {}],
    [
      'another issuer',
      { JWT_SECRET: SECRET, JWT_ISSUER: 'https://id.example' },
      { claims: { iss: 'https://id.example.evil' } },
    ],
    ['no audience', { JWT_SECRET: SECRET, JWT_AUDIENCE: 'mqtt' }, {}],
    ['another audience', { JWT_SECRET: SECRET, JWT_AUDIENCE: 'mqtt' }, { claims: { aud: 'billing' } }],
  ])('refuses %s', async (_what, env, token) => {
    await expect(verifier(env).verify(await sign(token))).rejects.toThrow(
      new InvalidTokenError('The token is not valid for this service.'),
    );
  });

  it('knows one spelling of a token, and no other', async () => {
    const letters = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
    const service = verifier({ JWT_SECRET: SECRET });
    let token: string;
    // One whose signature has a letter that base64 writes otherwise.
    do token = await sign({ claims: { jti: crypto.randomUUID() } });
    while (!/[-_][\w-]*$/.test(token.split('.')[2] ?? ''));
    // Of the last letter of 32 bytes, two bits do not count.
    const last = letters.indexOf(token.at(-1) ?? '');
    const [head = '', payload = '', signature = ''] = token.split('.');
    const others = [
      ...[1, 2, 3].map((bits) => token.slice(0, -1) + letters.charAt(last ^ bits)),
      `${token}=`,
      `${token}==`,
      ` ${token}`,
      `${token} `,
      `${token}\n`,
      `${head}.${payload}.${signature.replaceAll('-', '+').replaceAll('_', '/')}`,
      `${head}=.${payload}.${signature}`,
    ];
    for (const seenBefore of [false, true]) {
      for (const other of others) await expect(service.verify(other)).rejects.toThrow(InvalidTokenError);
      if (!seenBefore) await expect(service.verify(token)).resolves.toBeDefined();
    }
  });

  it('says that a token has expired', async () => {
    for (const expiresIn of [-6, -60]) {
      await expect(verifier({ JWT_SECRET: SECRET }).verify(await sign({ expiresIn }))).rejects.toThrow(
        new InvalidTokenError('The token has expired.'),
      );
    }
  });

  it('looks at the time anew with a token it has found good before', async () => {
    const issued = now();
    const token = await sign({ expiresIn: 60, claims: { nbf: issued } });
    const service = verifier({ JWT_SECRET: SECRET });
    jest.useFakeTimers({ now: issued * 1_000, doNotFake: ['nextTick', 'queueMicrotask', 'setImmediate'] });
    try {
      for (const seconds of [0, 30, 64, -5]) {
        jest.setSystemTime((issued + seconds) * 1_000);
        await expect(service.verify(token)).resolves.toMatchObject({ subject: 'operator-1' });
      }
      jest.setSystemTime((issued - 6) * 1_000);
      await expect(service.verify(token)).rejects.toThrow('The token is not valid for this service.');
      jest.setSystemTime(issued * 1_000);
      await expect(service.verify(token)).resolves.toBeDefined();
      jest.setSystemTime((issued + 65) * 1_000);
      await expect(service.verify(token)).rejects.toThrow('The token has expired.');
    } finally {
      jest.useRealTimers();
    }
  });

  it('is not misled by a token it has found good before: another signature, another payload', async () => {
    const service = verifier({ JWT_SECRET: SECRET });
    const [header, payload, signature = ''] = (await sign({})).split('.');
    await service.verify(`${header}.${payload}.${signature}`);
    const [, grander] = (await sign({ claims: { role: 'admin' } })).split('.');
    const other = signature.startsWith('A') ? `B${signature.slice(1)}` : `A${signature.slice(1)}`;
    for (const token of [`${header}.${payload}.${other}`, `${header}.${grander}.${signature}`])
      await expect(service.verify(token)).rejects.toThrow(InvalidTokenError);
  });

  it('refuses a token without a signature', async () => {
    const unsigned = new UnsecuredJWT({ role: 'admin', exp: now() + 3_600 }).encode();
    const [header, payload] = (await sign({})).split('.');
    for (const token of [unsigned, `${header}.${payload}.`, `${header}.${payload}`]) {
      await expect(verifier({ JWT_SECRET: SECRET }).verify(token)).rejects.toThrow(InvalidTokenError);
    }
  });

  it.each(['', 'x', 'a.b.c', '..', 'null'])('refuses %j, which is no token', async (token) => {
    await expect(verifier({ JWT_SECRET: SECRET }).verify(token)).rejects.toThrow(InvalidTokenError);
  });

  describe('with a key server', () => {
    const MINUTE_MS = 60_000;
    let keys: object[];
    let status: number;
    let asked: number;
    let server: Server;
    let remote: TokenVerifier;
    let later: number;

    beforeEach(async () => {
      keys = [await jwk(rsa.publicKey, 'rsa'), await jwk(ec.publicKey, 'ec')];
      status = 200;
      asked = 0;
      server = createServer((_request, response) => {
        asked += 1;
        response.writeHead(status).end(JSON.stringify({ keys }));
      }).listen(0, '127.0.0.1');
      await once(server, 'listening');
      const { port } = server.address() as AddressInfo;
      remote = verifier({ JWT_JWKS_URI: `http://127.0.0.1:${port}/jwks` });
      later = 0;
      // What jose measures the age of the keys by; the times in tokens it takes from `new Date()`.
      const real = Date.now.bind(Date);
      jest.spyOn(Date, 'now').mockImplementation(() => real() + later);
    });
    afterEach(() => {
      jest.restoreAllMocks();
      server.close();
      server.closeAllConnections();
    });

    const jwk = async (key: KeyObject, kid?: string): Promise<object> => ({
      ...(await exportJWK(key)),
      ...(kid !== undefined && { kid }),
    });
    const byRsa = (more: Token = {}): Promise<string> =>
      sign({ alg: 'RS256', key: rsa.privateKey, header: { kid: 'rsa' }, ...more });
    const byNewKey = (): Promise<string> =>
      sign({ alg: 'RS256', key: otherRsa.privateKey, header: { kid: 'new' } });

    it('takes RS256 and ES256 by its keys, which it asks for once', async () => {
      const tokens = [await byRsa(), await sign({ alg: 'ES256', key: ec.privateKey, header: { kid: 'ec' } })];
      for (const round of [tokens, tokens, tokens]) {
        const principals = await Promise.all(round.map((token) => remote.verify(token)));
        expect(principals.map(({ subject }) => subject)).toEqual(['operator-1', 'operator-1']);
      }
      expect(asked).toBe(1);
    });

    it.each<[string, () => Promise<string>]>([
      ['a key it does not have', () => byRsa({ key: otherRsa.privateKey })],
      ['HS256 by a secret', () => sign({})],
      [
        'its public key passed off as an HS256 secret',
        () => byRsa({ alg: 'HS256', key: hmac(pem(rsa.publicKey)) }),
      ],
      ['PS256', () => byRsa({ alg: 'PS256' })],
      ['RS512', () => byRsa({ alg: 'RS512' })],
      [
        'a key of the address in the header of the token',
        () => byRsa({ key: otherRsa.privateKey, header: { kid: 'rsa', jku: 'http://127.0.0.1:9/jwks' } }),
      ],
      ['the kid of the other key', () => byRsa({ header: { kid: 'ec' } })],
      ['no exp', () => byRsa({ claims: { exp: undefined } })],
    ])('refuses %s', async (_what, token) => {
      await expect(remote.verify(await token())).rejects.toThrow(InvalidTokenError);
    });

    it('refuses a token without a signature', async () => {
      const [, payload] = (await byRsa()).split('.');
      for (const alg of ['none', 'None', 'RS256']) {
        const header = Buffer.from(JSON.stringify({ alg, kid: 'rsa' })).toString('base64url');
        await expect(remote.verify(`${header}.${payload}.`)).rejects.toThrow(InvalidTokenError);
      }
    });

    it('takes a symmetric key in its answer for none', async () => {
      keys = [{ kty: 'oct', kid: 'rsa', k: Buffer.from(SECRET).toString('base64url') }];
      await expect(remote.verify(await sign({ header: { kid: 'rsa' } }))).rejects.toThrow(InvalidTokenError);
    });

    it('follows a rotation, and asks for unknown keys twice a minute at most', async () => {
      await remote.verify(await byRsa());
      keys = [...keys, await jwk(otherRsa.publicKey, 'new')];
      for (let attempt = 0; attempt < 20; attempt += 1)
        await expect(remote.verify(await byNewKey())).rejects.toThrow(InvalidTokenError);
      expect(asked).toBe(1);
      later = 0.6 * MINUTE_MS;
      await expect(remote.verify(await byNewKey())).resolves.toBeDefined();
      await expect(remote.verify(await byRsa())).resolves.toBeDefined();
      expect(asked).toBe(2);
    });

    it('refuses a key that has been withdrawn, after ten minutes', async () => {
      const known = await byRsa();
      for (let times = 0; times < 3; times += 1) await remote.verify(known);
      keys = keys.slice(1);
      later = 9 * MINUTE_MS;
      await expect(remote.verify(await byRsa())).resolves.toBeDefined();
      await expect(remote.verify(known)).resolves.toBeDefined();
      later = 11 * MINUTE_MS;
      await expect(remote.verify(known)).rejects.toThrow(InvalidTokenError);
      await expect(remote.verify(await byRsa())).rejects.toThrow(InvalidTokenError);
    });

    it('refuses what a withdrawn key has signed as soon as the keys were asked for, known or not', async () => {
      const known = await byRsa();
      // The first time it asks for the keys, the second it finds the token good by them.
      for (let times = 0; times < 3; times += 1) await remote.verify(known);
      keys = [await jwk(otherRsa.publicKey, 'new')];
      later = 0.6 * MINUTE_MS;
      await expect(remote.verify(known)).resolves.toBeDefined();
      await remote.verify(await byNewKey());
      await expect(remote.verify(known)).rejects.toThrow(InvalidTokenError);
      expect(asked).toBe(2);
    });

    it('knows the keys without a kid apart, also while there are two', async () => {
      keys = [await jwk(otherRsa.publicKey), await jwk(rsa.publicKey)];
      await expect(remote.verify(await byRsa({ header: {} }))).resolves.toBeDefined();
      await expect(remote.verify(await byRsa({ header: {}, expiresIn: -60 }))).rejects.toThrow('expired');
      const third = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
      await expect(remote.verify(await byRsa({ header: {}, key: third }))).rejects.toThrow(InvalidTokenError);
    });

    it('does not call a token bad while it can not be asked, and goes on with the keys it has', async () => {
      const unavailable = expect.objectContaining({ kind: 'unavailable', code: 'key_server_unavailable' });
      status = 500;
      await expect(remote.verify(await byRsa())).rejects.toEqual(unavailable);
      status = 200;
      await expect(remote.verify(await byRsa())).resolves.toBeDefined();
      server.close();
      server.closeAllConnections();
      await expect(remote.verify(await byRsa())).resolves.toBeDefined();
      later = 11 * MINUTE_MS;
      await expect(remote.verify(await byRsa())).rejects.toEqual(unavailable);
    });
  });
});

describe('bearerToken', () => {
  it.each([
    ['Bearer abc.def-_~+/=', 'abc.def-_~+/='],
    ['bearer  abc ', 'abc'],
    [undefined, null],
    ['', null],
    ['Bearer', null],
    ['Bearer ', null],
    ['Basic abc', null],
    ['Bearer a b', null],
    ['xBearer abc', null],
  ])('%j -> %j', (header, token) => {
    expect(bearerToken(header)).toBe(token);
  });
});
