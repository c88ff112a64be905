import { Logger } from '@nestjs/common';

/** In place of the logger of Nest's clients, which tell of every attempt, and of errors with all that these hold. */
export class QuietLogger extends Logger {
  override log(): void {
    // Whoever uses the client says when it is connected.
  }

  override warn(): void {
    // As above.
  }

  override error(): void {
    // As above.
  }

  override debug(): void {
    // As above.
  }
}
