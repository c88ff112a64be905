/** Dates closer together tell nothing: a will is dated a moment before the first message of its connection. */
export const SAME_MS = 1_000;
/** Two sessions announced within this time may have arrived in the wrong order: delivery seldom reorders by more. */
const RACE_MS = 10_000;
/** What is older says nothing: a clock may have been set since, and a device may use the name again. */
const MEMORY_MS = 3_600_000;
/** Open sessions, and others, remembered of a device, at most. */
const MAX_NOTES = 8;

/**
 * What has been heard of one session of a device: `open`, until its end is heard of; `ended`; `replaced` by a newer
 * one, whether its end was heard of or not; `unannounced`: nothing but its end has come so far.
 * Times are milliseconds since 1970, so that notes can be kept as JSON.
 */
export interface SessionNote {
  readonly name: string;
  readonly state: 'open' | 'ended' | 'replaced' | 'unannounced';
  /** When it was first announced here; when its end came, while nothing else has. */
  readonly since: number;
  /** When it was last heard of. */
  readonly heard: number;
  /** The newest date the device itself has given it. */
  readonly dated: number | null;
  /** When its end was heard of; absent: it was not. */
  readonly over?: number;
}

/** When a message came, what its device's clock said, and whether it may have waited while others went on. */
export interface Arrival {
  readonly at: number;
  readonly dated: number | null;
  readonly mayHaveWaited: boolean;
}

type Notes = readonly SessionNote[];

/** The session a device is taken to be in: of those that nobody has ended, the one announced last. */
export function openSession(notes: Notes): SessionNote | null {
  return notes.filter(({ state }) => state === 'open').at(-1) ?? null;
}

/** Whether a message is surely of after an end that was heard: it did not wait, or bears a later date. */
export function isAfter({ dated, mayHaveWaited }: Omit<Arrival, 'at'>, end: number): boolean {
  return !mayHaveWaited || (dated !== null && dated - end >= SAME_MS);
}

/**
 * Takes in that a device says it is online in a session.
 * @returns whether it is there in that session; else the message is late: the session has ended, or a newer one begun.
 */
export function announce(
  notes: Notes,
  name: string,
  arrival: Arrival,
): { readonly notes: Notes; readonly isThere: boolean } {
  const { at, dated } = arrival;
  const remembered = recent(notes, at);
  const known = remembered.find((note) => note.name === name);
  const others = remembered.filter((note) => note.name !== name);
  const mine: SessionNote = {
    name,
    state: 'open',
    since: known?.since ?? at,
    heard: at,
    dated: latest(known?.dated ?? null, dated),
    ...(known?.over !== undefined && { over: known.over }),
  };
  const lateAs = latenessOf(known, mine, others, arrival);
  if (lateAs) return { notes: [...others, { ...mine, state: lateAs }].sort(byBeginning), isThere: false };
  const before = others.map((note): SessionNote => {
    if (note.state === 'unannounced') return note;
    const mayBeNewer =
      note.state === 'open' && Math.abs(mine.since - note.since) <= RACE_MS && !follows(mine, note);
    return mayBeNewer ? note : { ...note, state: 'replaced' };
  });
  const reopened = known && known.state !== 'open' ? begunAgain(mine, at) : mine;
  return { notes: [...before, reopened].sort(byBeginning), isThere: true };
}

/**
 * Takes in that a session has ended.
 * @param dated the date of the message: that of the session's beginning, where it is a will.
 * @returns whether that is news: of a session that is over already it is not.
 */
export function end(
  notes: Notes,
  name: string,
  dated: number | null,
  at: number,
): { readonly notes: Notes; readonly isNews: boolean } {
  const remembered = recent(notes, at);
  const known = remembered.find((note) => note.name === name);
  if (known) {
    // Judged late when it was announced, it may have been the one that was there: nothing else is, and none came after it.
    const wasLast = !remembered.some(({ state, since }) => state === 'open' || since > known.since);
    const isNews = known.state === 'open' || (known.state === 'replaced' && wasLast);
    const ended: SessionNote = {
      ...known,
      heard: at,
      over: known.over ?? at,
      ...(isNews && { state: 'ended' }),
    };
    return { notes: remembered.map((note) => (note === known ? ended : note)), isNews };
  }
  const mine: SessionNote = { name, state: 'unannounced', since: at, heard: at, dated, over: at };
  const before = remembered.map((note): SessionNote => {
    return note.state === 'open' && isDatedBefore(note, mine) ? { ...note, state: 'replaced' } : note;
  });
  return { notes: [...before, mine].sort(byBeginning), isNews: true };
}

