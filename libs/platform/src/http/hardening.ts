import type { NestExpressApplication } from '@nestjs/platform-express';
import type { NextFunction, Request, Response } from 'express';
import helmet from 'helmet';
import type { Config } from '../config/config.js';
import { endSlowClients } from './slow-clients.js';
import { trustedProxies } from './source-address.js';
import type { Throttle } from './throttle.js';

const PREFLIGHT_SECONDS = 600;
const YEAR_SECONDS = 31_536_000;

/** What /docs and /redoc need, and nothing from elsewhere. */
const CONTENT_SECURITY_POLICY = {
  defaultSrc: ["'self'"],
  baseUri: ["'none'"],
  formAction: ["'self'"],
  frameAncestors: ["'none'"],
  objectSrc: ["'none'"],
  scriptSrc: ["'self'"],
  scriptSrcAttr: ["'none'"],
  // Both documentation pages make their styles as they go.
  styleSrc: ["'self'", "'unsafe-inline'"],
  imgSrc: ["'self'", 'data:'],
  // ReDoc searches in a worker it makes of a blob.
  workerSrc: ["'self'", 'blob:'],
} as const;

/** What stands before every route: security headers, CORS, throttling, and an eye on slow clients. First of all middleware. */
export function hardenHttp(app: NestExpressApplication, config: Config, throttle: Throttle): void {
  const { corsOrigins } = config.http;
  app.set('trust proxy', trustedProxies(config.http));
  endSlowClients(app.getHttpServer(), config);
  app.use(
    helmet({
      // Without helmet's defaults: upgrade-insecure-requests would break the pages where they are served in plaintext.
      contentSecurityPolicy: { useDefaults: false, directives: CONTENT_SECURITY_POLICY },
      // For this host only: its neighbours may have no TLS.
      strictTransportSecurity: config.tls ? { maxAge: YEAR_SECONDS, includeSubDomains: false } : false,
      xFrameOptions: { action: 'deny' },
    }),
    keepOutOfCaches,
  );
  if (corsOrigins.length > 0) {
    app.enableCors({
      origin: [...corsOrigins],
      methods: ['GET', 'POST', 'PATCH', 'DELETE'],
      allowedHeaders: ['Authorization', 'Content-Type', 'Accept', 'Idempotency-Key'],
      exposedHeaders: ['Retry-After', 'RateLimit', 'RateLimit-Policy'],
      maxAge: PREFLIGHT_SECONDS,
    });
  }
  for (const handler of throttle.handlers()) app.use(handler);
}

/** What somebody needed a token for is not for the disk of the browser, nor for whoever uses it next. */
function keepOutOfCaches(request: Request, response: Response, next: NextFunction): void {
  if (request.headers.authorization !== undefined) response.setHeader('Cache-Control', 'no-store');
  next();
}
