import { DomainError } from '#kernel';

const WAY_OUT = 'Go on without it, and read what is missing at GET /devices/{device_id}/data.';

/** A position in another stream, or in none. */
export class SinceUnknown extends DomainError {
  constructor() {
    super('invalid', 'since_unknown', `since is no id of this stream. ${WAY_OUT}`);
  }
}

/** A position behind which something has been deleted. */
export class SinceTooOld extends DomainError {
  constructor() {
    super('invalid', 'since_too_old', `What followed since is not kept any more. ${WAY_OUT}`);
  }
}

/** Behind every event of a message. */
export const LAST_INDEX = 9_999;
/** So many replicas an id may speak of. */
const MOST_BESIDE = 63;
const ONE = String.raw`\d{1,9}\.\d{1,15}\.\d{1,4}\.\d{1,15}`;
const ID = new RegExp(`^(${ONE})((?:~${ONE}){0,${MOST_BESIDE}})(?:_|$)`);

/**
 * How far somebody has come in the stream: which run of the service tells it, its last message and which of that
 * message's events, and how many events of other kinds. Messages are counted when they come in and others when they are
 * told of, so that both counts say the order of telling whatever commits first.
 *
 * Several replicas are runs at the same time; beside the position in one of them stand those in the others. Of a run that
 * is not named, everything has been seen where it began before the newest that is named, and nothing where it began later.
 */
export class StreamPosition {
  /**
   * @param epoch a run of the service.
   * @param beside the positions in other runs, as they stand in an id.
   */
  constructor(
    readonly epoch: number,
    readonly place: number,
    readonly index: number,
    readonly other: number,
    readonly beside = '',
  ) {}

  /** The beginning of a run. */
  static startOf(epoch: number): StreamPosition {
    return new StreamPosition(epoch, 0, 0, 0);
  }

  /**
   * Reads the position that an event's id begins with.
   * @throws SinceUnknown for a text that is no such id.
   */
  static parse(text: string): StreamPosition {
    const match = ID.exec(text);
    if (!match) throw new SinceUnknown();
    const [, own = '', beside = ''] = match;
    const position = read(own, beside);
    // Named twice, it would be two positions.
    if (position.parts.size !== beside.split('~').length) throw new SinceUnknown();
    return position;
  }

  /** The positions in all runs it speaks of, each without the others. */
  get parts(): ReadonlyMap<number, StreamPosition> {
    const all = [
      `${this.epoch}.${this.place}.${this.index}.${this.other}`,
      ...this.beside.split('~').slice(1),
    ];
    return new Map(all.map((text) => read(text)).map((part) => [part.epoch, part]));
  }

  /** With these positions in other runs. */
  with(beside: string): StreamPosition {
    return new StreamPosition(this.epoch, this.place, this.index, this.other, beside);
  }

  /** The position behind an event of a message. */
  afterMessage(place: number, index: number): StreamPosition {
    return new StreamPosition(this.epoch, place, index, this.other, this.beside);
  }

  /** The position behind an event of another kind. */
  afterOther(other: number): StreamPosition {
    return new StreamPosition(this.epoch, this.place, this.index, other, this.beside);
  }

  /** Whether an event of a message comes behind it. */
  isBefore(place: number, index: number): boolean {
    return place > this.place || (place === this.place && index > this.index);
  }

  /** Whether all that another position of this run has seen was seen here as well. */
  covers({ place, index, other }: StreamPosition): boolean {
    return !this.isBefore(place, index) && other <= this.other;
  }

  /** Messages between it and a later position, as far as that is known. */
  messagesUntil(until: StreamPosition): number {
    const seen = this.parts;
    const newest = Math.max(...seen.keys());
    let count = 0;
    for (const [epoch, { place }] of until.parts) {
      const from = seen.get(epoch)?.place ?? (epoch > newest ? 0 : place);
      count += Math.max(0, place - from);
    }
    // Of a run that has ended since, nobody has counted them.
    for (const epoch of seen.keys()) if (!until.parts.has(epoch)) return Infinity;
    return count;
  }

  /** An event's id in the stream: where it stands, and the name by which it is the same wherever it is told. */
  idOf(name: string): string {
    return `${this.toString()}_${name}`;
  }

  toString(): string {
    return `${this.epoch}.${this.place}.${this.index}.${this.other}${this.beside}`;
  }
}

/** Positions in other runs, as they stand in an id. */
export function besideOf(epoch: number, positions: ReadonlyMap<number, StreamPosition>): string {
  // As it is nearly always.
  if (positions.size === 1) return '';
  let text = '';
  for (const [other, position] of positions) if (other !== epoch) text += `~${position.with('').toString()}`;
  return text;
}

function read(text: string, beside = ''): StreamPosition {
  const [epoch = 0, place = 0, index = 0, other = 0] = text.split('.').map(Number);
  return new StreamPosition(epoch, place, index, other, beside);
}
