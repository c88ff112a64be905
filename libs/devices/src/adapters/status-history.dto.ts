import { ApiProperty } from '@nestjs/swagger';
import type { KeptChange } from '../domain/device-events.js';
import { CONNECTION_CAUSES, type ConnectionCause } from '../domain/presence.js';

/** The beginning or the end of a device's connection, as clients see it. */
export class StatusChangeView {
  @ApiProperty({ example: 1 })
  id!: number;

  @ApiProperty({ example: 'device_123' })
  device_id!: string;

  @ApiProperty({ enum: ['online', 'offline'] })
  status!: 'online' | 'offline';

  @ApiProperty({
    enum: CONNECTION_CAUSES,
    description:
      'status, will: it said so, itself or by its will; data: it sent a measurement; timeout: it was silent; credentials: its account was replaced; decommissioned',
  })
  cause!: ConnectionCause;

  @ApiProperty({ format: 'date-time', description: 'When it was found out' })
  timestamp!: string;

  @ApiProperty({ type: String, nullable: true, description: "The device's own name for the connection" })
  session!: string | null;

  @ApiProperty({ type: Number, nullable: true, description: 'Percent, as last known then' })
  battery!: number | null;

  @ApiProperty({ type: Number, nullable: true, description: 'dBm, as last known then' })
  signal_strength!: number | null;

  @ApiProperty({
    type: String,
    format: 'date-time',
    nullable: true,
    description: 'The last sign of life until then',
  })
  last_seen!: string | null;
}

/** A page of a device's history. */
export class StatusHistoryPage {
  @ApiProperty({ type: [StatusChangeView] })
  data!: StatusChangeView[];

  @ApiProperty({ type: String, nullable: true, description: 'null at the end' })
  next_cursor!: string | null;
}

export function viewChange(change: KeptChange): StatusChangeView {
  return {
    id: change.id,
    device_id: change.deviceId,
    status: change.status,
    cause: change.cause,
    timestamp: change.at.toISOString(),
    session: change.session,
    battery: change.battery,
    signal_strength: change.signalStrength,
    last_seen: change.lastSeen?.toISOString() ?? null,
  };
}
