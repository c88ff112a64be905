import { unusable } from './webhook.js';

export const MAX_URL_LENGTH = 2_048;
/** Below it are mail, shells and other services that were never meant to take events; except for the Web's own ports. */
const FIRST_FREE_PORT = 1_024;

/**
 * Reads where events are to be sent. Which addresses its name leads to is looked at when it is connected to.
 * @param allowHttp whether it may be in plaintext.
 * @returns the address in its normal form: of a number that stands for an IPv4 address, the four parts.
 * @throws DomainError invalid/validation_failed
 */
export function readReceiverUrl(text: string, allowHttp: boolean): string {
  if (text.length > MAX_URL_LENGTH || !URL.canParse(text)) {
    throw unusable('url', `must be an address of up to ${MAX_URL_LENGTH} characters`);
  }
  const url = new URL(text);
  if (url.protocol !== 'https:' && !(allowHttp && url.protocol === 'http:')) {
    throw unusable('url', allowHttp ? 'must begin with https:// or http://' : 'must begin with https://');
  }
  if (url.username !== '' || url.password !== '') throw unusable('url', 'must hold no user and no password');
  if (url.hash !== '') throw unusable('url', 'must hold no fragment');
  const port = Number(url.port);
  if (port !== 0 && port !== 80 && port !== 443 && port < FIRST_FREE_PORT) {
    throw unusable('url', `must have the port 80, 443 or one from ${FIRST_FREE_PORT}`);
  }
  return url.href;
}
