import { isDeviceId } from './device.js';

/** The device topics of the configuration: each has exactly one `+` level, which stands for the device id. */
export interface DeviceTopicFilters {
  readonly data: string;
  readonly status: string;
  readonly responses: string;
  readonly commands: string;
}

export type TopicAction = 'publish' | 'subscribe';

/** The topics that are a device's own: it speaks on three of them and listens on one. */
export function ownTopics(
  filters: DeviceTopicFilters,
  deviceId: string,
): Readonly<Record<TopicAction, readonly string[]>> {
  const own = (filter: string): string => filter.replace('+', () => deviceId);
  return {
    publish: [own(filters.data), own(filters.status), own(filters.responses)],
    subscribe: [own(filters.commands)],
  };
}

/**
 * May this device publish on this topic (a will's too), or subscribe to this filter? Its own topics, to the letter:
 * nothing is matched, so no wildcard, `$share` group, `$SYS`, `$CONTROL` or other device's topic is ever among them.
 */
export function mayUseTopic(
  filters: DeviceTopicFilters,
  deviceId: string,
  action: TopicAction,
  topic: string,
): boolean {
  return isDeviceId(deviceId) && ownTopics(filters, deviceId)[action].includes(topic);
}
