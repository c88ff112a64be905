import { Database } from '../libs/platform/src/database/database.js';
import { IngestConnections } from '../libs/platform/src/database/ingest-connections.js';
import { EventMessage } from '../libs/platform/src/events/event-message.js';
import { EventOutbox } from '../libs/platform/src/events/event-outbox.js';
import { createDatabase, type TestDatabase } from './support/database.js';

const NO_LIMIT = { bytes: Number.MAX_SAFE_INTEGER, age: null };
const BYTES = 1_000;
const messages = (...numbers: readonly number[]): EventMessage[] =>
  numbers.map(
    (number) => new EventMessage('a.type', 'device_1', JSON.stringify({ number }).padEnd(BYTES - 128)),
  );

describe('the outbox of two replicas', () => {
  let testDatabase: TestDatabase;
  let database: Database;
  const connections: IngestConnections[] = [];
  let one: EventOutbox;
  let other: EventOutbox;
  let sent: number[];

  const send = (lot: readonly EventMessage[]): Promise<void> => {
    for (const { text } of lot) sent.push((JSON.parse(text) as { number: number }).number);
    return Promise.resolve();
  };
  const drainAll = async (outbox: EventOutbox): Promise<void> => {
    while ((await outbox.size()).rows > 0) await outbox.drain(send);
  };

  beforeAll(async () => {
    testDatabase = await createDatabase();
    database = new Database(testDatabase.url, [], 30_000);
    await database.start();
    for (let replica = 0; replica < 2; replica += 1)
      connections.push(new IngestConnections(testDatabase.url, 30_000, database.abandoned, () => undefined));
    [one, other] = connections.map((own) => new EventOutbox(own)) as [EventOutbox, EventOutbox];
  });
  afterAll(async () => {
    for (const own of connections) await own.end();
    await database.stop();
    await testDatabase.drop();
  });
  beforeEach(async () => {
    sent = [];
    await drainAll(one);
    sent = [];
  });

  it('keeps the order in which they appended, and knows how much waits', async () => {
    expect(await one.size()).toEqual({ rows: 0, bytes: 0, oldest: null });
    await one.append(messages(1, 2), NO_LIMIT);
    await other.append(messages(3), NO_LIMIT);
    await one.append(messages(4), NO_LIMIT);
    expect(await other.size()).toEqual({ rows: 4, bytes: 4 * BYTES, oldest: expect.any(Date) as Date });
    expect(await other.drain(send)).toBe(4);
    expect(sent).toEqual([1, 2, 3, 4]);
    expect(await one.size()).toEqual({ rows: 0, bytes: 0, oldest: null });
  });

  it('gives ids out in the order of commits, however many append at once', async () => {
    await Promise.all(
      Array.from({ length: 40 }, (_unused, number) =>
        (number % 2 === 0 ? one : other).append(messages(number * 2, number * 2 + 1), NO_LIMIT),
      ),
    );
    // Drained while others go on: none may come in behind what was taken out.
    const more = Array.from({ length: 40 }, (_unused, number) => one.append(messages(80 + number), NO_LIMIT));
    await drainAll(other);
    await Promise.all(more);
    await drainAll(other);
    expect([...sent].sort((a, b) => a - b)).toEqual(Array.from({ length: 120 }, (_unused, number) => number));
  });

  it('is sent by one of them at a time', async () => {
    await one.append(messages(1), NO_LIMIT);
    let release: () => void = () => undefined;
    const begun = new Promise<void>((begin) => {
      void one.drain(async (lot) => {
        begin();
        await new Promise<void>((resolve) => {
          release = resolve;
        });
        await send(lot);
      });
    });
    await begun;
    expect(await other.drain(send)).toBeNull();
    expect(sent).toEqual([]);
    release();
    await drainAll(other);
    expect(sent).toEqual([1]);
  });

  it('keeps what was not taken', async () => {
    await one.append(messages(1, 2), NO_LIMIT);
    await expect(one.drain(() => Promise.reject(new Error('away')))).rejects.toThrow('away');
    expect((await one.size()).rows).toBe(2);
    await drainAll(one);
    expect(sent).toEqual([1, 2]);
  });

  it('sends no more at once than 1,000 events or 4 MiB and one event', async () => {
    const lots: number[] = [];
    const count = (lot: readonly EventMessage[]): Promise<void> => {
      lots.push(lot.length);
      return send(lot);
    };
    await one.append(messages(...Array.from({ length: 1_500 }, (_unused, number) => number)), NO_LIMIT);
    while ((await one.size()).rows > 0) await one.drain(count);
    expect(lots).toEqual([1_000, 500]);
    lots.length = 0;
    const large = new EventMessage(
      'a.type',
      null,
      JSON.stringify({ number: 1, note: 'x'.repeat(2_000_000) }),
    );
    await one.append([large, large, large, large], NO_LIMIT);
    while ((await one.size()).rows > 0) await one.drain(count);
    expect(lots).toEqual([3, 1]);
  });

  it('takes the first, and no more than it may hold', async () => {
    expect(await one.append(messages(1), { bytes: 1, age: null })).toBe(true);
    expect(await one.append(messages(2), { bytes: 2 * BYTES - 1, age: null })).toBe(false);
    expect(await one.append(messages(2), { bytes: 2 * BYTES, age: null })).toBe(true);
    expect((await one.size()).rows).toBe(2);
  });

  it('takes no more once the first has waited for too long', async () => {
    const hour = { ...NO_LIMIT, age: 3_600_000 };
    await one.append(messages(1), hour);
    expect(await one.append(messages(2), hour)).toBe(true);
    await testDatabase.query(`UPDATE events_outbox SET waiting_since = waiting_since - interval '1 hour'`);
    expect(await one.append(messages(3), hour)).toBe(false);
    expect(await one.append(messages(3), NO_LIMIT)).toBe(true);
  });

  it('counts anew when somebody has taken events out by hand', async () => {
    await one.append(messages(1, 2), NO_LIMIT);
    await testDatabase.query('DELETE FROM events_outbox');
    await drainAll(one);
    expect(await one.size()).toEqual({ rows: 0, bytes: 0, oldest: null });
  });

  it('finds events whose ids begin anew, as in a database that was restored', async () => {
    await one.append(messages(1), NO_LIMIT);
    await drainAll(one);
    await testDatabase.query('ALTER TABLE events_outbox ALTER COLUMN id RESTART WITH 1');
    await one.append(messages(2), NO_LIMIT);
    await drainAll(one);
    expect(sent).toEqual([1, 2]);
  });
});
