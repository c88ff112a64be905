export { DevicePath } from './adapters/device.dto.js';
export { DeviceRow } from './adapters/device.row.js';
export { DeviceRegistry } from './application/device-registry.js';
export { DevicesModule } from './devices.module.js';
export {
  DEVICE_ID_PATTERN,
  isDeviceId,
  requireInService,
  shownSince,
  type DeviceIdentity,
  type DeviceType,
} from './domain/device.js';
export { requireActive, requireOwnDeviceId } from './domain/message-rules.js';
