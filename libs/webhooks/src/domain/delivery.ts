/** `pending`: to be sent, for the first time or again. `dead`: given up; it can be queued again. */
export const DELIVERY_STATES = ['pending', 'delivered', 'dead'] as const;
export type DeliveryState = (typeof DELIVERY_STATES)[number];
/** The states a delivery comes to rest in. */
export type FinishedState = Exclude<DeliveryState, 'pending'>;

/** Why an attempt failed, or a delivery was given up. */
export const FAILURES = [
  'http_error',
  'redirected',
  'gone',
  'timeout',
  'address_refused',
  'name_not_resolved',
  'connection_failed',
  'tls_failed',
  'secret_unreadable',
  'expired',
  'backlog_full',
] as const;
export type Failure = (typeof FAILURES)[number];

/** One event on its way to one webhook. */
export interface Delivery {
  readonly id: number;
  /** Also the header `webhook-id`, the same at each attempt. */
  readonly messageId: string;
  readonly eventId: string;
  readonly eventType: string;
  readonly deviceId: string | null;
  readonly state: DeliveryState;
  readonly attempts: number;
  readonly createdAt: Date;
  /** Null unless it is pending. */
  readonly nextAttemptAt: Date | null;
  /** Null while it is pending. */
  readonly finishedAt: Date | null;
  readonly lastStatus: number | null;
  readonly lastFailure: Failure | null;
}

/** What came of an attempt. `status`: the receiver's, where it answered. */
export type Attempt =
  | { readonly taken: true; readonly status: number }
  | { readonly taken: false; readonly status: number | null; readonly failure: Failure };

/** When a delivery is given up, and how long its next attempt waits. */
export interface RetryBounds {
  readonly maxAttempts: number;
  readonly maxAgeMs: number;
  /** The first retry waits for up to so long, each further one for up to twice as long. */
  readonly baseMs: number;
}

/** Retries wait for no longer than this. */
export const LONGEST_DELAY_MS = 600_000;

/** What becomes of a delivery. */
export type Verdict =
  | { readonly state: 'delivered' }
  | { readonly state: 'pending'; readonly delayMs: number }
  | { readonly state: 'dead'; readonly disables: boolean };

/**
 * Judges an attempt. A receiver that says 410 wants no more (Standard Webhooks 1.0.0, "Operational considerations"); any
 * other failure is tried again within the bounds, also a 4xx: a receiver that is being mended answers that, too.
 * @param attempts how many there have been, this one included.
 * @param ageMs how long ago the delivery was queued.
 * @param random from 0 to less than 1.
 */
export function judge(
  attempt: Attempt,
  { attempts, ageMs }: { readonly attempts: number; readonly ageMs: number },
  bounds: RetryBounds,
  random: number,
): Verdict {
  if (attempt.taken) return { state: 'delivered' };
  if (attempt.failure === 'gone') return { state: 'dead', disables: true };
  if (attempts >= bounds.maxAttempts || ageMs >= bounds.maxAgeMs) return { state: 'dead', disables: false };
  return { state: 'pending', delayMs: backoff(attempts, bounds.baseMs, random) };
}

/**
 * How long to wait after so many attempts. Anything from nothing to the full wait, so that what failed together does not come
 * back together: "full jitter" (https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/).
 */
export function backoff(attempts: number, baseMs: number, random: number): number {
  return Math.floor(random * Math.min(LONGEST_DELAY_MS, baseMs * 2 ** (attempts - 1)));
}
