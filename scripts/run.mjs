// node scripts/run.mjs NAME [ARGS]: runs an entry point of the service on a clone that may be fresh.
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ensureBuilt, ensureInstalled, ROOT } from './ensure.mjs';

const [name] = process.argv.splice(2, 1);
ensureInstalled();
ensureBuilt();
await import(pathToFileURL(join(ROOT, 'dist', 'apps', 'mqtt-service', 'src', `${name}.js`)).href);
