import fc from 'fast-check';
import { MessageRejected } from '#kernel';
import { readCommandResponse } from './command-response.js';

const commandId = '6f1b9f5e-3c0b-4a57-9d4e-2f8a1f0f7b11';
const rejected = expect.objectContaining<Partial<MessageRejected>>({
  name: 'MessageRejected',
  reason: 'invalid_payload',
});

describe('readCommandResponse', () => {
  it.each([
    [{ status: 'acknowledged' }, { status: 'acknowledged', result: null, error: null }],
    [
      { status: 'completed', result: { ok: true } },
      { status: 'completed', result: { ok: true }, error: null },
    ],
    [
      { status: 'completed', result: 0, error: null },
      { status: 'completed', result: 0, error: null },
    ],
    [
      { status: 'failed', error: 'no battery' },
      { status: 'failed', result: null, error: 'no battery' },
    ],
    [
      { status: 'failed', error: 'x'.repeat(1_000) },
      { status: 'failed', result: null, error: 'x'.repeat(1_000) },
    ],
    [
      { status: 'failed', error: 'x'.repeat(1_001) },
      { status: 'failed', result: null, error: 'x'.repeat(1_000) },
    ],
    [
      { status: 'failed', error: `${'x'.repeat(999)}\u{1F4A7}` },
      { status: 'failed', result: null, error: 'x'.repeat(999) },
    ],
    [
      { status: 'failed', error: { code: 7, text: 'low' } },
      { status: 'failed', result: null, error: '{"code":7,"text":"low"}' },
    ],
    [
      { status: 'failed', error: ['E7', null] },
      { status: 'failed', result: null, error: '["E7",null]' },
    ],
    [
      { status: 'failed', error: 0 },
      { status: 'failed', result: null, error: '0' },
    ],
    [
      { status: 'failed', error: ['x'.repeat(1_000)] },
      { status: 'failed', result: null, error: `["${'x'.repeat(998)}` },
    ],
  ])('reads %j', (payload, response) => {
    expect(readCommandResponse({ command_id: commandId.toUpperCase(), ...payload })).toEqual({
      commandId,
      ...response,
    });
  });

  it.each([
    [{}],
    [{ status: 'sent' }],
    [{ status: 'Completed' }],
    [{ status: ['completed'] }],
    [{ status: 'completed', command_id: undefined }],
    [{ status: 'completed', command_id: 'device_123' }],
    [{ status: 'completed', command_id: `${commandId}0` }],
    [{ status: 'completed', command_id: `${commandId}\n` }],
    [{ status: 'completed', command_id: 1 }],
  ])('rejects %j', (payload) => {
    expect(() => readCommandResponse({ command_id: commandId, ...payload })).toThrow(rejected);
  });

  it('reads or rejects any object', () => {
    const field = fc.oneof(fc.jsonValue(), fc.constantFrom(commandId, 'completed', 'failed'));
    const payloads = fc.record(
      { command_id: field, status: field, result: field, error: field },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(payloads, (payload) => {
        try {
          expect(readCommandResponse(payload)).toMatchObject({ commandId, status: payload.status });
        } catch (error) {
          if (!(error instanceof MessageRejected)) throw error;
        }
      }),
    );
  });
});
