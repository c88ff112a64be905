import { DomainError, parseInstant, type DomainErrorKind, type FieldError } from '#kernel';
import type { DeviceType } from '#devices';
import { RESERVED_PARAMETERS } from './command.js';

/** What a command may be told. */
export interface ParameterSpec {
  readonly type: 'integer' | 'timestamp';
  readonly description: string;
  /** UCUM; of an integer. */
  readonly unit?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly required?: true;
}

/** What a device can be told to do. */
export interface CommandSpec {
  readonly description: string;
  readonly parameters: Readonly<Record<string, ParameterSpec>>;
}

const seconds = (description: string, minimum: number, maximum: number): ParameterSpec => ({
  type: 'integer',
  description,
  unit: 's',
  minimum,
  maximum,
});

const INTERVAL = seconds('Time between two measurements', 1, 86_400);

/** What every device understands. */
const COMMON = {
  start_monitoring: {
    description: 'Measure again and again',
    parameters: {
      interval: INTERVAL,
      duration: seconds('Time after which it stops by itself; until told otherwise unless given', 1, 604_800),
    },
  },
  stop_monitoring: { description: 'Measure only when told to', parameters: {} },
  measure_now: { description: 'Measure once', parameters: {} },
  set_interval: {
    description: 'Change the time between two measurements',
    parameters: { interval: { ...INTERVAL, required: true } },
  },
  sync_time: {
    description: 'Set the clock',
    parameters: {
      time: {
        type: 'timestamp',
        description: 'RFC 3339 with its offset; `issued_at` of the message unless given',
      },
    },
  },
  identify: {
    description: 'Blink or beep, to be found',
    parameters: { duration: seconds('For how long', 1, 300) },
  },
  restart: {
    description: 'Start anew',
    parameters: { delay: seconds('Time to wait before', 0, 3_600) },
  },
} as const satisfies Record<string, CommandSpec>;

/** Which commands each type of device understands, and their parameters: the one table behind checks and documentation. */
export const COMMAND_CATALOGUE: Readonly<Record<DeviceType, Readonly<Record<string, CommandSpec>>>> = {
  blood_pressure_monitor: COMMON,
  glucose_meter: COMMON,
  pulse_oximeter: COMMON,
  ecg_monitor: {
    ...COMMON,
    measure_now: {
      description: 'Record once',
      parameters: { duration: seconds('Length of the recording', 1, 600) },
    },
  },
  weight_scale: { ...COMMON, tare: { description: 'Take what is on it now for nothing', parameters: {} } },
  temperature_sensor: COMMON,
};

/** Which commands are taken for a device. */
export class CommandRules {
  /** @param allowCustom whether commands and parameters that the catalogue does not know are taken too. */
  constructor(private readonly allowCustom: boolean) {}

  /**
   * @throws DomainError invalid/validation_failed that names each field which is wrong; unprocessable/number_not_exact
   * that names each whole number which is not the one that was sent any more: JavaScript holds them exactly up to 2^53.
   */
  check(type: DeviceType, command: string, parameters: Readonly<Record<string, unknown>>): void {
    const errors = this.errors(type, command, parameters);
    if (errors.length > 0) throw refusal('invalid', 'validation_failed', errors);
    const inexact = inexactNumbers(parameters);
    if (inexact.length > 0) throw refusal('unprocessable', 'number_not_exact', inexact);
  }

  private errors(
    type: DeviceType,
    command: string,
    parameters: Readonly<Record<string, unknown>>,
  ): readonly FieldError[] {
    const commands = COMMAND_CATALOGUE[type];
    const reserved = RESERVED_PARAMETERS.filter((name) => Object.hasOwn(parameters, name)).map((name) => ({
      field: `parameters.${name}`,
      message: 'is a name the command itself uses',
    }));
    if (reserved.length > 0) return reserved;
    const spec = Object.hasOwn(commands, command) ? commands[command] : undefined;
    if (!spec) {
      const known = Object.keys(commands).join(', ');
      return this.allowCustom
        ? []
        : [{ field: 'command', message: `must be one of those of a ${type}: ${known}` }];
    }
    const names = new Set([...Object.keys(spec.parameters), ...Object.keys(parameters)]);
    return [...names].flatMap((name) => {
      const known = Object.hasOwn(spec.parameters, name) ? spec.parameters[name] : undefined;
      const given = Object.hasOwn(parameters, name);
      const message = known ? flaw(known, given, parameters[name]) : this.strange(command);
      return message === null ? [] : [{ field: `parameters.${name}`, message }];
    });
  }

  private strange(command: string): string | null {
    return this.allowCustom ? null : `is no parameter of ${command}`;
  }
}

function refusal(kind: DomainErrorKind, code: string, errors: readonly FieldError[]): DomainError {
  const fields = errors.map(({ field }) => field).join(', ');
  return new DomainError(kind, code, `Not acceptable: ${fields}.`, errors);
}

function inexactNumbers(value: unknown, field = 'parameters'): readonly FieldError[] {
  if (typeof value === 'object' && value !== null) {
    return Object.entries(value).flatMap(([name, child]) => inexactNumbers(child, `${field}.${name}`));
  }
  const message = 'is a whole number beyond 2^53, which would be rounded: send it as text';
  return Number.isInteger(value) && !Number.isSafeInteger(value) ? [{ field, message }] : [];
}

function flaw(spec: ParameterSpec, given: boolean, value: unknown): string | null {
  if (!given) return spec.required ? 'is needed' : null;
  if (spec.type === 'timestamp') {
    const good = typeof value === 'string' && parseInstant(value) !== null;
    return good ? null : 'must be an RFC 3339 time with its offset';
  }
  const { minimum = -Infinity, maximum = Infinity, unit = '1' } = spec;
  const good = typeof value === 'number' && Number.isInteger(value) && value >= minimum && value <= maximum;
  return good ? null : `must be a whole number from ${minimum} to ${maximum} (${unit})`;
}
