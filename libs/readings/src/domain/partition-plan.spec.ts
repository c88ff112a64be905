import fc from 'fast-check';
import { expiredPartitions, parsePartitionName, partitionsAhead } from './partition-plan.js';

const DAY_MS = 86_400_000;

const moments = fc.date({
  min: new Date('2000-01-01T00:00:00Z'),
  max: new Date('2100-01-01T00:00:00Z'),
  noInvalidDate: true,
});
const retentions = fc.integer({ min: 1, max: 36_500 }).map((days) => days * DAY_MS);

describe('partitionsAhead', () => {
  it('makes the month before, this one and the two after it, whatever the local time zone', () => {
    expect(partitionsAhead(new Date('2026-11-30T23:59:59.999Z'), null)).toEqual([
      { name: 'device_readings_2026_10', from: '2026-10-01T00:00:00.000Z', to: '2026-11-01T00:00:00.000Z' },
      { name: 'device_readings_2026_11', from: '2026-11-01T00:00:00.000Z', to: '2026-12-01T00:00:00.000Z' },
      { name: 'device_readings_2026_12', from: '2026-12-01T00:00:00.000Z', to: '2027-01-01T00:00:00.000Z' },
      { name: 'device_readings_2027_01', from: '2027-01-01T00:00:00.000Z', to: '2027-02-01T00:00:00.000Z' },
    ]);
  });

  it('does not skip a short month on the last day of a long one', () => {
    const names = partitionsAhead(new Date('2027-01-31T12:00:00Z'), null).map(({ name }) => name);
    expect(names.map((name) => name.slice(-7))).toEqual(['2026_12', '2027_01', '2027_02', '2027_03']);
  });

  it('covers now without gap or overlap', () => {
    fc.assert(
      fc.property(moments, (now) => {
        const plan = partitionsAhead(now, null);
        plan.slice(1).forEach(({ from }, index) => expect(from).toBe(plan[index]?.to));
        const [, current] = plan;
        expect(Date.parse(current?.from ?? '')).toBeLessThanOrEqual(now.getTime());
        expect(Date.parse(current?.to ?? '')).toBeGreaterThan(now.getTime());
      }),
    );
  });

  it('never makes what would be dropped, and always the current month', () => {
    fc.assert(
      fc.property(moments, retentions, (now, retention) => {
        const cutoff = new Date(now.getTime() - retention);
        const names = partitionsAhead(now, cutoff).map(({ name }) => name);
        expect(expiredPartitions(names, cutoff)).toEqual([]);
        expect(names).toContain(partitionsAhead(now, null)[1]?.name);
      }),
    );
  });
});

describe('expiredPartitions', () => {
  const names = [
    'device_readings_2026_10',
    'device_readings_default',
    'device_readings_2025_12',
    'device_readings_2026_09',
    'device_readings_2024',
  ];

  it.each([
    ['2026-09-30T23:59:59.999Z', ['device_readings_2025_12']],
    ['2026-10-01T00:00:00.000Z', ['device_readings_2025_12', 'device_readings_2026_09']],
    ['2025-12-31T23:59:59.999Z', []],
  ])('are those that end before %s', (cutoff, expired) => {
    expect(expiredPartitions(names, new Date(cutoff))).toEqual(expired);
  });

  it('hold no moment after the cutoff', () => {
    fc.assert(
      fc.property(moments, retentions, moments, (now, retention, measuredAt) => {
        const cutoff = new Date(now.getTime() - retention);
        const home = partitionsAhead(measuredAt, null)[1]?.name ?? '';
        if (expiredPartitions([home], cutoff).length > 0)
          expect(measuredAt.getTime()).toBeLessThan(cutoff.getTime());
      }),
    );
  });
});

describe('parsePartitionName', () => {
  it('reads every name that is given', () => {
    fc.assert(
      fc.property(moments, (now) => {
        for (const partition of partitionsAhead(now, null))
          expect(parsePartitionName(partition.name)).toEqual(partition);
      }),
    );
  });

  it.each([
    'device_readings',
    'device_readings_default',
    'device_readings_2026_00',
    'device_readings_2026_13',
    'device_readings_2026_1',
    'device_readings_2026_011',
    'device_readings_2026_01_old',
    'old_device_readings_2026_01',
    'device_waveforms_2026_01',
    '',
  ])('takes %j for nothing of its own', (name) => {
    expect(parsePartitionName(name)).toBeNull();
  });

  it('takes an early year at its word', () => {
    expect(parsePartitionName('device_readings_0042_01')?.from).toBe('0042-01-01T00:00:00.000Z');
  });
});
