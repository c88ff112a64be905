export { Ingest } from './application/ingest.js';
export { LiveFeed } from './application/live-feed.js';
export { TelemetryModule } from './telemetry.module.js';
