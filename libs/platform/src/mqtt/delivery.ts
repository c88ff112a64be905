/** Payload bytes worked on together, at most: by count alone, a batch of large messages would be hundreds of MiB. */
export const MAX_BATCH_BYTES = 2 * 1_024 * 1_024;

/** One message as the broker delivered it. */
export interface Delivery {
  readonly topic: string;
  /** The device id the topic names, as sent: not yet checked. */
  readonly deviceId: string;
  readonly payload: Buffer;
  /** 0 when it was not delivered at QoS 1: then there is no PUBACK to hold back. */
  readonly packetId: number;
  /** The broker says that it may have delivered this before ([MQTT-3.3.1-1]). */
  readonly duplicate: boolean;
  /** A message the broker had kept, sent because of the subscription rather than just published. */
  readonly retained: boolean;
  /**
   * Another replica may have been given it by now, as a repeat: it has the session that this connection has lost, or is about
   * to. No longer so where it was only the lease that was in doubt, and it is found to be held still.
   */
  readonly mayBeElsewhere: boolean;
  /** MQTT 5: {@link correlationDataOf} reads them; null: there are none. */
  readonly properties?: Buffer | null;
  /**
   * Of messages dealt out to a group (MQTT_SHARED_GROUP): this one may have waited since before this connection, while others
   * went on. Of a session that is not shared, order tells.
   */
  readonly mayHaveWaited: boolean;
  /** Acknowledges it. Call once what it says is committed, and never before. Calling it again does nothing. */
  ack(): void;
}

/** The ways in. Handlers name them in `@EventPattern`; the transport maps them to the configured topics. */
export const INBOUND = {
  data: 'mqtt-service.data',
  status: 'mqtt-service.status',
  responses: 'mqtt-service.responses',
} as const;
export type InboundChannel = keyof typeof INBOUND;
