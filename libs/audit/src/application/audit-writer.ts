import { Injectable, Logger, type OnApplicationShutdown } from '@nestjs/common';
import { AuditTrail, DomainError, type AuditEntry } from '#kernel';
import { AuditLog } from '../ports/audit-log.js';

/** Entries written together, at most. */
const BATCH = 500;
/** Entries that nobody waits for, kept while the database is away; an hour of two denials a second. */
const MAX_NOTES = 10_000;
const RETRY_MS = 1_000;
/** How long notes wait for something to be written with: a batch of their own would hold up those who wait themselves. */
const NOTE_WITHIN_MS = 20;
/** What is still to be written when the service stops has this long. */
const STOP_WITHIN_MS = 2_000;

interface Waiting {
  readonly entries: readonly AuditEntry[];
  /** Null: a note. */
  readonly settle: ((error?: Error) => void) | null;
}

/**
 * Writes the audit log. What comes while a batch is being written is written together after it, so that many requests
 * wait for one commit.
 *
 * While the database is away, records are refused at once, and with them what they should have covered: data of a
 * patient that nobody knows was read must not be shown. Notes are kept in memory until it is back, up to a limit; how
 * many were lost beyond that is written down, too. A process that is killed meanwhile loses them.
 *
 * An entry that the database refuses takes none of the others with it: their batch is halved until it is alone.
 */
@Injectable()
export class AuditWriter extends AuditTrail implements OnApplicationShutdown {
  private readonly logger = new Logger('Audit');
  private queue: Waiting[] = [];
  private notes = 0;
  private lost = 0;
  /** Records in the queue. */
  private waiting = 0;
  private busy = false;
  private stopping = false;
  private writing: Promise<void> = Promise.resolve();
  private retry: NodeJS.Timeout | undefined;
  private noteTimer: NodeJS.Timeout | undefined;
  private told = false;

  constructor(private readonly log: AuditLog) {
    super();
  }

  record(entries: readonly AuditEntry[]): Promise<void> {
    return new Promise((resolve, reject) => {
      this.queue.push({ entries, settle: (error) => (error ? reject(error) : resolve()) });
      this.waiting += 1;
      this.wake();
    });
  }

  note(entry: AuditEntry): void {
    if (this.notes >= MAX_NOTES) {
      this.lost += 1;
      return;
    }
    this.notes += 1;
    this.queue.push({ entries: [entry], settle: null });
    this.wakeForNotes();
  }

  /** Writes what is left, unless that takes too long. */
  async onApplicationShutdown(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => (timer = setTimeout(resolve, STOP_WITHIN_MS)));
    this.stopping = true;
    this.wake();
    await Promise.race([this.writing, late]);
    clearTimeout(timer);
    clearTimeout(this.retry);
    clearTimeout(this.noteTimer);
    if (this.notes > 0) this.logger.error(`${this.notes} audit entries could not be written`);
  }

  private wake(): void {
    if (this.busy) return;
    this.busy = true;
    this.writing = this.drain();
  }

  /** While it waits to try again, only those who wait themselves hurry it. */
  private wakeForNotes(): void {
    if (this.busy || this.retry || this.notes === 0) return;
    this.noteTimer ??= setTimeout(() => this.wake(), NOTE_WITHIN_MS);
  }

  private async drain(): Promise<void> {
    clearTimeout(this.retry);
    clearTimeout(this.noteTimer);
    this.retry = undefined;
    this.noteTimer = undefined;
    // Those who call in the same turn are written together.
    await Promise.resolve();
    const pieces: (readonly Waiting[])[] = [];
    try {
      let isFirst = true;
      while (pieces.length > 0 || (this.queue.length > 0 && (isFirst || this.waiting > 0 || this.stopping))) {
        isFirst = false;
        const piece = pieces[0] ?? this.takeBatch();
        if (pieces.length === 0) pieces.push(piece);
        if (await this.isWritten(piece.flatMap(({ entries }) => entries))) {
          pieces.shift();
          this.settle(piece);
        } else if (piece.length > 1) {
          const half = Math.ceil(piece.length / 2);
          pieces.splice(0, 1, piece.slice(0, half), piece.slice(half));
        } else {
          await this.reduce(piece);
          pieces.shift();
        }
      }
    } catch (error) {
      this.fail(pieces.flat(), error);
    } finally {
      // In the same turn as the last look at the queue: who comes a moment later must wake it again.
      this.busy = false;
      this.wakeForNotes();
    }
  }

  /** @returns false when one of them can never be written; what else goes wrong is thrown. */
  private async isWritten(entries: readonly AuditEntry[]): Promise<boolean> {
    try {
      await this.log.append(entries);
      return true;
    } catch (error) {
      if (error instanceof DomainError && error.kind === 'invalid') return false;
      throw error;
    }
  }

  /** Of what can't be written as it is, there is at least an entry of who did what. Whoever waits for it is refused. */
  private async reduce(piece: readonly Waiting[]): Promise<void> {
    const [waiting] = piece;
    const [entry] = waiting?.entries ?? [];
    if (!waiting || !entry) return;
    this.logger.warn('The database has refused an entry; it is written without what it is about');
    const outcome = waiting.settle ? 'failed' : entry.outcome;
    const about = { patientId: null, deviceId: null, target: null, source: null };
    if (!(await this.isWritten([{ ...entry, ...about, outcome, detail: 'audit_entry_refused' }])))
      this.lost += waiting.entries.length;
    if (waiting.settle) waiting.settle(unavailable());
    else this.notes -= 1;
  }

  private settle(batch: readonly Waiting[]): void {
    if (this.told) this.logger.log('Entries are written again');
    this.told = false;
    for (const { settle } of batch) {
      if (settle) settle();
      else this.notes -= 1;
    }
    this.tellLost(batch);
  }

  private takeBatch(): Waiting[] {
    let size = 0;
    let count = 0;
    while (count < this.queue.length && (count === 0 || size < BATCH)) {
      size += this.queue[count]?.entries.length ?? 0;
      count += 1;
    }
    const batch = this.queue.splice(0, count);
    this.waiting -= batch.filter(({ settle }) => settle !== null).length;
    return batch;
  }

  private fail(batch: readonly Waiting[], error: unknown): void {
    if (!this.told) {
      const code = error instanceof DomainError ? error.code : 'the database is away';
      this.logger.warn(`Entries can't be written (${code}); what needs one is refused meanwhile`);
    }
    this.told = true;
    // Whoever came meanwhile need not find out by waiting, too.
    const all = [...batch, ...this.queue];
    this.queue = all.filter(({ settle }) => settle === null);
    this.waiting = 0;
    for (const { settle } of all) settle?.(unavailable());
    if (this.queue.length > 0) {
      this.retry = setTimeout(() => this.wake(), RETRY_MS);
      this.retry.unref();
    }
  }

  private tellLost(batch: readonly Waiting[]): void {
    const last = batch.at(-1)?.entries.at(-1);
    if (this.lost === 0 || !last) return;
    this.note({
      at: last.at,
      actor: null,
      action: 'auditEntriesLost',
      patientId: null,
      deviceId: null,
      target: null,
      source: null,
      outcome: 'failed',
      detail: String(this.lost),
      requestId: last.requestId,
    });
    this.lost = 0;
  }
}

function unavailable(): DomainError {
  return new DomainError(
    'unavailable',
    'audit_unavailable',
    'The audit log can not be written at the moment, and nothing is done without it.',
  );
}
