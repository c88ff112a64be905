export {
  CATALOGUE,
  ECG,
  expandMetricTypes,
  METRIC_NAME_PATTERN,
  PANELS,
  type Metric,
} from './domain/catalogue.js';
export type { Reading, Waveform } from './domain/reading.js';
export { ucumCode } from './domain/units.js';
export { ReadingRepository } from './ports/reading.repository.js';
export { ReadingsModule } from './readings.module.js';
