import { randomUUID } from 'node:crypto';
import { MqttClient, type IClientOptions } from 'mqtt';
import { clientOptions, openSocket, type Config } from '#platform';

const WITHIN_MS = 5_000;

/**
 * Connects once, under a client id of its own, so that a running service keeps its session.
 * @throws Error that says where and why not.
 */
export async function connectOnce(config: Config): Promise<MqttClient> {
  const { host, port, embedded, clientId } = config.mqtt;
  const options = clientOptions(config, `${clientId}-${randomUUID().slice(0, 8)}`);
  try {
    return await connect(config, { ...options, connectTimeout: WITHIN_MS, reconnectPeriod: 0 });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    const hint = embedded ? ' The embedded broker runs while the service does: npm start.' : '';
    throw new Error(`No connection to ${host}:${port}: ${message || code || 'unknown error'}.${hint}`, {
      cause: error,
    });
  }
}

async function connect(config: Config, options: IClientOptions): Promise<MqttClient> {
  const client = new MqttClient(() => openSocket(config), options);
  return new Promise((resolve, reject) => {
    client.once('connect', () => {
      client.off('close', onClose);
      resolve(client);
    });
    // Stays, so that what goes wrong later ends no process unheard; a settled promise ignores it.
    client.on('error', (error) => {
      client.end(true);
      reject(error);
    });
    const onClose = (): void => {
      client.end(true);
      reject(new Error('the connection was closed'));
    };
    client.once('close', onClose);
  });
}
