import fc from 'fast-check';
import { DomainError, REJECTION_REASONS } from '#kernel';
import { validationPipe } from '#platform';
import { isDeviceId } from '#devices';
import { ListRejectedMessages, RejectedMessagePath } from './rejected-message.dto.js';

const pipe = validationPipe();
const readQuery = (query: unknown): Promise<ListRejectedMessages> =>
  pipe.transform(query, { type: 'query', metatype: ListRejectedMessages }) as Promise<ListRejectedMessages>;
const readPath = (path: unknown): Promise<RejectedMessagePath> =>
  pipe.transform(path, { type: 'param', metatype: RejectedMessagePath }) as Promise<RejectedMessagePath>;

function expectRefusal(error: unknown): void {
  expect(error).toBeInstanceOf(DomainError);
  expect(error).toMatchObject({ kind: 'invalid', code: 'validation_failed' });
}

describe('ListRejectedMessages', () => {
  it('asks for a hundred unless told', async () => {
    expect(await readQuery({})).toEqual({ limit: 100 });
  });

  it('reads or refuses, whatever a client sends', async () => {
    // What a query string can give: a text, or several.
    const any = fc.oneof(fc.string(), fc.array(fc.string()));
    const query = fc.record(
      {
        device_id: fc.oneof(any, fc.constant('device_123')),
        reason: fc.oneof(any, fc.constantFrom(...REJECTION_REASONS, 'toString')),
        limit: fc.oneof(any, fc.integer().map(String), fc.double().map(String)),
        cursor: any,
        from: any,
        to: any,
      },
      { requiredKeys: [] },
    );
    await fc.assert(
      fc.asyncProperty(query, async (sent) => {
        try {
          const read = await readQuery(sent);
          expect(Number.isInteger(read.limit) && read.limit >= 1 && read.limit <= 1_000).toBe(true);
          if (read.device_id !== undefined) expect(isDeviceId(read.device_id)).toBe(true);
          if (read.reason !== undefined) expect(REJECTION_REASONS).toContain(read.reason);
          for (const text of [read.cursor, read.from, read.to]) expect(typeof (text ?? '')).toBe('string');
        } catch (error) {
          expectRefusal(error);
        }
      }),
    );
  });
});

describe('RejectedMessagePath', () => {
  it('is an id that a number holds exactly, or refused', async () => {
    const id = fc.oneof(
      fc.string(),
      fc.bigInt().map(String),
      fc.double().map(String),
      fc.maxSafeNat().map(String),
    );
    await fc.assert(
      fc.asyncProperty(id, async (sent) => {
        try {
          const read = await readPath({ id: sent });
          expect(Number.isSafeInteger(Number(read.id)) && Number(read.id) > 0).toBe(true);
          expect(String(Number(read.id))).toBe(sent);
        } catch (error) {
          expectRefusal(error);
        }
      }),
    );
  });
});
