// Preloaded into the service (`node --import`): its clock is ahead by CLOCK_AHEAD_MS. The service itself knows nothing of it.
const ahead = Number(process.env.CLOCK_AHEAD_MS ?? 0);
const Real = Date;

globalThis.Date = class extends Real {
  constructor(...given) {
    super(...(given.length === 0 ? [Real.now() + ahead] : given));
  }

  static now() {
    return Real.now() + ahead;
  }
};
