import { join } from 'node:path';
import type { Service } from './service.js';
import { until } from './until.js';

/** Everything a running service listens to. */
export interface RouteTable {
  /** `METHOD /path`, and `USE /path` for what is mounted there and is no route. */
  readonly routes: readonly string[];
  /** Addresses of WebSockets. */
  readonly sockets: readonly string[];
}

/** Makes a service tell of its routes: environment for {@link Service.prepare}. */
export const TELL_ROUTES = {
  NODE_OPTIONS: `--import ${join(process.cwd(), 'test', 'support', 'tell-routes.mjs')}`,
} as const;

/** What a service started with {@link TELL_ROUTES} has told. */
export async function routeTable(service: Service): Promise<RouteTable> {
  const told = await until('the routes', () => /^ROUTES (.*)$/m.exec(service.log)?.[1]);
  return JSON.parse(told) as RouteTable;
}
