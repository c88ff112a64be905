import type { KeptChange, LowBattery } from '../domain/device-events.js';
import type { Device } from '../domain/device.js';
import type { LowBatteryNote, Presence, StatusChange } from '../domain/presence.js';

/** What becomes of a device's presence. */
export interface PresenceDecision {
  readonly presence: Presence;
  /** In their order. */
  readonly changes: readonly StatusChange[];
  /** Each time that its battery has become low just now. */
  readonly lowBatteries: readonly LowBatteryNote[];
}

/** What is to be told of. It is kept, as not yet told, with what it tells of; the first to tell has some time for it. */
export interface PresenceNews {
  readonly changes: readonly KeptChange[];
  readonly lowBatteries: readonly LowBattery[];
}

/** A change that is to be told of. */
export interface UntoldChange {
  readonly change: KeptChange;
  /** It is the caller's to tell now. */
  readonly isClaimed: boolean;
}

export interface ChangeFilter {
  readonly deviceId: string;
  /** Nothing of before. */
  readonly from: Date | null;
}

/** Where the presence of devices and its history are kept. All methods reject with a database error while it is away. */
export abstract class PresenceRepository {
  /**
   * Loads devices, lets `decide`, and stores that with its history, all under row locks: two replicas never decide on the
   * same old state. Unknown ids, and those of decommissioned devices, are skipped.
   * @param decide null leaves a device as it is.
   */
  abstract update(
    deviceIds: readonly string[],
    decide: (device: Device) => PresenceDecision | null,
  ): Promise<PresenceNews>;

  /**
   * Moves the last sign of life of devices that are online forward: most sightings change nothing else.
   * @param arrivals device id to the time of receipt of its last data.
   * @returns the devices in service among them that are not online, and are left as they are.
   */
  abstract refreshSeen(arrivals: ReadonlyMap<string, Date>): Promise<readonly string[]>;

  /**
   * Turns devices offline that were last seen before `before`, the longest silent first.
   * @param at when that is found out.
   * @returns null while another replica is at it.
   */
  abstract expireSilent(before: Date, at: Date, limit: number): Promise<PresenceNews | null>;

  /**
   * Takes over what others should have told of long ago, for as long as telling takes.
   * @param except changes that the caller is telling of.
   */
  abstract claimUntold(limit: number, except: readonly number[]): Promise<PresenceNews>;

  /**
   * Finds what is to be told of these changes' devices, up to them and in its order, and takes over what nobody else can be
   * telling any more, or at this moment.
   * @param changes id to device.
   * @param except changes that the caller is telling of: they are found, but not taken over.
   */
  abstract claimUpTo(
    changes: ReadonlyMap<number, string>,
    except: readonly number[],
  ): Promise<readonly UntoldChange[]>;

  /** @returns those that nobody has told of. */
  abstract untoldAmong(changes: readonly number[]): Promise<readonly number[]>;

  /** Notes that it has been told of. */
  abstract markTold(news: PresenceNews): Promise<void>;

  /** A page of a device's history, newest first. @param before the id that the page begins behind. */
  abstract history(
    filter: ChangeFilter,
    before: number | null,
    limit: number,
  ): Promise<readonly KeptChange[]>;
}
