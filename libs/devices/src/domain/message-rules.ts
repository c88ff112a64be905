import { MessageRejected } from '#kernel';
import type { DeviceIdentity } from './device.js';

/** The device a message comes from. @throws MessageRejected unknown_device or decommissioned_device */
export function requireActive(device: DeviceIdentity | undefined): DeviceIdentity {
  if (!device) throw new MessageRejected('unknown_device', 'No device of this id is registered.');
  if (device.decommissionedAt) {
    throw new MessageRejected('decommissioned_device', 'The device is decommissioned.');
  }
  return device;
}

/** The device id is the topic's; a payload may repeat it. @throws MessageRejected device_id_mismatch */
export function requireOwnDeviceId(payload: Readonly<Record<string, unknown>>, deviceId: string): void {
  if (payload['device_id'] !== undefined && payload['device_id'] !== deviceId) {
    throw new MessageRejected('device_id_mismatch', 'device_id is not the device id of the topic.');
  }
}
