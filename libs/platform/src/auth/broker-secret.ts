import { createHash, timingSafeEqual } from 'node:crypto';
import type { Config } from '../config/config.js';
import { bearerToken } from './token-verifier.js';

/** Whether a question comes from the broker (BROKER_ACCESS=http): its secret is the bearer token, or else `?secret=`. */
export function isFromBroker(
  { brokerAuthSecret }: Pick<Config, 'brokerAuthSecret'>,
  authorization: string | undefined,
  secret: unknown,
): boolean {
  const given = bearerToken(authorization) ?? (typeof secret === 'string' ? secret : '');
  return brokerAuthSecret !== undefined && sameText(given, brokerAuthSecret);
}

/** Compares in a time that says nothing of where two texts differ. */
export function sameText(given: string, expected: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(given), digest(expected));
}
