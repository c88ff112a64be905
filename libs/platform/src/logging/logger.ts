import type { LoggerService } from '@nestjs/common';
import { pino, type DestinationStream, type Logger } from 'pino';
import pretty from 'pino-pretty';
import type { Config } from '../config/config.js';

/**
 * Nest's logger on pino: one JSON object a line, or one readable line where a person watches.
 * Never hand it a payload, a reading, a token or a password.
 */
export class PinoLogger implements LoggerService {
  private readonly logger: Logger;

  constructor(config: Pick<Config, 'logLevel' | 'production'>, destination?: DestinationStream) {
    const options = { level: config.logLevel.toLowerCase(), base: null };
    const readable = !config.production && process.stdout.isTTY;
    this.logger = pino(
      options,
      destination ??
        (readable
          ? pretty({ ignore: 'pid,hostname', translateTime: 'HH:MM:ss', sync: true })
          : process.stdout),
    );
  }

  log(message: unknown, ...rest: unknown[]): void {
    const { context } = split(rest);
    // Nest's own start-up narration is of use to those who look for it, not at every start.
    const level = NEST_NARRATION.has(context ?? '') ? 'debug' : 'info';
    this.logger[level]({ context }, String(message));
  }

  error(message: unknown, ...rest: unknown[]): void {
    this.write('error', message, rest);
  }

  fatal(message: unknown, ...rest: unknown[]): void {
    this.write('fatal', message, rest);
  }

  warn(message: unknown, ...rest: unknown[]): void {
    this.write('warn', message, rest);
  }

  debug(message: unknown, ...rest: unknown[]): void {
    this.write('debug', message, rest);
  }

  verbose(message: unknown, ...rest: unknown[]): void {
    this.write('trace', message, rest);
  }

  private write(
    level: 'error' | 'fatal' | 'warn' | 'debug' | 'trace',
    message: unknown,
    rest: unknown[],
  ): void {
    const { context, stack } = split(rest);
    if (message instanceof Error) {
      this.logger[level]({ context, stack: message.stack }, message.message);
    } else {
      this.logger[level]({ context, stack }, String(message));
    }
  }
}

const NEST_NARRATION: ReadonlySet<string> = new Set([
  'NestFactory',
  'InstanceLoader',
  'RoutesResolver',
  'RouterExplorer',
  'NestApplication',
  'NestMicroservice',
  'WebSocketsController',
]);

/** Nest passes the context as the last argument and, for errors, a stack before it. */
function split(rest: readonly unknown[]): { context: string | undefined; stack: string | undefined } {
  const texts = rest.filter((item): item is string => typeof item === 'string');
  return { context: texts.at(-1), stack: texts.length > 1 ? texts[0] : undefined };
}
