import { NOTHING_REMEMBERED, type Presence } from './presence.js';

/** The presence of a device that nothing has been heard of. For specs. */
export const NEVER_SEEN: Presence = {
  status: 'inactive',
  lastSeen: null,
  lastDataAt: null,
  connectedSince: null,
  session: null,
  battery: null,
  signalStrength: null,
  memory: NOTHING_REMEMBERED,
};
