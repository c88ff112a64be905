/** A device's account at the broker. The password is shown once and not kept. */
export interface DeviceCredentials {
  readonly username: string;
  readonly password: string;
  readonly clientId: string;
}

/** Keeps the accounts devices connect to the broker with. */
export abstract class BrokerAccess {
  /** Makes an account for a device, replacing an earlier one; null when the broker is managed elsewhere. */
  abstract issue(deviceId: string): Promise<DeviceCredentials | null>;
}
