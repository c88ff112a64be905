/** A device's account at the broker. The password is shown once and not kept. */
export interface DeviceCredentials {
  readonly username: string;
  readonly password: string;
  readonly clientId: string;
}

/**
 * Keeps the accounts devices connect to the broker with. An account is bound to its device's own topics and client id.
 *
 * Credentials leave this port only once the broker goes by them, so nobody is ever given some that never work. A broker
 * that is away fails the call: a registration is taken back, and after a rotation the old credentials are still good.
 */
export abstract class BrokerAccess {
  /**
   * Makes an account for a device, or replaces the one it has: whoever is connected with that is cut off and can't come
   * back. Null when the broker is managed elsewhere.
   * @throws DomainError unavailable/broker_unavailable, conflict/broker_account_taken
   */
  abstract issue(deviceId: string): Promise<DeviceCredentials | null>;

  /**
   * Takes a device's account away and cuts off whoever is connected with it; a device without one is no error.
   * @throws DomainError unavailable/broker_unavailable. What could not be done then is done once the broker is back.
   */
  abstract revoke(deviceId: string): Promise<void>;
}
