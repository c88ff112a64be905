import { ownTopics, type DeviceTopicFilters } from '../domain/topic-rules.js';
import type { DynsecCommand } from './dynsec-control.js';

/** The account that gives the service's own its rights, for a moment. */
export const SETUP_ACCOUNT = 'mqtt-service-setup';
const ROLE_PREFIX = 'device:';
/** Marks accounts as ours where their role was taken from them. */
const TEXTNAME = 'device account of mqtt-service';

export interface DynsecAcl {
  readonly acltype: string;
  readonly topic: string;
  readonly allow: boolean;
}

/** A client as the plugin lists it. */
export interface DynsecClient {
  readonly username: string;
  readonly clientid?: string;
  readonly textname?: string;
  readonly disabled?: boolean;
  readonly roles?: readonly { readonly rolename: string }[];
  readonly groups?: readonly unknown[];
}

/** A role as the plugin lists it. */
export interface DynsecRole {
  readonly rolename: string;
  readonly acls?: readonly DynsecAcl[];
}

/** What is to be done about a difference between registry and broker. */
export interface Drift {
  readonly repairs: readonly DynsecCommand[];
  /** Devices without an account: nobody knows what password they had, so only a rotation helps. */
  readonly missing: readonly string[];
}

export function roleOf(deviceId: string): string {
  return `${ROLE_PREFIX}${deviceId}`;
}

/** A device's own topics, to the letter. */
export function aclsOf(filters: DeviceTopicFilters, deviceId: string): readonly DynsecAcl[] {
  const { publish, subscribe } = ownTopics(filters, deviceId);
  return [
    ...publish.map((topic) => ({ acltype: 'publishClientSend', topic, allow: true })),
    ...subscribe.map((topic) => ({ acltype: 'subscribeLiteral', topic, allow: true })),
  ];
}

/** What a device's account is like, whatever its password. */
export function accountOf(deviceId: string): Readonly<Record<string, unknown>> & { username: string } {
  return {
    username: deviceId,
    clientid: deviceId,
    textname: TEXTNAME,
    roles: [{ rolename: roleOf(deviceId) }],
    groups: [],
  };
}

/** Whether an account is one of this service's: others are left alone. */
export function isOurs({ textname, roles = [] }: DynsecClient): boolean {
  return textname === TEXTNAME || roles.some(({ rolename }) => rolename.startsWith(ROLE_PREFIX));
}

/** Compares what the broker has with the devices in service. */
export function findDrift(
  filters: DeviceTopicFilters,
  devices: ReadonlySet<string>,
  clients: readonly DynsecClient[],
  roles: readonly DynsecRole[],
): Drift {
  const repairs: DynsecCommand[] = [];
  const ours = new Map(clients.filter(isOurs).map((client) => [client.username, client]));
  const present = new Map(roles.map((role) => [role.rolename, role]));
  for (const [username, client] of ours) {
    if (!devices.has(username)) {
      repairs.push({ command: 'deleteClient', username });
      continue;
    }
    const rolename = roleOf(username);
    const acls = aclsOf(filters, username);
    const role = present.get(rolename);
    if (!role) repairs.push({ command: 'createRole', rolename, acls });
    else if (!sameAcls(role.acls ?? [], acls)) repairs.push({ command: 'modifyRole', rolename, acls });
    if (!isAsItShouldBe(client)) repairs.push({ command: 'modifyClient', ...accountOf(username) });
    if (client.disabled) repairs.push({ command: 'enableClient', username });
  }
  for (const { rolename } of roles) {
    const deviceId = rolename.slice(ROLE_PREFIX.length);
    if (rolename.startsWith(ROLE_PREFIX) && !devices.has(deviceId)) {
      repairs.push({ command: 'deleteRole', rolename });
    }
  }
  return { repairs, missing: [...devices].filter((deviceId) => !ours.has(deviceId)) };
}

function isAsItShouldBe({ username, clientid, textname, roles = [], groups = [] }: DynsecClient): boolean {
  return (
    clientid === username &&
    textname === TEXTNAME &&
    roles.length === 1 &&
    roles[0]?.rolename === roleOf(username) &&
    groups.length === 0
  );
}

function sameAcls(some: readonly DynsecAcl[], others: readonly DynsecAcl[]): boolean {
  const text = (acls: readonly DynsecAcl[]): string =>
    acls
      .map(({ acltype, topic, allow }) => `${acltype} ${allow} ${topic}`)
      .sort()
      .join('\n');
  return text(some) === text(others);
}
