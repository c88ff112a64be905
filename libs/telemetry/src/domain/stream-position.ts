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

/**
 * How far somebody has come in the stream: which run of the service tells it, its last message and which of that
 * message's events, and how many events of other kinds. Messages are counted when they come in and others when they are
 * told of, so that both counts say the order of telling whatever commits first.
 */
export class StreamPosition {
  constructor(
    /** A run of the service. */
    readonly epoch: number,
    readonly place: number,
    readonly index: number,
    readonly other: number,
  ) {}

  /**
   * Reads the position that an event's id begins with.
   * @throws SinceUnknown for a text that is no such id.
   */
  static parse(text: string): StreamPosition {
    const match = /^(\d{1,9})\.(\d{1,15})\.(\d{1,4})\.(\d{1,15})(?:_|$)/.exec(text);
    if (!match) throw new SinceUnknown();
    const [epoch = 0, place = 0, index = 0, other = 0] = match.slice(1).map(Number);
    return new StreamPosition(epoch, place, index, other);
  }

  /** The position behind an event of a message. */
  afterMessage(place: number, index: number): StreamPosition {
    return new StreamPosition(this.epoch, place, index, this.other);
  }

  /** The position behind an event of another kind. */
  afterOther(other: number): StreamPosition {
    return new StreamPosition(this.epoch, this.place, this.index, other);
  }

  /** Whether an event of a message comes behind it. */
  isBefore(place: number, index: number): boolean {
    return place > this.place || (place === this.place && index > this.index);
  }

  /** An event's id in the stream: where it stands, and the name by which it is the same wherever it is told. */
  idOf(name: string): string {
    return `${this.toString()}_${name}`;
  }

  toString(): string {
    return `${this.epoch}.${this.place}.${this.index}.${this.other}`;
  }
}
