// Preloaded into the service (`node --import`): as if the packages named in WITHOUT_PACKAGES were not installed.
import { register } from 'node:module';

const hook = `
  export async function resolve(name, context, next) {
    if (!process.env.WITHOUT_PACKAGES.split(' ').includes(name)) return next(name, context);
    throw Object.assign(new Error('Cannot find package ' + name), { code: 'ERR_MODULE_NOT_FOUND' });
  }`;
register(`data:text/javascript,${encodeURIComponent(hook)}`);
