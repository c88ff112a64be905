import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { Transform } from 'node:stream';
import { freePort } from './free-port.js';

/** A way to a server that can be cut, slowed down or made to fall silent: faults of a network, without touching the server. */
export class TcpProxy {
  private server: Server | undefined;
  private readonly sockets = new Set<Socket>();
  private silent = false;
  /** How long what arrives is kept before it goes on, in milliseconds, each way. */
  delay = 0;

  private constructor(
    readonly port: number,
    private readonly target: { readonly host: string; readonly port: number },
  ) {}

  /** A proxy that does not listen yet. */
  static async to(url: string): Promise<TcpProxy> {
    const { hostname, port } = new URL(url);
    return new TcpProxy(await freePort(), { host: hostname, port: Number(port) });
  }

  /** The same address by way of the proxy. */
  through(url: string): string {
    const proxied = new URL(url);
    proxied.hostname = '127.0.0.1';
    proxied.port = String(this.port);
    return proxied.href;
  }

  async mend(): Promise<void> {
    this.server = createServer((downstream) => {
      const upstream = connect(this.target);
      for (const [socket, peer] of [
        [downstream, upstream],
        [upstream, downstream],
      ] as const) {
        this.sockets.add(socket);
        socket.on('error', () => undefined);
        socket.on('close', () => {
          this.sockets.delete(socket);
          // A connection that has fallen silent does not even tell of its end; on a slow one, what came before is under way.
          if (!this.silent) setTimeout(() => peer.destroy(), 2 * this.delay);
        });
        socket.pipe(this.slowly()).pipe(peer);
      }
      if (this.silent) this.mute();
    });
    this.server.listen(this.port, '127.0.0.1');
    await once(this.server, 'listening');
  }

  async cut(): Promise<void> {
    const { server } = this;
    if (!server) return;
    this.server = undefined;
    this.silent = false;
    server.close();
    for (const socket of this.sockets) socket.destroy();
    await once(server, 'close');
  }

  /** Leaves every connection open, and lets nothing through any more: half open, to both ends. */
  mute(): void {
    this.silent = true;
    for (const socket of this.sockets) socket.unpipe().pause();
  }

  /** New connections get through again; those that were muted stay as they are. */
  unmute(): void {
    this.silent = false;
  }

  /** Latency, not bandwidth: what arrives meanwhile is on its way as well. */
  private slowly(): Transform {
    let underWay = 0;
    let lag = 0;
    const stream: Transform = new Transform({
      transform: (chunk: Buffer, _encoding, done) => {
        // What follows does not overtake.
        if (underWay === 0) lag = this.delay;
        if (lag === 0) {
          done(null, chunk);
          return;
        }
        underWay += 1;
        setTimeout(() => {
          underWay -= 1;
          stream.push(chunk);
        }, lag);
        done();
      },
      flush: (done) => void setTimeout(done, lag),
    });
    return stream;
  }
}
