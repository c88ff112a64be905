/** What went wrong, in terms every driver (HTTP, WebSocket, MQTT) can map to its own protocol. */
export type DomainErrorKind =
  'invalid' | 'not_found' | 'conflict' | 'unprocessable' | 'forbidden' | 'unavailable';

/** One offending field of an input and why it was refused. */
export interface FieldError {
  readonly field: string;
  readonly message: string;
}

/**
 * A rule of the domain was broken. `code` is stable and snake_case: clients may switch on it.
 * `message` is for people and never carries a measurement, a token or a password.
 */
export class DomainError extends Error {
  constructor(
    readonly kind: DomainErrorKind,
    readonly code: string,
    message: string,
    readonly errors: readonly FieldError[] = [],
    /** What a client may want to switch on besides the code; snake_case names. */
    readonly members: Readonly<Record<string, string>> = {},
  ) {
    super(message);
    this.name = 'DomainError';
  }
}
