import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';

/** An error that names the variable to change when a port can't be listened on. */
export function portError(variable: string, port: number, cause: unknown): Error {
  const { code } = cause as NodeJS.ErrnoException;
  const reason =
    code === 'EADDRINUSE' ? 'is already in use' : `can't be listened on (${code ?? 'unknown error'})`;
  return new Error(`Port ${port} ${reason}. Set ${variable} to another one.`);
}

/** @throws Error that names the variable when the port can't be listened on. */
export async function assertPortFree(variable: string, port: number, host: string): Promise<void> {
  try {
    await probe(port, host);
  } catch (error) {
    throw portError(variable, port, error);
  }
}

/** A port on loopback that nobody listens on at the moment. */
export async function freePort(): Promise<number> {
  return probe(0, '127.0.0.1');
}

/** Listens for a moment. @returns the port. */
async function probe(port: number, host: string): Promise<number> {
  const server = createServer().listen(port, host);
  await once(server, 'listening');
  const address = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return address.port;
}
