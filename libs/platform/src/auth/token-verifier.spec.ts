import { createSecretKey, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
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
    ['a clock that differs a little', { JWT_SECRET: SECRET }, { expiresIn: -1 }],
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
    ['an nbf that is still to come', { JWT_SECRET: SECRET }, { claims: { nbf: now() + 60 } }],
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

  it('says that a token has expired', async () => {
    const expired = await sign({ expiresIn: -60 });
    await expect(verifier({ JWT_SECRET: SECRET }).verify(expired)).rejects.toThrow(
      new InvalidTokenError('The token has expired.'),
    );
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

  it('takes the keys of a key server, and no secret', async () => {
    const keys = [
      { ...(await exportJWK(rsa.publicKey)), kid: 'rsa' },
      { ...(await exportJWK(ec.publicKey)), kid: 'ec' },
    ];
    const server = createServer((_request, response) => response.end(JSON.stringify({ keys }))).listen(0);
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const remote = verifier({ JWT_JWKS_URI: `http://127.0.0.1:${port}/jwks` });
    try {
      const byRsa = await sign({ alg: 'RS256', key: rsa.privateKey, header: { kid: 'rsa' } });
      const byEc = await sign({ alg: 'ES256', key: ec.privateKey, header: { kid: 'ec' } });
      const foreign = await sign({ alg: 'RS256', key: otherRsa.privateKey, header: { kid: 'rsa' } });
      await expect(remote.verify(byRsa)).resolves.toMatchObject({ subject: 'operator-1' });
      await expect(remote.verify(byEc)).resolves.toMatchObject({ subject: 'operator-1' });
      await expect(remote.verify(foreign)).rejects.toThrow(InvalidTokenError);
      await expect(remote.verify(await sign({}))).rejects.toThrow(InvalidTokenError);
    } finally {
      server.close();
      server.closeAllConnections();
    }
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
