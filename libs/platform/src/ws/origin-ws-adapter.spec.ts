import { isAllowedOrigin } from './origin-ws-adapter.js';

const strict = { allowedOrigins: ['https://console.example'], allowLoopbackOrigins: false };
const embedded = { allowedOrigins: [], allowLoopbackOrigins: true };
const HOST = 'mqtt.example:8004';

describe('isAllowedOrigin', () => {
  it.each<[string | undefined, typeof strict | typeof embedded, boolean]>([
    [undefined, strict, true],
    ['https://mqtt.example:8004', strict, true],
    ['https://console.example', strict, true],
    ['https://console.example.evil.example', strict, false],
    ['http://console.example', strict, false],
    ['https://console.example:444', strict, false],
    ['https://mqtt.example', strict, false],
    ['https://evil.example', strict, false],
    ['http://localhost:8004', strict, false],
    ['null', strict, false],
    ['', strict, false],
    ['http://localhost:3000', embedded, true],
    ['http://127.0.0.1', embedded, true],
    ['http://[::1]:3000', embedded, true],
    ['http://localhost.evil.example', embedded, false],
    ['http://127.0.0.1.evil.example', embedded, false],
    ['https://evil.example', embedded, false],
    // A name that an attacker has resolve to this machine: Origin and Host agree.
    ['https://mqtt.example:8004', embedded, false],
    ['null', embedded, false],
  ])('%j under %j: %j', (origin, settings, allowed) => {
    expect(isAllowedOrigin(origin, HOST, settings)).toBe(allowed);
  });

  it('knows no origin of its own without a Host', () => {
    expect(isAllowedOrigin('https://mqtt.example:8004', undefined, strict)).toBe(false);
  });
});
