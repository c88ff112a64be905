import { setTimeout as sleep } from 'node:timers/promises';
import { Injectable, Logger } from '@nestjs/common';
import type { DomainEvent, EventBus } from '#kernel';
import { Config } from '../config/config.js';
import type { EventSystem } from '../config/event-address.js';
import { errorCode } from '../database/database-errors.js';
import { Database } from '../database/database.js';
import { IngestConnections } from '../database/ingest-connections.js';
import { createEventClient } from './event-client.js';
import { EventLink } from './event-link.js';
import { EventMessage } from './event-message.js';
import { EventOutbox, type OutboxSize } from './event-outbox.js';

/** Between looks at the outbox: another replica may have left something there. */
const LOOK_EVERY_MS = 1_000;
const RETRY_MS = 1_000;
/** Between attempts to hand over what the system did not take: each may repeat events. */
const LAST_RETRY_MS = 30_000;
/** Handed over, or appended, together. */
const LOT = 1_000;
const LOT_BYTES = 4_194_304;
/** More goes out of the outbox than comes in, until it is empty. */
const DRAINS_PER_LOT = 2;
/** One for what goes in and out, one for who asks how much waits. */
const CONNECTIONS = 2;
const GOODBYE_MS = 2_000;

/** How the event system of `EVENTS_URL` does. */
export interface RelayStatus {
  readonly system: EventSystem;
  readonly connected: boolean;
  /** Events handed over since the start. */
  readonly sent: number;
  /** Events that wait in the outbox, of all replicas, as last seen; null before it could be looked at. */
  readonly outbox: OutboxSize | null;
  /** Events that wait in memory, and with them whoever told of them. */
  readonly inHand: number;
  /** Whether these wait because the outbox may take no more. */
  readonly heldBack: boolean;
}

/** Events told together, until all of them are in safe hands. */
interface Telling {
  readonly events: readonly DomainEvent[];
  /** How many of them are. */
  safe: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/**
 * Tells the event system of `EVENTS_URL`. Events are in safe hands when the system has them, or when they are committed to
 * the outbox: there they go while the system is away, and while anything waits there already, so that none overtakes.
 * When they have waited there for `EVENTS_GRACE`, or too many do, whoever tells of more has to wait.
 */
@Injectable()
export class EventRelay {
  private readonly logger = new Logger('Events');
  private readonly stopping = new AbortController();
  private readonly tellings: Telling[] = [];
  private link: EventLink | undefined;
  /** The last that was handed over was not taken. */
  private failing = false;
  private retryMs = RETRY_MS;
  private sent = 0;
  private inHand = 0;
  private size: OutboxSize | null = null;
  private heldBack = false;
  private lastProblem = '';
  private wake: () => void = () => undefined;
  private running: Promise<unknown> = Promise.resolve();
  private connections: IngestConnections | undefined;

  constructor(
    private readonly config: Config,
    private readonly database: Database,
  ) {}

  /** Begins to hear what the bus carries, where `EVENTS_URL` is set. */
  attach(bus: EventBus): void {
    if (this.config.events.address)
      bus.subscribe({ name: 'events-url', handle: (events) => this.tell(events) });
  }

  /** Begins to connect; it may take for ever. */
  open(): void {
    const { address } = this.config.events;
    if (!address) return;
    const { url, abandoned } = this.database;
    const { databaseTimeout } = this.config;
    this.connections = new IngestConnections(
      url,
      databaseTimeout,
      abandoned,
      () => undefined,
      'mqtt-service-events',
      CONNECTIONS,
    );
    const outbox = new EventOutbox(this.connections);
    this.running = Promise.all([this.keepLink(), this.database.start().then(() => this.run(outbox))]);
  }

  /** Null: there is none. */
  get status(): RelayStatus | null {
    const { address } = this.config.events;
    if (!address) return null;
    const { link, sent, size, inHand, heldBack } = this;
    return { system: address.system, connected: link !== undefined, sent, outbox: size, inHand, heldBack };
  }

  /** Puts what is in hand into the outbox, as far as that can be done at once, and ends. */
  async close(): Promise<void> {
    this.stopping.abort();
    this.wake();
    await Promise.race([this.running, sleep(GOODBYE_MS, undefined, { ref: false })]);
    for (const { reject } of this.tellings.splice(0)) reject(new Error('the event system is being left'));
    this.link?.close('the service is stopping');
    await Promise.race([this.connections?.end(), sleep(GOODBYE_MS, undefined, { ref: false })]);
  }

  private async tell(events: readonly DomainEvent[]): Promise<void> {
    if (this.stopping.signal.aborted) throw new Error('the event system is being left');
    this.inHand += events.length;
    try {
      await new Promise<void>((resolve, reject) => {
        this.tellings.push({ events, safe: 0, resolve, reject });
        // Behind others, it has to wait with them.
        if (this.tellings.length === 1) this.wake();
      });
    } finally {
      this.inHand -= events.length;
    }
  }

  /** Connects, and connects anew. */
  private async keepLink(): Promise<void> {
    const { signal } = this.stopping;
    const { address } = this.config.events;
    while (address && !signal.aborted) {
      try {
        const link = await EventLink.open(createEventClient(address));
        this.link = link;
        this.lastProblem = '';
        this.logger.log(`Connected to ${address.system}`);
        this.wake();
        const reason = await link.ended;
        this.link = undefined;
        this.report(reason);
      } catch (error) {
        this.report(error);
      }
      await sleep(this.retryMs, undefined, { signal }).catch(() => undefined);
    }
  }

