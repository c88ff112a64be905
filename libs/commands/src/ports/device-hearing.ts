/** What the service hears of devices by way of the broker. */
export abstract class DeviceHearing {
  /**
   * A device whose last sign of life is stored as of then or later has been with the broker since the way to it has been
   * open. Null: nothing proves that of any.
   */
  abstract readonly since: Date | null;
}
