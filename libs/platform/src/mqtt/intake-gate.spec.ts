import fc from 'fast-check';
import { IntakeGate } from './intake-gate.js';

describe('IntakeGate', () => {
  const make = (messages: number, bytes: number): { gate: IntakeGate; calls: string[] } => {
    const calls: string[] = [];
    return {
      gate: new IntakeGate(
        { messages, bytes },
        () => calls.push('close'),
        () => calls.push('open'),
      ),
      calls,
    };
  };

  it('closes above the number of messages, and opens at three quarters of it', () => {
    const { gate, calls } = make(4, 1_000);
    for (let count = 0; count < 4; count += 1) gate.enter(1);
    expect(calls).toEqual([]);
    gate.enter(1);
    gate.enter(1);
    expect(calls).toEqual(['close']);
    gate.leave(1);
    gate.leave(1);
    expect(calls).toEqual(['close']);
    gate.leave(1);
    expect(calls).toEqual(['close', 'open']);
    expect(gate.messages).toBe(3);
  });

  it('closes above the number of bytes, and opens at three quarters of it', () => {
    const { gate, calls } = make(1_000, 100);
    gate.enter(70);
    gate.enter(40);
    expect(calls).toEqual(['close']);
    gate.leave(40);
    expect(calls).toEqual(['close', 'open']);
  });

  it('is open whenever nothing is in hand, and closed whenever too much is', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.boolean(), fc.integer({ min: 0, max: 60 })), { maxLength: 300 }),
        (steps) => {
          let open = true;
          const gate = new IntakeGate(
            { messages: 10, bytes: 200 },
            () => (open = false),
            () => (open = true),
          );
          const held: number[] = [];
          for (const [enters, bytes] of steps) {
            if (enters) {
              held.push(bytes);
              gate.enter(bytes);
            } else if (held.length > 0) gate.leave(held.shift() ?? 0);
            const size = held.reduce((sum, item) => sum + item, 0);
            if (held.length > 10 || size > 200) expect(open).toBe(false);
            if (held.length <= 7 && size <= 150) expect(open).toBe(true);
          }
          while (held.length > 0) gate.leave(held.shift() ?? 0);
          expect(open).toBe(true);
        },
      ),
    );
  });
});
