import { randomUUID } from 'node:crypto';
import { connectAsync, type MqttClient } from 'mqtt';
import { clientOptions, type Config } from '#platform';

const WITHIN_MS = 5_000;

/**
 * Connects once, under a client id of its own, so that a running service keeps its session.
 * @throws Error that says where and why not.
 */
export async function connectOnce(config: Config): Promise<MqttClient> {
  const { host, port, embedded, clientId } = config.mqtt;
  const options = clientOptions(config, `${clientId}-${randomUUID().slice(0, 8)}`);
  try {
    const url = `mqtt://${host.includes(':') ? `[${host}]` : host}:${port}`;
    return await connectAsync(url, { ...options, connectTimeout: WITHIN_MS, reconnectPeriod: 0 }, false);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const hint = embedded ? ' The embedded broker runs while the service does: npm start.' : '';
    throw new Error(`No connection to ${host}:${port}: ${message || code || 'unknown error'}.${hint}`, {
      cause: error,
    });
  }
}
