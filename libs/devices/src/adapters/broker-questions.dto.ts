import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';

/** What a broker asks at CONNECT. */
export class ConnectQuestion {
  @ApiProperty({ example: 'device_123' })
  username!: string;

  @ApiProperty()
  password!: string;

  @ApiProperty({ example: 'device_123' })
  clientid!: string;

  @ApiPropertyOptional({ example: '192.0.2.7', description: 'The address of the client, for the audit log' })
  peerhost?: string;
}

/** What a broker asks at PUBLISH and SUBSCRIBE, and of a will. */
export class TopicQuestion {
  @ApiProperty({ example: 'device_123' })
  username!: string;

  @ApiProperty({ example: 'device_123' })
  clientid!: string;

  @ApiProperty({ example: 'devices/device_123/data' })
  topic!: string;

  @ApiPropertyOptional({ enum: ['publish', 'subscribe'], description: 'EMQX' })
  action?: string;

  @ApiPropertyOptional({
    enum: [1, 2, 3, 4],
    description: 'mosquitto-go-auth: 1 deliver, 2 publish, 3 both, 4 subscribe',
  })
  acc?: number;
}

/** The answer, for EMQX (`result`, `is_superuser`) and for mosquitto-go-auth (`ok`, `error`) in one. */
export class BrokerAnswer {
  @ApiProperty({ enum: ['allow', 'deny'] })
  result!: 'allow' | 'deny';

  @ApiProperty()
  is_superuser!: boolean;

  @ApiProperty()
  ok!: boolean;

  @ApiProperty({ example: '' })
  error!: string;
}
