import { errorCode, isDatabaseUnavailable, isDataRefused, isUniqueViolation } from './database-errors.js';

/** An error as pg, Node or a pool raises it. */
const failure = (code: string | undefined, message = ''): Error =>
  Object.assign(new Error(message), { code });

describe('database errors', () => {
  it.each([
    failure('08006'),
    failure('40001'),
    failure('40P01'),
    failure('53100'),
    failure('55P03'),
    failure('57P01'),
    failure('57P03'),
    failure('58030'),
    failure('25006'),
    failure('ECONNREFUSED'),
    failure('ECONNRESET'),
    failure('ENOTFOUND'),
    failure('EAI_AGAIN'),
    failure('ETIMEDOUT'),
    failure('EPIPE'),
    failure('ENOENT'),
    failure(undefined, 'Connection terminated unexpectedly'),
    failure(undefined, 'timeout exceeded when trying to connect'),
    new AggregateError([failure('ECONNREFUSED'), failure('ECONNREFUSED')]),
  ])('waits for the database: $code $message', (error) => {
    expect(isDatabaseUnavailable(error)).toBe(true);
    expect(isDataRefused(error)).toBe(false);
  });

  it.each([failure('22003'), failure('22P02'), failure('22021'), failure('23505'), failure('23514')])(
    'blames the data: $code',
    (error) => {
      expect(isDataRefused(error)).toBe(true);
      expect(isDatabaseUnavailable(error)).toBe(false);
    },
  );

  it.each([
    failure('42P01'),
    failure('42601'),
    failure('XX000'),
    failure('25P02'),
    failure('EACCES'),
    failure(undefined, 'Cannot read properties of undefined'),
    failure('42601', 'Connection terminated'),
    new AggregateError([]),
    'ECONNREFUSED',
    null,
    undefined,
    { code: 23505 },
  ])('is neither: %p', (error) => {
    expect(isDatabaseUnavailable(error)).toBe(false);
    expect(isDataRefused(error)).toBe(false);
  });

  it('knows a unique violation from another refused value', () => {
    expect(isUniqueViolation(failure('23505'))).toBe(true);
    expect(isUniqueViolation(failure('23503'))).toBe(false);
  });

  it('names the first code of several failures', () => {
    expect(errorCode(new AggregateError([failure('ECONNREFUSED'), failure('ENOENT')]))).toBe('ECONNREFUSED');
    expect(errorCode(new AggregateError([]))).toBeNull();
  });
});
