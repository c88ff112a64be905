import type { MqttClient } from 'mqtt';
import type { Service } from './service.js';
import { until } from './until.js';

/** An entry of a device's history. */
export interface Change {
  readonly id: number;
  readonly status: string;
  readonly cause: string;
  readonly timestamp: string;
  readonly session: string | null;
}

/** An event as other systems are told of it. */
export interface ToldEvent {
  readonly id: string;
  readonly type: string;
  readonly subject: string;
  readonly data: Record<string, unknown>;
}

/** A device as the API shows it. */
export const viewOf = async (service: Service, id: string): Promise<Record<string, unknown>> =>
  (await service.read(`/devices/${id}`)).body;

export const untilStatus = (service: Service, id: string, status: string): Promise<unknown> =>
  until(`${id} to be ${status}`, async () => (await viewOf(service, id))['status'] === status);

/** Newest first. */
export const historyOf = async (service: Service, id: string): Promise<Change[]> =>
  (await service.read(`/devices/${id}/status-history`)).body.data;

/** Oldest first. */
export const causesOf = async (service: Service, id: string): Promise<string[]> =>
  (await historyOf(service, id)).reverse().map(({ status, cause }) => `${status} by ${cause}`);

/** Hears what other systems are told, over the broker. */
export async function listen(client: MqttClient): Promise<ToldEvent[]> {
  const events: ToldEvent[] = [];
  client.on('message', (_topic, payload) => events.push(JSON.parse(payload.toString()) as ToldEvent));
  await client.subscribeAsync(
    ['device.connected', 'device.disconnected', 'device.battery.low'].map((type) => `events/${type}/+`),
    { qos: 1 },
  );
  return events;
}

/** The id of the event that tells of a change. */
export const idOf = (change: { readonly id: number | string }, device: string): string =>
  `${device}.status.${change.id}`;
