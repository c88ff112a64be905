import type { Database, EventRelay, MqttConsumer, MqttPublisher, MqttTransport } from '#platform';
import type { Ingest, LiveFeed } from '#telemetry';
import type { WebhookDirectory, WebhookDispatcher } from '#webhooks';
import { Vitals } from './vitals.js';

describe('Vitals', () => {
  it.each([
    [0, false],
    [30_000, false],
    [30_001, true],
  ])('of an ingest whose oldest message has waited for %i ms: held up is %s', (lag, heldUp) => {
    const vitals = new Vitals(
      {} as Database,
      {} as MqttConsumer,
      {} as MqttPublisher,
      { lag, unacknowledged: 1 } as MqttTransport,
      { totals: { stored: 1, rejected: 2, readings: 3 } } as Ingest,
      {} as LiveFeed,
      {} as WebhookDirectory,
      {} as WebhookDispatcher,
      {} as EventRelay,
    );
    expect(vitals.ingest).toEqual({ stored: 1, rejected: 2, readings: 3, lagMs: lag, inFlight: 1, heldUp });
  });
});
