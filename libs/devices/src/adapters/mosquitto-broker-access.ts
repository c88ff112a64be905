import { Injectable, Logger, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import { DomainError } from '#kernel';
import { Config, Database, errorCode } from '#platform';
import { BrokerAccess, type DeviceCredentials } from '../ports/broker-access.js';
import { brokerUnavailable, newPassword } from './device-accounts.js';
import { DynsecControl, runOnceAs, type DynsecAnswer, type DynsecCommand } from './dynsec-control.js';
import {
  accountOf,
  aclsOf,
  findDrift,
  isOurs,
  roleOf,
  SETUP_ACCOUNT,
  type DynsecClient,
  type DynsecRole,
} from './dynsec-drift.js';

const SERVICE_ROLE = 'mqtt-service';
const TRY_AGAIN_MS = 10_000;
const NAMED_AT_MOST = 5;

/**
 * Accounts in Mosquitto's dynamic security plugin, which alone keeps the passwords, hashed. `MQTT_USERNAME` is the plugin's
 * administrator (`mosquitto_ctrl dynsec init`).
 *
 * An account is made before its credentials are shown: while the broker is away, registration and rotation are refused
 * (503), and a registration is taken back. Should the service be killed in between, the device is registered without
 * an account, or with one whose password nobody has seen: the next rotation gives it one. A device that is decommissioned
 * while the broker is away loses its account as soon as it is back: at each connection the accounts are compared with
 * the registry, and what differs is repaired.
 */
@Injectable()
export class MosquittoBrokerAccess
  extends BrokerAccess
  implements OnApplicationBootstrap, OnApplicationShutdown
{
  private readonly logger = new Logger('BrokerAccess');
  private readonly control: DynsecControl;
  private again: NodeJS.Timeout | undefined;
  private reconciling = false;
  private stopped = false;

  constructor(
    private readonly database: Database,
    private readonly config: Config,
  ) {
    super();
    this.control = new DynsecControl(config, this.logger);
  }

  onApplicationBootstrap(): void {
    this.control.open(() => void this.reconcile());
  }

  async onApplicationShutdown(): Promise<void> {
    this.stopped = true;
    clearTimeout(this.again);
    await this.control.close();
  }

  async issue(deviceId: string): Promise<DeviceCredentials> {
    const password = newPassword();
    const rolename = roleOf(deviceId);
    const acls = aclsOf(this.config.mqtt.topics, deviceId);
    const account = { ...accountOf(deviceId), password };
    const known = await this.find(deviceId);
    if (known) {
      // A role that is there already says so, and is then set right.
      await this.control.run([{ command: 'createRole', rolename, acls }]);
      // Whoever is connected is cut off by a new password. An account that was disabled is enabled with it.
      await this.do([
        { command: 'modifyRole', rolename, acls },
        { command: 'modifyClient', ...account },
        { command: 'enableClient', username: deviceId },
      ]);
    } else {
      await this.control.run([{ command: 'createRole', rolename, acls }]);
      await this.do([
        { command: 'modifyRole', rolename, acls },
        { command: 'createClient', ...account },
      ]);
    }
    return { username: deviceId, password, clientId: deviceId };
  }

  async revoke(deviceId: string): Promise<void> {
    try {
      if (await this.find(deviceId).catch(keepForeign)) {
        await this.control.run([
          { command: 'deleteClient', username: deviceId },
          { command: 'deleteRole', rolename: roleOf(deviceId) },
        ]);
      }
      // Answers such as "not found" are no failure: another replica was faster. That it is gone is what counts.
      if (await this.find(deviceId).catch(keepForeign))
        throw brokerUnavailable('The broker keeps the account.');
    } catch (error) {
      this.reconcileLater();
      throw error;
    }
  }

  /** Our account of a device, or null. @throws DomainError conflict/broker_account_taken when it is somebody else's. */
  private async find(deviceId: string): Promise<DynsecClient | null> {
    const [answer] = await this.control.run([{ command: 'getClient', username: deviceId }]);
    if (answer?.error !== undefined) return null;
    const client = answer?.data?.['client'] as DynsecClient;
    if (isOurs(client)) return client;
    throw new DomainError(
      'conflict',
      'broker_account_taken',
      `The broker has an account ${deviceId} that is not this service's.`,
    );
  }

  /** @throws DomainError unavailable/broker_unavailable when the plugin refuses one of them. */
  private async do(commands: readonly DynsecCommand[]): Promise<readonly DynsecAnswer[]> {
    const answers = await this.control.run(commands);
    const refused = answers.find(({ error }) => error !== undefined);
    if (refused) throw brokerUnavailable(`The broker refused ${refused.command}: ${refused.error}.`);
    return answers;
  }

  private reconcileLater(): void {
    if (this.stopped) return;
    clearTimeout(this.again);
    this.again = setTimeout(() => void this.reconcile(), TRY_AGAIN_MS);
  }

  /** Sets right at the broker what differs from the registry; tries again until it has succeeded. */
  private async reconcile(): Promise<void> {
    if (this.reconciling || this.stopped) return;
    this.reconciling = true;
    try {
      await this.closeDefaults();
      await this.closeToStrangers();
      await this.grantService();
      await this.repairDevices();
    } catch (error) {
      this.logger.warn(
        `Accounts at the broker not compared with the registry (${errorCode(error) ?? String(error)}); trying again`,
      );
      this.reconcileLater();
    } finally {
      this.reconciling = false;
    }
  }

  /** What no role grants is denied, or the topics of a device would be no limit to it. */
  private async closeDefaults(): Promise<void> {
    const [answer] = await this.do([{ command: 'getDefaultACLAccess' }]);
    const acls = (answer?.data?.['acls'] ?? []) as readonly { acltype: string; allow: boolean }[];
    const open = acls.filter(
      ({ acltype, allow }) => allow && ['publishClientSend', 'subscribe'].includes(acltype),
    );
    if (open.length === 0) return;
    const names = open.map(({ acltype }) => acltype);
    this.logger.warn(`The broker let everyone ${names.join(' and ')} by default; it no longer does`);
    await this.do([
      { command: 'setDefaultACLAccess', acls: names.map((acltype) => ({ acltype, allow: false })) },
    ]);
  }

  /** Clients without an account have no rights. */
  private async closeToStrangers(): Promise<void> {
    const [answer] = await this.do([{ command: 'getAnonymousGroup' }]);
    const { groupname = '' } = (answer?.data?.['group'] ?? {}) as { groupname?: string };
    if (groupname === '') return;
    const [found] = await this.do([{ command: 'getGroup', groupname }]);
    const { roles = [] } = (found?.data?.['group'] ?? {}) as Pick<DynsecClient, 'roles'>;
    if (roles.length === 0) return;
    // Not another group in its place: only who loses a role is cut off.
    await this.do(roles.map(({ rolename }) => ({ command: 'removeGroupRole', groupname, rolename })));
    const names = roles.map(({ rolename }) => rolename).join(', ');
    this.logger.warn(`The broker gave clients without an account the roles ${names}; it no longer does`);
  }

  /**
   * The administrator may not publish until told so. Mosquitto 2.0.11 corrupts its memory when an account changes its own
   * rights, because that ends the very connection the command came on: another account, made for this alone, does it.
   */
  private async grantService(): Promise<void> {
    const { username } = this.config.mqtt;
    const [answer] = await this.do([{ command: 'getClient', username }]);
    const { roles = [] } = answer?.data?.['client'] as DynsecClient;
    await this.control.run([{ command: 'deleteClient', username: SETUP_ACCOUNT }]);
    if (roles.some(({ rolename }) => rolename === SERVICE_ROLE)) return;
    const acls = [
      { acltype: 'publishClientSend', topic: '#', allow: true },
      { acltype: 'publishClientReceive', topic: '#', allow: true },
      { acltype: 'subscribePattern', topic: '#', allow: true },
      { acltype: 'unsubscribePattern', topic: '#', allow: true },
    ];
    await this.control.run([{ command: 'createRole', rolename: SERVICE_ROLE, acls }]);
    const account = { username: SETUP_ACCOUNT, password: newPassword() };
    await this.do([{ command: 'createClient', ...account, roles }]);
    await runOnceAs(this.config, account, { command: 'addClientRole', username, rolename: SERVICE_ROLE });
  }

  private async repairDevices(): Promise<void> {
    // The broker first: an account that it has by then belongs to a device that was registered before.
    const [clients, roles] = await this.do([
      { command: 'listClients', verbose: true, count: -1, offset: 0 },
      { command: 'listRoles', verbose: true, count: -1, offset: 0 },
    ]);
    const rows = await this.database.query<{ device_id: string }>(
      'SELECT device_id FROM medical_devices WHERE decommissioned_at IS NULL',
    );
    const { repairs, missing } = findDrift(
      this.config.mqtt.topics,
      new Set(rows.map((row) => row.device_id)),
      (clients?.data?.['clients'] ?? []) as readonly DynsecClient[],
      (roles?.data?.['roles'] ?? []) as readonly DynsecRole[],
    );
    if (repairs.length > 0) {
      // Another replica may be at it too: what it has done already is refused here.
      await this.control.run(repairs);
      this.logger.warn(`Accounts at the broker differed from the registry: ${repairs.length} repairs made`);
    }
    if (missing.length > 0) {
      const names = missing.slice(0, NAMED_AT_MOST).join(', ');
      this.logger.warn(
        `${missing.length} devices have no account at the broker (${names}${missing.length > NAMED_AT_MOST ? ', ...' : ''}): ` +
          'POST /devices/{device_id}/credentials gives them one',
      );
    }
  }
}

/** Somebody else's account is not ours to take away. */
function keepForeign(error: unknown): null {
  if (error instanceof DomainError && error.code === 'broker_account_taken') return null;
  throw error;
}
