import { readFileSync } from 'node:fs';
import type { INestApplication } from '@nestjs/common';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { DocumentBuilder, SwaggerModule } from '@nestjs/swagger';
import type { Request, Response } from 'express';

/** Copied there by the build (scripts/ensure.mjs), so that the running service needs no documentation packages. */
const REDOC_BUNDLE = new URL('../../../../assets/redoc.standalone.js', import.meta.url);

/** The one thing ReDoc would fetch from elsewhere; it does without where the image can't be shown. */
const REDOC_LOGO = 'https://cdn.redoc.ly/redoc/logo-mini.svg';

/**
 * Serves the OpenAPI document at /openapi.json, Swagger UI at /docs and ReDoc at /redoc.
 * All assets come from installed packages: a hospital network may have no way out.
 */
export function serveApiDocumentation(app: INestApplication & NestExpressApplication, version: string): void {
  const document = SwaggerModule.createDocument(
    app,
    new DocumentBuilder()
      .setTitle('MQTT Service')
      .setDescription(
        'Measurements of medical devices: registry, history, commands. Live data streams over WebSocket at /ws/mqtt. ' +
          'Errors are RFC 9457 problems with a stable `code`.',
      )
      .setVersion(version)
      .setLicense('Apache-2.0', 'https://www.apache.org/licenses/LICENSE-2.0')
      .addBearerAuth()
      .build(),
    { operationIdFactory: (_controller, method) => method },
  );
  SwaggerModule.setup('docs', app, document, {
    jsonDocumentUrl: 'openapi.json',
    raw: ['json'],
    customSiteTitle: 'MQTT Service API',
    swaggerOptions: { persistAuthorization: true },
  });

  const bundle = readFileSync(REDOC_BUNDLE, 'utf8').replaceAll(REDOC_LOGO, 'data:,');
  app.getHttpAdapter().get('/redoc/redoc.standalone.js', (_request: Request, response: Response) => {
    response.type('text/javascript').set('Cache-Control', 'public, max-age=86400').send(bundle);
  });
  app.getHttpAdapter().get('/redoc', (_request: Request, response: Response) => {
    response.type('html').send(REDOC_PAGE);
  });
}

const REDOC_PAGE = `<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <title>MQTT Service API</title>
    <style>body { margin: 0; }</style>
  </head>
  <body>
    <redoc spec-url="/openapi.json" disable-search="false"></redoc>
    <script src="/redoc/redoc.standalone.js"></script>
  </body>
</html>
`;