  /** The one way in and out: what waits in the outbox goes first. */
  private async run(outbox: EventOutbox): Promise<void> {
    const { signal } = this.stopping;
    let lot: readonly EventMessage[] = [];
    for (;;) {
      if (lot.length === 0) lot = this.firstLot();
      const stopping = signal.aborted;
      if (stopping && lot.length === 0) return;
      let found: Found = 'unknown';
      let placed = false;
      try {
        found = await this.drain(outbox);
        placed = lot.length > 0 && (await this.place(outbox, lot, found === 'nothing'));
      } catch (error) {
        this.report(error);
      }
      if (placed) {
        this.settle(lot.length);
        lot = [];
      }
      if (stopping && !placed) return;
      const busy = lot.length === 0 && (found === 'more' || this.tellings.length > 0);
      if (!busy && !signal.aborted) await this.rest();
    }
  }

  /** The first events in hand, as they go out. */
  private firstLot(): readonly EventMessage[] {
    const lot: EventMessage[] = [];
    let bytes = 0;
    for (const { events, safe } of this.tellings) {
      for (const event of events.slice(safe)) {
        if (lot.length === LOT || bytes >= LOT_BYTES) return lot;
        const message = EventMessage.of(event);
        lot.push(message);
        bytes += message.bytes;
      }
    }
    return lot;
  }

  /** So many of those in hand are in safe hands. */
  private settle(count: number): void {
    let left = count;
    for (let telling = this.tellings[0]; telling && left > 0; telling = this.tellings[0]) {
      const safe = Math.min(left, telling.events.length - telling.safe);
      left -= safe;
      telling.safe += safe;
      if (telling.safe < telling.events.length) return;
      this.tellings.shift();
      telling.resolve();
    }
  }

  /** Sends some of what waits in the outbox. @returns what is there then. */
  private async drain(outbox: EventOutbox): Promise<Found> {
    this.size = await outbox.size();
    for (let drains = 0; drains < DRAINS_PER_LOT && this.size.rows > 0; drains += 1) {
      const { link } = this;
      if (!link || this.stopping.signal.aborted) return 'unknown';
      try {
        const sent = await outbox.drain((messages) => this.handOver(link, messages));
        if (sent === null) return 'unknown';
      } catch (error) {
        // What became of the link is reported where it is kept.
        if (this.link !== link) return 'unknown';
        throw error;
      }
      this.size = await outbox.size();
    }
    return this.size.rows > 0 ? 'more' : 'nothing';
  }

  /** @returns whether the events are in safe hands. */
  private async place(outbox: EventOutbox, lot: readonly EventMessage[], first: boolean): Promise<boolean> {
    const { grace, outboxBytes } = this.config.events;
    const { link } = this;
    if (link && first) {
      const taken = await this.handOver(link, lot).then(
        () => true,
        () => false,
      );
      if (taken) {
        this.heldBack = false;
        return true;
      }
    }
    // Whoever stops can't wait, and some sources tell of a thing once.
    const unlimited = this.stopping.signal.aborted || (this.link !== undefined && !this.failing);
    const stored = await outbox.append(lot, { bytes: outboxBytes, age: unlimited ? null : grace });
    if (this.heldBack === stored)
      this.logger.warn(
        stored
          ? 'Measurements are acknowledged again: events may wait in the database'
          : 'Measurements are no longer acknowledged: their events have waited for EVENTS_GRACE, or take EVENTS_OUTBOX_BYTES',
      );
    this.heldBack = !stored;
    return stored;
  }

  /** @throws when the event system does not take them; the link is then given up. */
  private async handOver(link: EventLink, messages: readonly EventMessage[]): Promise<void> {
    try {
      const { maxBytes } = link;
      const sendable = messages.flatMap((message) => message.within(maxBytes) ?? []);
      if (sendable.length < messages.length)
        this.logger.error(
          'An event is larger than what the event system accepts, even reduced: it was not sent',
        );
      await link.handOver(sendable);
    } catch (error) {
      this.failing = true;
      this.retryMs = Math.min(this.retryMs * 2, LAST_RETRY_MS);
      if (this.link === link) this.link = undefined;
      link.close(reasonOf(error));
      throw error;
    }
    this.sent += messages.length;
    this.failing = false;
    this.retryMs = RETRY_MS;
    this.lastProblem = '';
  }

  /** Until there is something to do, or to look at. */
  private async rest(): Promise<void> {
    const woken = new AbortController();
    this.wake = () => woken.abort();
    await sleep(LOOK_EVERY_MS, undefined, { signal: woken.signal }).catch(() => undefined);
    this.wake = () => undefined;
  }

  private report(error: unknown): void {
    const problem = reasonOf(error);
    if (problem !== this.lastProblem && !this.stopping.signal.aborted)
      this.logger.warn(`Events wait: ${problem}; trying again until it works`);
    this.lastProblem = problem;
  }
}

/** What the outbox holds. `unknown`: what waits there is not sent, or is sent by another replica. */
type Found = 'nothing' | 'more' | 'unknown';

/** In words that hold no address and no account. */
function reasonOf(error: unknown): string {
  const code = errorCode(error);
  if (code !== null) return code;
  if (error instanceof Error) return error.message;
  // RabbitMQ's client throws the error with the address.
  const { err } = (typeof error === 'object' && error !== null ? error : {}) as { readonly err?: unknown };
  return err === undefined ? 'the event system is not connected' : reasonOf(err);
}
