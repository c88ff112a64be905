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
  readonly entries: AuditEntry[] = [];
  away: Error | null = null;
  /** What it refuses to write. */
  refuses: (entry: AuditEntry) => boolean = () => false;
  hold: Promise<void> = Promise.resolve();

  get actions(): string[] {
    return this.batches.flat();
  }

  async append(entries: readonly AuditEntry[]): Promise<void> {
    await this.hold;
    if (this.away) throw this.away;
    if (entries.some(this.refuses)) throw new DomainError('invalid', 'audit_entry_refused', 'no');
    this.batches.push(entries.map(({ action }) => action));
    this.entries.push(...entries);
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

  it('lets notes wait a moment for something to be written with, and no longer', async () => {
    writer.note(entry('a'));
    await jest.advanceTimersByTimeAsync(0);
    await writer.record([entry('b')]);
    writer.note(entry('c'));
    await jest.advanceTimersByTimeAsync(19);
    expect(log.batches).toEqual([['a', 'b']]);
    await jest.advanceTimersByTimeAsync(1);
    expect(log.batches).toEqual([['a', 'b'], ['c']]);
  });

  it('keeps those who wait themselves from waiting for notes that come meanwhile', async () => {
    let release = (): void => undefined;
    log.hold = new Promise((resolve) => (release = resolve));
    const first = writer.record([entry('a')]);
    await jest.advanceTimersByTimeAsync(0);
    writer.note(entry('b'));
    release();
    await first;
    await jest.advanceTimersByTimeAsync(0);
    expect(log.batches).toEqual([['a']]);
    await writer.record([entry('c')]);
    expect(log.batches).toEqual([['a'], ['b', 'c']]);
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
    await jest.advanceTimersByTimeAsync(20);
    log.away = null;
    await writer.record([entry('read')]);
    expect(log.actions).toEqual(['read']);
    await jest.advanceTimersByTimeAsync(1_000);
    expect(log.actions).toEqual(['read', 'auditEntriesLost']);
  });

  it('writes all others of a batch, in their order, and of a refused entry who did what', async () => {
    log.refuses = ({ patientId }) => patientId === 3_000_000_000;
    const wrong = (action: string): AuditEntry => ({ ...entry(action), patientId: 3_000_000_000 });
    const waiting = ['a', 'b', 'c'].map((action) => writer.record([entry(action)]));
    const refused = writer.record([entry('both'), wrong('both')]).catch((error: unknown) => error);
    writer.note(entry('d'));
    writer.note(wrong('wrong'));
    waiting.push(writer.record([entry('e')]));
    await Promise.all(waiting);
    expect(await refused).toMatchObject({ kind: 'unavailable', code: 'audit_unavailable' });
    expect(log.actions).toEqual(['a', 'b', 'c', 'both', 'd', 'wrong', 'e']);
    expect(log.entries.filter(({ detail }) => detail === 'audit_entry_refused')).toEqual([
      { ...entry('both'), at: expect.any(Date), outcome: 'failed', detail: 'audit_entry_refused' },
      { ...entry('wrong'), at: expect.any(Date), outcome: 'denied', detail: 'audit_entry_refused' },
    ]);
  });

  it('writes nothing twice when the log goes away between the halves of a batch', async () => {
    log.refuses = ({ action }) => action === 'wrong' && log.batches.length === 0;
    for (const action of ['a', 'b', 'c', 'wrong']) writer.note(entry(action));
    const append = log.append.bind(log);
    log.append = async (entries) => {
      if (log.batches.length === 1) log.away = new Error('Connection terminated');
      await append(entries);
    };
    await jest.advanceTimersByTimeAsync(0);
    log.append = append;
    log.away = null;
    await jest.advanceTimersByTimeAsync(1_000);
    expect(log.actions).toEqual(['a', 'b', 'c', 'wrong']);
  });

  it('writes what is left before the service ends', async () => {
    writer.note(entry('last'));
    await writer.onApplicationShutdown();
    expect(log.actions).toEqual(['last']);
  });
});
