import fc from 'fast-check';
import type { FieldError } from '#kernel';
import { COMMAND_CATALOGUE, CommandRules } from './command-catalogue.js';

const strict = new CommandRules(false);
const open = new CommandRules(true);
type Type = keyof typeof COMMAND_CATALOGUE;
const TYPES = Object.keys(COMMAND_CATALOGUE) as Type[];

/** The fields that are refused. */
function refused(
  rules: CommandRules,
  type: Type,
  command: string,
  parameters: object = {},
  as: object = { kind: 'invalid', code: 'validation_failed' },
): string[] {
  try {
    rules.check(type, command, { ...parameters });
    return [];
  } catch (error) {
    expect(error).toMatchObject(as);
    return (error as { errors: FieldError[] }).errors.map(({ field }) => field);
  }
}

describe.each(TYPES)('the commands of a %s', (type) => {
  it.each([
    ['start_monitoring', { interval: 30 }],
    ['start_monitoring', { interval: 30, duration: 3_600 }],
    ['start_monitoring', {}],
    ['stop_monitoring', {}],
    ['measure_now', {}],
    ['set_interval', { interval: 1 }],
    ['sync_time', {}],
    ['sync_time', { time: '2024-01-23T10:30:00+01:00' }],
    ['identify', { duration: 300 }],
    ['restart', { delay: 0 }],
  ])('take %s %j', (command, parameters) => {
    expect(refused(strict, type, command, parameters)).toEqual([]);
  });

  it.each([
    ['start_monitoring', { interval: 0 }, 'parameters.interval'],
    ['start_monitoring', { interval: 86_401 }, 'parameters.interval'],
    ['start_monitoring', { interval: '30' }, 'parameters.interval'],
    ['start_monitoring', { interval: 1.5 }, 'parameters.interval'],
    ['start_monitoring', { interval: null }, 'parameters.interval'],
    ['start_monitoring', { pace: 30 }, 'parameters.pace'],
    ['stop_monitoring', { interval: 30 }, 'parameters.interval'],
    ['set_interval', {}, 'parameters.interval'],
    ['sync_time', { time: 1_706_005_800 }, 'parameters.time'],
    ['sync_time', { time: '2024-01-23T10:30:00' }, 'parameters.time'],
    ['sync_time', { time: '2024-02-30T10:30:00Z' }, 'parameters.time'],
    ['identify', { duration: 301 }, 'parameters.duration'],
    ['restart', { delay: -1 }, 'parameters.delay'],
    ['restart', { command_id: 'x' }, 'parameters.command_id'],
    ['self_destruct', {}, 'command'],
    ['constructor', {}, 'command'],
    ['__proto__', {}, 'command'],
  ])('refuse %s %j, and name %s', (command, parameters, field) => {
    expect(refused(strict, type, command, parameters)).toEqual([field]);
  });

  it('take what the catalogue does not know where that is allowed, and nothing out of range', () => {
    expect(refused(open, type, 'self_destruct', { in: '10s' })).toEqual([]);
    expect(refused(open, type, 'start_monitoring', { interval: 30, pace: 'fast' })).toEqual([]);
    expect(refused(open, type, 'start_monitoring', { interval: 0 })).toEqual(['parameters.interval']);
    expect(refused(open, type, 'self_destruct', { command_id: 'x' })).toEqual(['parameters.command_id']);
  });
});

it('some types take what others do not', () => {
  expect(refused(strict, 'weight_scale', 'tare')).toEqual([]);
  expect(refused(strict, 'ecg_monitor', 'tare')).toEqual(['command']);
  expect(refused(strict, 'ecg_monitor', 'measure_now', { duration: 30 })).toEqual([]);
  expect(refused(strict, 'glucose_meter', 'measure_now', { duration: 30 })).toEqual(['parameters.duration']);
});

it('takes every whole number of a range and no other number', () => {
  fc.assert(
    fc.property(fc.oneof(fc.integer({ min: -10, max: 90_000 }), fc.double()), (interval) => {
      const good = Number.isInteger(interval) && interval >= 1 && interval <= 86_400;
      expect(refused(strict, 'pulse_oximeter', 'set_interval', { interval }).length === 0).toBe(good);
    }),
  );
});

it.each([
  ['{"n":9007199254740993}', ['parameters.n']],
  ['{"a":[1,{"b":-9007199254740992}],"c":9007199254740992}', ['parameters.a.1.b', 'parameters.c']],
  ['{"n":9007199254740991,"m":-9007199254740991,"f":0.1,"t":"9007199254740993","d":1.5e-300}', []],
])('refuses whole numbers that are not exact any more: %s', (json, fields) => {
  const parameters = JSON.parse(json) as Record<string, unknown>;
  const as = { kind: 'unprocessable', code: 'number_not_exact' };
  expect(refused(open, 'pulse_oximeter', 'vendor.calibrate', parameters, as)).toEqual(fields);
});
