import { setTimeout as sleep } from 'node:timers/promises';
import { Logger, type LoggerService } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import type { NestExpressApplication } from '@nestjs/platform-express';
import { CommandRow } from '#commands';
import { DeviceRow } from '#devices';
import { AuditTrail } from '#kernel';
import {
  assertEventClient,
  Database,
  EmbeddedBroker,
  EmbeddedPostgres,
  EventRelay,
  followCertificate,
  hardenHttp,
  hasJsonBody,
  headersTimeout,
  Inbox,
  jsonBodyGuard,
  keepBodyFlaw,
  MqttConsumer,
  MqttPublisher,
  MqttTransport,
  nameRequests,
  OriginWsAdapter,
  assertPortFree,
  portError,
  ProblemFilter,
  serveApiDocumentation,
  servedTls,
  Throttle,
  TokenVerifier,
  validationPipe,
  type Config,
} from '#platform';
import { AppModule } from './app.module.js';
import { DATABASE_NAME } from './database-name.js';
import { ServiceHealth } from './health/service-health.js';
import { VERSION } from './version.js';

const MAX_BODY_BYTES = 100 * 1024;
/** How much of SHUTDOWN_TIMEOUT there is to finish what has begun; the rest is for closing. */
const DRAIN_SHARE = 0.5;

/** A service that serves. */
export interface RunningService {
  /** Finishes what has begun, within SHUTDOWN_TIMEOUT, and leaves nothing running. */
  stop(): Promise<void>;
  /** Calls back when the embedded PostgreSQL has died: without it there is nothing left to serve. */
  onFatal(listener: (reason: string) => void): void;
}

/**
 * Starts everything, in this order: embedded servers where none are configured, the database connection,
 * HTTP and WebSocket, MQTT. It serves as soon as HTTP listens; database and broker join when they can.
 * @throws Error that names the variable to change, when a port is taken, a package that it needs is not installed, or an
 * embedded server can't start.
 */
export async function startService(config: Config, logger: LoggerService): Promise<RunningService> {
  Logger.overrideLogger(logger);
  await assertEventClient(config.events.address);
  // Before anything is started for nothing; what happens in between is caught below.
  await assertPortFree('PORT', config.port, config.host);
  if (config.mqtt.embedded) await assertPortFree('MQTT_BROKER_PORT', config.mqtt.port, config.mqtt.host);
  const postgres =
    config.databaseUrl === undefined ? await EmbeddedPostgres.start(config.dataDir, DATABASE_NAME) : null;
  let broker: EmbeddedBroker | null = null;
  let app: NestExpressApplication | null = null;
  let database: Database | null = null;
  try {
    broker = config.mqtt.embedded ? await EmbeddedBroker.start(config.mqtt) : null;
    database = new Database(
      postgres?.url ?? config.databaseUrl ?? '',
      [DeviceRow, CommandRow],
      config.databaseTimeout,
    );
    const connected = database.start();
    // The embedded one is there already; an external one may be away for long.
    if (postgres) await connected;
    // Node.js knows more options than Nest.
    const httpsOptions = config.tls && {
      ...servedTls(config.tls),
      handshakeTimeout: headersTimeout(config.http),
    };
    app = await NestFactory.create<NestExpressApplication>(AppModule.with({ config, database, broker }), {
      bodyParser: false,
      rawBody: true,
      forceCloseConnections: true,
      abortOnError: false,
      ...(httpsOptions && { httpsOptions }),
    });
    prepareHttp(app, config);
    if (config.tls) followCertificate(app.getHttpServer(), config.tls);
    await app.listen(config.port, config.host).catch((error: unknown) => {
      throw portError('PORT', config.port, error);
    });
    const subscribed = new Promise<void>((resolve) => app?.get(MqttConsumer).onSubscribed(resolve));
    app.get(MqttPublisher).open();
    app.get(EventRelay).open();
    app.connectMicroservice({ strategy: app.get(MqttTransport) });
    await app.startAllMicroservices();
    const served = subscribed.then(() => broker?.open());
    // With a database elsewhere it may take for ever, and whoever starts the service must be able to stop it.
    if (postgres && broker) await served;
  } catch (error) {
    await stopAll(config, { app, database, broker, postgres });
    throw error;
  }
  const parts = { app, database, broker, postgres };
  let stopped: Promise<void> | undefined;
  return {
    stop: () => (stopped ??= stopAll(config, parts)),
    onFatal: (listener) => postgres?.onUnexpectedExit(listener),
  };
}

function prepareHttp(app: NestExpressApplication, config: Config): void {
  app.disable('x-powered-by');
  app.use(nameRequests());
  const throttle = new Throttle(config, app.get(TokenVerifier), app.get(AuditTrail));
  hardenHttp(app, config, throttle);
  app.useBodyParser('json', { limit: MAX_BODY_BYTES, type: hasJsonBody });
  app.use(jsonBodyGuard());
  app.use(keepBodyFlaw());
  app.useGlobalPipes(validationPipe());
  app.useGlobalFilters(new ProblemFilter());
  app.useWebSocketAdapter(new OriginWsAdapter(app, config, throttle));
  serveApiDocumentation(app, VERSION);
}

interface Parts {
  readonly app: NestExpressApplication | null;
  readonly database: Database | null;
  readonly broker: EmbeddedBroker | null;
  readonly postgres: EmbeddedPostgres | null;
}

/** Intake first, then what was begun, then the doors, then the ground everything stands on. */
async function stopAll(config: Config, { app, database, broker, postgres }: Parts): Promise<void> {
  if (app) {
    const transport = app.get(MqttTransport);
    app.get(ServiceHealth).announceStop();
    transport.stopIntake();
    await Promise.race([
      transport.drain(),
      sleep(config.shutdownTimeout * DRAIN_SHARE, undefined, { ref: false }),
    ]);
    app.get(Inbox).stop();
    await app.close();
    await Promise.all([
      app.get(MqttConsumer).close(),
      app.get(MqttPublisher).close(),
      app.get(EventRelay).close(),
    ]);
  }
  await database?.stop();
  await broker?.stop();
  await postgres?.stop();
}
