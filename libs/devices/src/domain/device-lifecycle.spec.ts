import { amended, decommissioned, requireInService, type Device } from './device.js';
import { NOTHING_REMEMBERED } from './presence.js';

const REGISTERED = new Date('2024-01-01T00:00:00Z');
const NOW = new Date('2024-06-01T00:00:00Z');
const DEVICE: Device = {
  id: 1,
  deviceId: 'a',
  tenant: 'default',
  patientId: 7,
  type: 'weight_scale',
  model: 'M',
  serialNumber: null,
  createdAt: REGISTERED,
  decommissionedAt: null,
  patientSince: null,
  presence: {
    status: 'online',
    lastSeen: NOW,
    lastDataAt: null,
    connectedSince: REGISTERED,
    session: 's',
    battery: 50,
    signalStrength: -40,
    memory: NOTHING_REMEMBERED,
  },
};
const GONE: Device = { ...DEVICE, decommissionedAt: NOW };

describe('a device', () => {
  it('given to another patient is that patient’s from then on', () => {
    expect(amended(DEVICE, { patientId: 8 }, NOW)).toEqual({ ...DEVICE, patientId: 8, patientSince: NOW });
  });

  it('keeps what an amendment does not name, and may lose what it names as null', () => {
    expect(amended(DEVICE, { serialNumber: 'S' }, NOW)).toEqual({ ...DEVICE, serialNumber: 'S' });
    expect(amended(DEVICE, { model: null }, NOW)).toEqual({ ...DEVICE, model: null });
  });

  it.each([{}, { patientId: 7 }, { model: 'M', serialNumber: null }])(
    'is what it was after %j',
    (details) => {
      expect(amended(DEVICE, details, NOW)).toBeNull();
    },
  );

  it('decommissioned is offline, once and for all', () => {
    expect(decommissioned(DEVICE, NOW)).toMatchObject({
      device: { ...GONE, presence: { status: 'offline', connectedSince: null, session: null } },
      change: { status: 'offline', cause: 'decommissioned', at: NOW, session: 's' },
    });
    expect(decommissioned(GONE, new Date())).toBeNull();
    for (const change of [() => requireInService(GONE), () => amended(GONE, { model: 'N' }, NOW)])
      expect(change).toThrow(expect.objectContaining({ kind: 'conflict', code: 'device_decommissioned' }));
  });
});
