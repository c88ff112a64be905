import type { DomainEvent } from '#kernel';
import type { DeviceIdentity } from '#devices';
import type { Measurement } from './decode.js';

/**
 * The event `device.data.received`. Its id and data are made when somebody first asks for them: while nobody watches and
 * nothing is published, most events are never looked into.
 */
export class DataReceived implements DomainEvent {
  readonly type = 'device.data.received';
  readonly deviceId: string;
  readonly patientId: number;
  private madeId: string | undefined;
  private madeData: DomainEvent['data'] | undefined;

  /**
   * @param messageId names the message, the same at each delivery.
   * @param index which of the message's measurements it is.
   * @param late told of long after it came in: no sign of life.
   */
  constructor(
    private readonly messageId: () => string,
    private readonly index: number,
    device: DeviceIdentity,
    private readonly measurement: Measurement,
    private readonly receivedAt: Date,
    readonly late = false,
  ) {
    this.deviceId = device.deviceId;
    this.patientId = device.patientId;
  }

  get id(): string {
    return (this.madeId ??= this.index === 0 ? this.messageId() : `${this.messageId()}.${this.index}`);
  }

  get time(): string {
    return isoOf(this.receivedAt);
  }

  get data(): DomainEvent['data'] {
    return (this.madeData ??= this.makeData());
  }

  private makeData(): DomainEvent['data'] {
    const { payload, metricType, timestamp, readings } = this.measurement;
    return {
      ...payload,
      timestamp: payload['timestamp'] ?? timestamp,
      metric_type: metricType,
      readings: readings.map((reading) => ({
        metric_type: reading.metricType,
        value: reading.value,
        unit: reading.unit,
        timestamp: reading.timestamp,
      })),
    };
  }
}

let lastDate: Date | undefined;
let lastIso = '';

/** Messages that arrive together share their date. */
function isoOf(date: Date): string {
  if (date !== lastDate) {
    lastDate = date;
    lastIso = date.toISOString();
  }
  return lastIso;
}
