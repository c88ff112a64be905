import { Injectable } from '@nestjs/common';
import { Config } from '../config/config.js';
import { Database } from '../database/database.js';
import { SESSION_EXPIRY_SECONDS } from './client-options.js';

/** The time in which everything that the broker dealt to a session has been heard. */
export interface Hearing {
  readonly since: Date;
  readonly until: Date;
}

/** What a group has heard together. */
export interface GroupHearing {
  /** Null: it can't be told, there is no time that all have heard. */
  readonly hearing: Hearing | null;
  /** Who has heard least: its client id; null where there is no other. */
  readonly last: string | null;
}

/** What the broker took away with an expired session may have been the last sign of life of some devices. */
const MARGIN_SECONDS = 60;

// Times of hearing are those of the replicas' clocks, as the last signs of life of devices are; who is still a member, the
// database's clock tells.
const JOIN = `
  INSERT INTO service_replicas (client_id, shared_group, alive_at) VALUES ($1, $2, now())
  ON CONFLICT (client_id) DO UPDATE
    SET shared_group = excluded.shared_group, alive_at = now(), heard_since = NULL, heard_until = NULL`;
const NOTE = `
  INSERT INTO service_replicas (client_id, shared_group, alive_at, heard_since, heard_until)
  VALUES ($1, $2, now(), $3, $4)
  ON CONFLICT (client_id) DO UPDATE
    SET shared_group = excluded.shared_group, alive_at = now(),
      heard_since = excluded.heard_since, heard_until = excluded.heard_until`;
const OTHERS = `
  SELECT client_id, heard_since AS since, heard_until AS until FROM service_replicas
  WHERE shared_group = $2 AND client_id <> $1 AND alive_at > now() - make_interval(secs => $3)`;

/**
 * The replicas that share the messages (MQTT_SHARED_GROUP), and what each has heard. The broker deals a share to every
 * member, also to one that is away, into its session; so what none of the others has heard may wait there. A member counts
 * until its session has expired, and what waited in it with it.
 */
@Injectable()
export class SharedGroup {
  constructor(
    private readonly config: Config,
    private readonly database: Database,
  ) {}

  /** Notes this replica as a member, or as none, before the broker deals it anything. @throws a database error. */
  async join(): Promise<void> {
    const { clientId, sharedGroup = null } = this.config.mqtt;
    await this.database.query(JOIN, [clientId, sharedGroup]);
  }

  /**
   * Notes what this replica has heard, and that it is connected.
   * @param own null: nothing yet.
   * @param silence how long devices may be silent, in milliseconds.
   * @returns what all members have heard; without a group, what this one has.
   * @throws a database error.
   */
  async hear(own: Hearing | null, silence: number): Promise<GroupHearing> {
    const { clientId, sharedGroup } = this.config.mqtt;
    if (sharedGroup === undefined) return { hearing: own, last: null };
    await this.database.query(NOTE, [
      clientId,
      sharedGroup,
      own?.since.toISOString() ?? null,
      own?.until.toISOString() ?? null,
    ]);
    const others = await this.database.query<MemberRecord>(OTHERS, [
      clientId,
      sharedGroup,
      SESSION_EXPIRY_SECONDS + MARGIN_SECONDS + silence / 1_000,
    ]);
    return heardByAll(own, others);
  }
}

interface MemberRecord {
  readonly client_id: string;
  readonly since: Date | null;
  readonly until: Date | null;
}

function heardByAll(own: Hearing | null, others: readonly MemberRecord[]): GroupHearing {
  const untilOf = ({ until }: MemberRecord): number => until?.getTime() ?? 0;
  const last = others.reduce<MemberRecord | null>(
    (least, member) => (least && untilOf(least) <= untilOf(member) ? least : member),
    null,
  );
  let hearing = own;
  for (const { since, until } of others) {
    if (!hearing || !since || !until) return { hearing: null, last: last?.client_id ?? null };
    hearing = {
      since: hearing.since > since ? hearing.since : since,
      until: hearing.until < until ? hearing.until : until,
    };
  }
  return { hearing, last: last?.client_id ?? null };
}
