export * from './clock.js';
export * from './domain-error.js';
export * from './duration.js';
export * from './event-bus.js';
export * from './instant.js';
export * from './json-safety.js';
export * from './unit-of-work.js';
