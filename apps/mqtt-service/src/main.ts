import 'reflect-metadata';
import { setFlagsFromString } from 'node:v8';
import { ConfigError, loadConfig, makeDataDir, PinoLogger, type Config } from '#platform';
import { startupBanner } from './banner.js';
import { startService, type RunningService } from './service.js';

// The garbage of a fast stream is collected when the heap has doubled, not when it has grown fourfold. It limits nothing.
setFlagsFromString('--heap-growing-percent=100');

async function main(): Promise<void> {
  const config = loadConfig();
  if (!config.production) makeDataDir(config);
  const logger = new PinoLogger(config);
  // A signal may come while it still starts: then it stops as soon as it has started.
  let service: RunningService | undefined;
  let signalled = false as boolean;
  const stop = (signal: string): void => {
    if (!signalled) logger.log(`Stopping (${signal})`, 'Service');
    signalled = true;
    if (service) void end(service, config, logger, 0);
  };
  process.on('SIGINT', stop);
  process.on('SIGTERM', stop);

  const running = await startService(config, logger);
  service = running;
  running.onFatal((reason) => {
    logger.fatal(`The embedded PostgreSQL has ended: ${reason}`, 'Service');
    void end(running, config, logger, 1);
  });
  if (signalled) await end(running, config, logger, 0);
  else process.stdout.write(await startupBanner(config));
}

async function end(
  service: RunningService,
  config: Config,
  logger: PinoLogger,
  exitCode: number,
): Promise<void> {
  const overdue = setTimeout(() => process.exit(1), config.shutdownTimeout);
  await service.stop();
  clearTimeout(overdue);
  logger.log('Stopped', 'Service');
  process.exit(exitCode);
}

main().catch((error: unknown) => {
  const readable = error instanceof ConfigError || error instanceof Error;
  process.stderr.write(`${readable ? error.message : String(error)}\n`);
  process.exit(1);
});
