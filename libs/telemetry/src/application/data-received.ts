import type { DomainEvent } from '#kernel';
import type { DeviceIdentity } from '#devices';
import type { Stand } from '../ports/stream-log.js';
import type { Measurement } from './decode.js';

/**
 * The event `device.data.received`. Its id and data are made when somebody first asks for them: while nobody watches and
 * nothing is published, most events are never looked into.
 */
export class DataReceived implements DomainEvent {
  readonly type = 'device.data.received';
  readonly deviceId: string;
  readonly tenant: string;
  /** Null: measured, or received, before the device was given to its patient. Whose it was then is not known any more. */
  readonly patientId: number | null;
  private madeId: string | undefined;
  private madeData: DomainEvent['data'] | undefined;
  private madeJson: string | undefined;

  /**
   * @param messageId names the message, the same at each delivery.
   * @param index which of the message's measurements it is.
   * @param stand where the message stands in the log of the stream; null: the log does not hold it.
   * @param late told of long after it came in, or kept by the broker nobody knows how long: no sign of life.
   * @param waited it may have waited while others were heard; null: it has not.
   */
  constructor(
    private readonly messageId: () => string,
    private readonly index: number,
    device: DeviceIdentity,
    private readonly measurement: Measurement,
    private readonly receivedAt: Date,
    private readonly stand: Stand | null,
    readonly late = false,
    readonly waited: NonNullable<DomainEvent['waited']> | null = null,
  ) {
    this.deviceId = device.deviceId;
    this.tenant = device.tenant;
    this.patientId = isOfEarlierPatient(device, measurement, receivedAt) ? null : device.patientId;
  }

  get id(): string {
    return (this.madeId ??= this.index === 0 ? this.messageId() : `${this.messageId()}.${this.index}`);
  }

  get logged(): DomainEvent['logged'] {
    const { stand, index } = this;
    return stand ? { ...stand, index } : undefined;
  }

  get time(): string {
    return isoOf(this.receivedAt);
  }

  get data(): DomainEvent['data'] {
    const { readings } = this.measurement;
    return (this.madeData ??= {
      ...this.ownFields(),
      readings: readings.map(({ metricType, value, unit, timestamp }) => ({
        metric_type: metricType,
        value,
        unit,
        timestamp,
      })),
    });
  }

  get dataJson(): string {
    return (this.madeJson ??= this.makeJson());
  }

  private ownFields(): Record<string, unknown> {
    const { payload, metricType, timestamp } = this.measurement;
    return { ...payload, timestamp: payload['timestamp'] ?? timestamp, metric_type: metricType };
  }

  /**
   * By hand where that is safe: metrics and units are the catalogue's own, and need no escaping. Joined rather than added
   * up: the text is kept until the broker has taken it, and would be a tree of pieces for so long.
   */
  private makeJson(): string {
    const fields = this.ownFields();
    fields['device_id'] = this.deviceId;
    fields['patient_id'] = this.patientId;
    const parts = [JSON.stringify(fields).slice(0, -1), ',"readings":['];
    let separator = '';
    for (const { metricType, value, unit, timestamp } of this.measurement.readings) {
      parts.push(
        `${separator}{"metric_type":"${metricType}","value":${value},"unit":"${unit}","timestamp":"${timestamp}"}`,
      );
      separator = ',';
    }
    parts.push(']}');
    return parts.join('');
  }
}

function isOfEarlierPatient(
  { patientSince }: DeviceIdentity,
  { timestamp }: Measurement,
  receivedAt: Date,
): boolean {
  if (patientSince === null) return false;
  return receivedAt < patientSince || Date.parse(timestamp) < patientSince.getTime();
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
