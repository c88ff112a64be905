// Preloaded into the service (`node --import`): once it listens, it writes down, on one line, every address that its
// router and its WebSocket server know, also those that its API description leaves out.
import { Server } from 'node:http';
import { WsAdapter } from '@nestjs/platform-ws';

const sockets = [];
const { addWsServerToRegistry } = WsAdapter.prototype;
WsAdapter.prototype.addWsServerToRegistry = function remember(server, port, path) {
  sockets.push(path);
  return addWsServerToRegistry.call(this, server, port, path);
};

const { emit } = Server.prototype;
Server.prototype.emit = function tell(event, ...rest) {
  const told = emit.call(this, event, ...rest);
  const [application] = this.listeners('request');
  if (event === 'listening' && application?.router) {
    const table = { routes: routesOf(application.router.stack), sockets };
    process.stdout.write(`\nROUTES ${JSON.stringify(table)}\n`);
  }
  return told;
};

/** Of what is mounted below a path and is no router, nothing is known but the path. */
function routesOf(stack, prefix = '') {
  return stack.flatMap((layer) => {
    if (layer.route) {
      const paths = [layer.route.path].flat(Infinity);
      const methods = Object.keys(layer.route.methods).map((method) => method.toUpperCase());
      return paths.flatMap((path) => methods.map((method) => `${method} ${prefix}${path}`));
    }
    const path = `${prefix}${layer.rawPath === '/' ? '' : layer.rawPath}`;
    if (layer.handle.stack) return routesOf(layer.handle.stack, path);
    return path === prefix ? [] : [`USE ${path}`];
  });
}
