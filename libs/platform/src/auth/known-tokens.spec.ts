import { Principal } from '#kernel';
import { KnownTokens } from './known-tokens.js';

const NOW = 1_800_000_000;
const KEYS = {};

describe('KnownTokens', () => {
  let tokens: KnownTokens;
  const good = (expiresIn = 60): Principal =>
    Principal.fromClaims({ sub: 'operator-1', role: 'viewer', exp: NOW + expiresIn });
  const at = (seconds: number): void => {
    jest.setSystemTime((NOW + seconds) * 1_000);
  };

  beforeEach(() => {
    jest.useFakeTimers({ now: NOW * 1_000 });
    tokens = new KnownTokens(5);
  });
  afterEach(() => jest.useRealTimers());

  it('knows whose token it is until it expires, and not a second longer', () => {
    const principal = good();
    tokens.add('a.b.c', KEYS, principal, 0);
    for (const seconds of [0, 59, 64]) {
      at(seconds);
      expect(tokens.find('a.b.c', KEYS)).toBe(principal);
    }
    at(65);
    expect(tokens.find('a.b.c', KEYS)).toBeNull();
  });

  it('does not know it before it holds, should the clock be set back', () => {
    tokens.add('a.b.c', KEYS, good(), NOW);
    at(-5);
    expect(tokens.find('a.b.c', KEYS)).not.toBeNull();
    at(-6);
    expect(tokens.find('a.b.c', KEYS)).toBeNull();
  });

  it('knows no other token, and none that never expires', () => {
    tokens.add('a.b.c', KEYS, good(), 0);
    expect(tokens.find('a.b.d', KEYS)).toBeNull();
    tokens.add('a.b.e', KEYS, Principal.fromClaims({ role: 'viewer' }), 0);
    expect(tokens.find('a.b.e', KEYS)).toBeNull();
  });

  it('goes by the keys it was checked by, and forgets them when there are others', () => {
    const others = {};
    tokens.add('a.b.c', KEYS, good(), 0);
    expect(tokens.find('a.b.c', others)).toBeNull();
    expect(tokens.find('a.b.c', null)).toBeNull();
    tokens.add('d.e.f', others, good(), 0);
    expect(tokens.find('a.b.c', others)).toBeNull();
    expect(tokens.find('d.e.f', others)).not.toBeNull();
    expect(tokens.find('a.b.c', KEYS)).toBeNull();
  });

  it('remembers so many and no more', () => {
    for (let index = 0; index <= 10_000; index += 1) tokens.add(`a.b.${index}`, KEYS, good(), 0);
    expect(tokens.find('a.b.0', KEYS)).toBeNull();
    expect(tokens.find('a.b.1', KEYS)).not.toBeNull();
    expect(tokens.find('a.b.10000', KEYS)).not.toBeNull();
  });
});