/** Takes in that whatever session there was is over. */
export function endAll(notes: Notes, at: number): Notes {
  return notes.map((note): SessionNote =>
    note.state === 'open' ? { ...note, state: 'ended', over: at } : note,
  );
}

/** Its name is used again: what was heard of its end is of before. */
function begunAgain({ name, state, heard, dated }: SessionNote, at: number): SessionNote {
  return { name, state, since: at, heard, dated };
}

/** What a session stays when it is announced too late; null when it is there. */
function latenessOf(
  known: SessionNote | undefined,
  mine: SessionNote,
  others: Notes,
  arrival: Arrival,
): 'unannounced' | 'ended' | 'replaced' | null {
  const { dated } = arrival;
  if (known && known.state !== 'open' && known.over !== undefined && !isAfter(arrival, known.over))
    return known.state;
  if (known && isProvenAlive(known, mine, others, arrival)) return null;
  if (known?.state === 'replaced') return 'replaced';
  if (known?.state === 'unannounced' && mine.heard - known.since <= RACE_MS) return 'unannounced';
  if (known?.state === 'ended') {
    const repeated = dated !== null && known.dated !== null && dated <= known.dated;
    const wasLast = !others.some(({ state, since }) => state === 'ended' && since > known.since);
    if (repeated || !wasLast || openSession(others)) return 'ended';
  }
  const isOutrun = others.some(
    (note) =>
      isDatedBefore(mine, note) ||
      (note.state === 'open' && Math.abs(mine.since - note.since) <= RACE_MS && follows(note, mine)),
  );
  return isOutrun ? 'replaced' : null;
}

/**
 * What was judged once may be seen to be wrong: a clock was not set yet when the session began. One that says more than it
 * has said before is there, if that is newer than all that others have said, or if these have ended and have been silent
 * for longer than delivery reorders.
 */
function isProvenAlive(
  known: SessionNote,
  mine: SessionNote,
  others: Notes,
  { dated, mayHaveWaited }: Arrival,
): boolean {
  if (known.state !== 'replaced') return false;
  if (dated !== null && known.dated !== null && dated <= known.dated) return false;
  const announced = others.filter(({ state }) => state !== 'unannounced');
  if (dated !== null && announced.every((note) => note.dated !== null && note.dated < dated)) return true;
  if (mayHaveWaited) return false;
  return announced.every(({ state, heard }) => state !== 'open' && mine.heard - heard > RACE_MS);
}

function isDatedBefore(a: SessionNote, b: SessionNote): boolean {
  return a.dated !== null && b.dated !== null && a.dated < b.dated;
}

/** Names that differ in a number at their end, and little in that, count up: boot-7, boot-8. */
function follows(later: SessionNote, earlier: SessionNote): boolean {
  if (later.dated !== null && earlier.dated !== null) return later.dated > earlier.dated;
  const [a, b] = [counted(later.name), counted(earlier.name)];
  return a !== null && b !== null && a.of === b.of && a.count > b.count && a.count - b.count <= MAX_NOTES;
}

function counted(name: string): { readonly of: string; readonly count: number } | null {
  const digits = /\d{1,15}$/.exec(name)?.[0];
  return digits === undefined ? null : { of: name.slice(0, -digits.length), count: Number(digits) };
}

/** An open session is remembered however long it lasts, and however many others end meanwhile. */
function recent(notes: Notes, at: number): Notes {
  const open = notes.filter(({ state }) => state === 'open').slice(-MAX_NOTES);
  const others = notes.filter(({ state, heard }) => state !== 'open' && at - heard < MEMORY_MS);
  return [...open, ...others.slice(-MAX_NOTES)].sort(byBeginning);
}

function byBeginning(a: SessionNote, b: SessionNote): number {
  return a.since - b.since;
}

function latest(a: number | null, b: number | null): number | null {
  return a === null || b === null ? (a ?? b) : Math.max(a, b);
}
