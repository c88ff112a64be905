import type { DomainError } from '#kernel';
import { readReceiverUrl } from './receiver-url.js';

const refused = expect.objectContaining<Partial<DomainError>>({ code: 'validation_failed' });

describe('where events are sent', () => {
  it.each([
    ['https://ward.example', 'https://ward.example/'],
    ['https://ward.example:8443/events?ward=3', 'https://ward.example:8443/events?ward=3'],
    ['https://ward.example:443/', 'https://ward.example/'],
    ['https://0x7f.1/', 'https://127.0.0.1/'],
    ['https://WARD.example/', 'https://ward.example/'],
  ])('%s is %s', (text, expected) => {
    expect(readReceiverUrl(text, false)).toBe(expected);
  });

  it.each([
    ['nothing', ''],
    ['no address', 'ward.example'],
    ['another scheme', 'ftp://ward.example/'],
    ['a script', 'javascript:alert(1)'],
    ['plaintext', 'http://ward.example/'],
    ['a user', 'https://user@ward.example/'],
    ['a password', 'https://:password@ward.example/'],
    ['a fragment', 'https://ward.example/#events'],
    ['the port of a shell', 'https://ward.example:22/'],
    ['the port of mail', 'https://ward.example:25/'],
    ['the last port that is not free', 'https://ward.example:1023/'],
    ['too much', `https://ward.example/${'x'.repeat(2_048)}`],
  ])('is not %s', (_what, text) => {
    expect(() => readReceiverUrl(text, false)).toThrow(refused);
  });

  it('is in plaintext where that is allowed', () => {
    expect(readReceiverUrl('http://ward.example/', true)).toBe('http://ward.example/');
    expect(() => readReceiverUrl('ftp://ward.example/', true)).toThrow(refused);
  });
});
