import { connect as connectTcp, isIP, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectTls } from 'node:tls';
import type { IClientOptions, MqttClient } from 'mqtt';
import type { Logger } from '@nestjs/common';
import type { Config } from '../config/config.js';
import { errorCode } from '../database/database-errors.js';
import { readTlsFiles } from '../tls/tls-files.js';

const CONNECT_TIMEOUT_MS = 10_000;
const GOODBYE_MS = 1_000;
/** How long the broker keeps the consumer's session and its messages while the service is away (MQTT 5). */
export const SESSION_EXPIRY_SECONDS = 7 * 86_400;
/** Seconds; what goes on while a connection is held back pings at half of it. */
export const KEEP_ALIVE_SECONDS = 30;

/** Connection options that follow from the configuration, for the service and for its command-line tools. */
export function clientOptions(config: Config, clientId: string): IClientOptions {
  const { mqtt } = config;
  return {
    host: mqtt.host,
    port: mqtt.port,
    protocol: 'mqtt',
    protocolVersion: mqtt.protocolVersion,
    clientId,
    keepalive: KEEP_ALIVE_SECONDS,
    ...(mqtt.username !== undefined && { username: mqtt.username }),
    ...(mqtt.password !== undefined && { password: mqtt.password }),
    connectTimeout: CONNECT_TIMEOUT_MS,
  };
}

/**
 * Says what is wrong with a connection, once until {@link reset}: it is tried again every second.
 */
export class ConnectionComplaint {
  private last = '';

  constructor(
    private readonly logger: Logger,
    private readonly config: Config,
  ) {}

  report(error: Error): void {
    const { host, port } = this.config.mqtt;
    const problem = errorCode(error) ?? error.message;
    if (problem !== this.last)
      this.logger.warn(
        `Broker ${host}:${port} not usable (${problem}: ${error.message}); trying again every second`,
      );
    this.last = problem;
  }

  /** The connection stands. */
  reset(): void {
    this.last = '';
  }
}

/**
 * Says goodbye with a DISCONNECT, so that no will is due, where there is somebody to say it to; does not wait for long for
 * a broker that has fallen silent.
 */
export async function sayGoodbye(client: MqttClient): Promise<void> {
  await Promise.race([client.endAsync(!client.connected), sleep(GOODBYE_MS, undefined, { ref: false })]);
}

/**
 * A connection to the broker's port, for clients that bring their own stream. With MQTT_TLS nothing is sent before the
 * broker's certificate has been checked, its name included.
 */
export function openSocket({ mqtt }: Config): Socket {
  const { host, port, tls } = mqtt;
  if (!tls) return connectTcp({ host, port });
  try {
    return connectTls({
      host,
      port,
      // RFC 6066, section 3: an address is no server name.
      ...(isIP(host) === 0 && { servername: host }),
      rejectUnauthorized: true,
      ...readTlsFiles(tls),
    });
  } catch (error) {
    // A file that is just being replaced: reported and tried again like a broker that is away.
    return new Socket().destroy(error as Error);
  }
}
