export { Ingest } from './application/ingest.js';
export { LiveFeed, type StreamCounts } from './application/live-feed.js';
export { TelemetryModule } from './telemetry.module.js';
