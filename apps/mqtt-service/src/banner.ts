import { relative } from 'node:path';
import type { Config } from '#platform';
import { signToken } from './development-token.js';
import { VERSION } from './version.js';

/** Where things are, and, outside production, a token to try them with. */
export async function startupBanner(config: Config): Promise<string> {
  const host = ['0.0.0.0', '::'].includes(config.host) ? 'localhost' : config.host;
  const web = `${host}:${config.port}`;
  const { mqtt } = config;
  const lines = [
    '',
    `MQTT Service ${VERSION} is ready`,
    `  API         ${config.tls ? 'https' : 'http'}://${web}  (documentation: /docs and /redoc, health: /health/detailed)`,
    `  WebSocket   ${config.tls ? 'wss' : 'ws'}://${web}/ws/mqtt`,
    `  MQTT        ${mqtt.tls ? 'mqtts' : 'mqtt'}://${mqtt.host}:${mqtt.port}${mqtt.embedded ? '  (embedded broker, loopback only)' : ''}`,
    config.databaseUrl === undefined
      ? `  PostgreSQL  embedded, data in ${relative('.', config.dataDir)}/postgres`
      : '  PostgreSQL  as DATABASE_URL says',
  ];
  if (!config.production && config.auth.publicKey === undefined && config.auth.jwksUri === undefined) {
    const token = await signToken(config, { role: 'admin', sub: 'developer' });
    lines.push('', 'A token to try it with (admin, 12 hours; more: npm run token -- --help):', token);
  }
  return `${lines.join('\n')}\n\n`;
}
