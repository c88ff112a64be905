import { Logger } from '@nestjs/common';
import { DomainError, type AuditEntry } from '#kernel';
import { AuditLog, type AuditRecord } from '../ports/audit-log.js';
import { AuditWriter } from './audit-writer.js';

const entry = (action: string): AuditEntry => ({
  at: new Date(),
  actor: null,
  action,
  patientId: null,
  deviceId: null,
  target: null,
  source: null,
  outcome: 'denied',
  detail: null,
  requestId: 'request-1',
});

/** A log that can be away, and that answers when it is told to. */
class FakeLog extends AuditLog {
  readonly batches: string[][] = [];
  away: Error | null = null;
  hold: Promise<void> = Promise.resolve();

  get actions(): string[] {
    return this.batches.flat();
  }

  async append(entries: readonly AuditEntry[]): Promise<void> {
    await this.hold;
    if (this.away) throw this.away;
    this.batches.push(entries.map(({ action }) => action));
  }

  page(): Promise<readonly AuditRecord[]> {
    return Promise.resolve([]);
  }
}

describe('the audit writer', () => {
  let log: FakeLog;
  let writer: AuditWriter;

  beforeAll(() => Logger.overrideLogger(false));
  beforeEach(() => {
    jest.useFakeTimers();
    log = new FakeLog();
    writer = new AuditWriter(log);
  });
  afterEach(() => jest.useRealTimers());

  it('answers once entries are written, and writes together what comes meanwhile', async () => {
    let release = (): void => undefined;
    log.hold = new Promise((resolve) => (release = resolve));
    const first = writer.record([entry('a')]);
    await jest.advanceTimersByTimeAsync(0);
    const others = [writer.record([entry('b'), entry('c')]), writer.record([entry('d')])];
    writer.note(entry('e'));
    expect(log.batches).toEqual([]);
    release();
    await Promise.all([first, ...others]);
    expect(log.batches).toEqual([['a'], ['b', 'c', 'd', 'e']]);
  });

  it('misses none that comes just when it has written the last', async () => {
    let done = 0;
    const comeAfter = async (hops: number): Promise<void> => {
      await writer.record([entry('first')]);
      for (let hop = 0; hop < hops; hop += 1) await Promise.resolve();
      await writer.record([entry('second')]);
      done += 1;
    };
    for (let hops = 0; hops < 12; hops += 1) {
      const all = comeAfter(hops);
      await jest.advanceTimersByTimeAsync(0);
      expect(done).toBe(hops + 1);
      await all;
    }
  });

  it('refuses what waits for it while the log is away, and keeps notes until it is back', async () => {
    log.away = new Error('Connection terminated');
    writer.note(entry('denied'));
    const refusal = await writer.record([entry('read')]).catch((error: unknown) => error);
    expect(refusal).toMatchObject({ kind: 'unavailable', code: 'audit_unavailable' });
    writer.note(entry('denied too'));
    log.away = null;
    await jest.advanceTimersByTimeAsync(1_000);
    expect(log.actions).toEqual(['denied', 'denied too']);
  });

  it('goes on with what waits for it as soon as the log is back', async () => {
    log.away = new Error('Connection terminated');
    writer.note(entry('denied'));
    await jest.advanceTimersByTimeAsync(0);
    log.away = null;
    await writer.record([entry('read')]);
    expect(log.actions).toEqual(['denied', 'read']);
  });

  it('keeps so many notes and no more, and tells how many were lost', async () => {
    log.away = new Error('Connection terminated');
    for (let index = 0; index < 10_003; index += 1) writer.note(entry('denied'));
    log.away = null;
    await jest.advanceTimersByTimeAsync(2_000);
    expect(log.actions.filter((action) => action === 'denied')).toHaveLength(10_000);
    expect(log.actions.at(-1)).toBe('auditEntriesLost');
    expect(Math.max(...log.batches.map((batch) => batch.length))).toBeLessThanOrEqual(500);
  });

  it('drops a note that can never be written, rather than try for ever', async () => {
    log.away = new DomainError('invalid', 'audit_entry_refused', 'no');
    writer.note(entry('impossible'));
    await jest.advanceTimersByTimeAsync(0);
    log.away = null;
    await writer.record([entry('read')]);
    expect(log.actions).toEqual(['read']);
    await jest.advanceTimersByTimeAsync(1_000);
    expect(log.actions).toEqual(['read', 'auditEntriesLost']);
  });

  it('writes what is left before the service ends', async () => {
    writer.note(entry('last'));
    await writer.onApplicationShutdown();
    expect(log.actions).toEqual(['last']);
  });
});
