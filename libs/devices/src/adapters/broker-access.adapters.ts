import { Injectable } from '@nestjs/common';
import { Config, Database, EmbeddedBroker } from '#platform';
import { RefusedLogins } from '../application/refused-logins.js';
import { mayUseTopic } from '../domain/topic-rules.js';
import { BrokerAccess, type DeviceCredentials } from '../ports/broker-access.js';
import { DeviceAccounts } from './device-accounts.js';

/** Accounts at the embedded broker. */
@Injectable()
export class EmbeddedBrokerAccess extends BrokerAccess {
  private readonly accounts: DeviceAccounts;

  constructor(
    database: Database,
    private readonly broker: EmbeddedBroker,
    { mqtt }: Config,
    refused: RefusedLogins,
  ) {
    super();
    this.accounts = new DeviceAccounts(database);
    broker.useGuard({
      authenticate: (clientId, username, password) => this.accounts.check(clientId, username, password),
      mayPublish: (username, topic) => mayUseTopic(mqtt.topics, username, 'publish', topic),
      maySubscribe: (username, filter) => mayUseTopic(mqtt.topics, username, 'subscribe', filter),
      refused: (clientId, username, source) => refused.note(clientId, username, source),
    });
  }

  async issue(deviceId: string): Promise<DeviceCredentials> {
    const credentials = await this.accounts.issue(deviceId);
    this.broker.disconnect(deviceId);
    return credentials;
  }

  async revoke(deviceId: string): Promise<void> {
    await this.accounts.revoke(deviceId);
    this.broker.disconnect(deviceId);
  }
}

/**
 * Accounts for a broker that asks ({@link BrokerQuestionsController}). It hears of no change by itself: an account that is
 * gone is refused at its next question, and a session lasts as long as the broker lets it without asking.
 */
@Injectable()
export class HttpBrokerAccess extends BrokerAccess {
  private readonly accounts: DeviceAccounts;

  constructor(database: Database) {
    super();
    this.accounts = new DeviceAccounts(database);
  }

  async issue(deviceId: string): Promise<DeviceCredentials> {
    return this.accounts.issue(deviceId);
  }

  async revoke(deviceId: string): Promise<void> {
    await this.accounts.revoke(deviceId);
  }
}

/** The broker is managed elsewhere: registration returns no credentials. */
@Injectable()
export class NoBrokerAccess extends BrokerAccess {
  issue(): Promise<null> {
    return Promise.resolve(null);
  }

  revoke(): Promise<void> {
    return Promise.resolve();
  }
}
