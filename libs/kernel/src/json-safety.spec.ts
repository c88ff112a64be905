import fc from 'fast-check';
import { findJsonFlaw, MAX_JSON_DEPTH } from './json-safety.js';

/** `1` inside this many arrays. */
const nested = (depth: number): unknown => JSON.parse(`${'['.repeat(depth)}1${']'.repeat(depth)}`);

describe('findJsonFlaw', () => {
  it.each([
    ['{"a": {"b": [1, "x", null, true]}}'],
    ['"\\ud83d\\ude00"'],
    ['{"Constructor": 1, "proto": 2}'],
    ['null'],
  ])('finds none in %s', (json) => {
    expect(findJsonFlaw(JSON.parse(json))).toBeNull();
  });

  it.each([
    ['{"__proto__": {"admin": true}}', '__proto__', 'is a forbidden key'],
    ['{"a": [{"constructor": 1}]}', 'a.0.constructor', 'is a forbidden key'],
    ['{"a": {"prototype": null}}', 'a.prototype', 'is a forbidden key'],
    ['{"a": {"b": "x\\u0000y"}}', 'a.b', 'holds the character U+0000'],
    ['{"a": {"x\\u0000": 1}}', 'a', 'has a key that holds the character U+0000'],
    ['["ok", "\\ud83d"]', '1', 'holds half of a surrogate pair'],
    ['{"\\ude00": 1}', '', 'has a key that holds half of a surrogate pair'],
    ['"\\u0000"', '', 'holds the character U+0000'],
  ])('finds the one in %s', (json, path, reason) => {
    expect(findJsonFlaw(JSON.parse(json))).toMatchObject({ path, reason, isNumber: false });
  });

  it.each([
    ['{"a": [1, 1e400]}', 'a.1'],
    ['-1e400', ''],
  ])('finds the number JavaScript can not hold in %s', (json, path) => {
    expect(findJsonFlaw(JSON.parse(json))).toEqual({
      path,
      reason: 'is a number out of range',
      isNumber: true,
    });
  });

  it('takes the deepest nesting allowed and not one level more', () => {
    expect(findJsonFlaw(nested(MAX_JSON_DEPTH))).toBeNull();
    expect(findJsonFlaw(nested(MAX_JSON_DEPTH + 1))?.reason).toBe('is nested deeper than 32 levels');
  });

  it('survives nesting that would exhaust the stack', () => {
    expect(findJsonFlaw(nested(100_000))?.reason).toBe('is nested deeper than 32 levels');
  });

  it('answers for every JSON value, and passes only what PostgreSQL can store', () => {
    const stringUnit = fc.constantFrom('a', '_', '"', '\\', '\0', '\ud83d', '\ude00');
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 40, stringUnit }), (value) => {
        const text = JSON.stringify(value).replaceAll('\\\\', '');
        const storable =
          !/\\u0000|\\ud[89a-f]/.test(text) && !/"(__proto__|constructor|prototype)":/.test(text);
        if (storable) expect(findJsonFlaw(value)?.reason ?? 'nested').toContain('nested');
        else expect(findJsonFlaw(value)).not.toBeNull();
      }),
    );
  });
});
