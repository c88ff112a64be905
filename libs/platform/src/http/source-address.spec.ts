import { IncomingMessage } from 'node:http';
import { Socket } from 'node:net';
import { sourceAddress, trustedProxies } from './source-address.js';

/** A request from an address, which its sender, or a proxy, says comes from elsewhere. */
function requestFrom(address: string | undefined, forwardedFor: string): IncomingMessage {
  const socket = Object.defineProperty(new Socket(), 'remoteAddress', { value: address });
  return Object.assign(new IncomingMessage(socket), { headers: { 'x-forwarded-for': forwardedFor } });
}

describe('sourceAddress', () => {
  it.each([
    [undefined, '10.0.0.1'],
    [1, '192.0.2.2'],
    [2, '192.0.2.1'],
    [['10.0.0.0/8'], '192.0.2.2'],
    [['10.0.0.1', '192.0.2.2'], '192.0.2.1'],
    [['loopback'], '10.0.0.1'],
  ])('with TRUST_PROXY %j: %s', (trustProxy, source) => {
    const trusted = trustedProxies({ trustProxy });
    expect(sourceAddress(requestFrom('10.0.0.1', '192.0.2.1, 192.0.2.2'), trusted)).toBe(source);
  });

  it('is unknown once the connection is gone', () => {
    expect(sourceAddress(requestFrom(undefined, '192.0.2.1'), trustedProxies({ trustProxy: 1 }))).toBeNull();
  });
});
