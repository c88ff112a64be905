import { requestIdOf } from './request-id.js';

describe('the name of a request', () => {
  it('is the one it came with, if that is sane', () => {
    expect(requestIdOf('ward-7.request_00042')).toBe('ward-7.request_00042');
  });

  it.each([
    undefined,
    '',
    'short',
    'x'.repeat(65),
    'with space in it',
    'line\nbreak-in-it',
    '<script>alert(1)</script>',
    ['abcdefgh1', 'abcdefgh2'],
  ])('is a new one for %j', (given) => {
    expect(requestIdOf(given)).toMatch(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
  });
});
