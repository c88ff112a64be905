import type { IncomingMessage } from 'node:http';
import proxyAddr from 'proxy-addr';
import type { Config } from '../config/config.js';

/** Whether an address, so many steps before this service, is that of a proxy that is to be believed. */
type TrustedProxies = (address: string, step: number) => boolean;

/** Who is believed about where a request comes from (TRUST_PROXY). */
export function trustedProxies({ trustProxy }: Pick<Config['http'], 'trustProxy'>): TrustedProxies {
  if (typeof trustProxy === 'number') return (_address, step) => step < trustProxy;
  return proxyAddr.compile([...(trustProxy ?? [])]);
}

/** Where a request comes from, as far as its proxies are trusted: what Express calls `ip`, for requests it does not see. */
export function sourceAddress(request: IncomingMessage, trusted: TrustedProxies): string | null {
  // It is gone with the connection.
  if (request.socket.remoteAddress === undefined) return null;
  return proxyAddr(request, trusted);
}
