import { ApiProperty, ApiPropertyOptional } from '@nestjs/swagger';

/** One field of the input and why it was refused. */
export class ProblemField {
  @ApiProperty({ example: 'patient_id', description: 'Where in the input; dotted for nested fields' })
  field!: string;

  @ApiProperty({ example: 'must be a whole number from 1 to 2147483647' })
  message!: string;
}

/** An error answer: RFC 9457, `application/problem+json`. */
export class Problem {
  @ApiProperty({ example: 'urn:mqtt-service:problem:device_not_found' })
  type!: string;

  @ApiProperty({ example: 'Not Found' })
  title!: string;

  @ApiProperty({ example: 404 })
  status!: number;

  @ApiProperty({ example: 'No device device_123 is registered.' })
  detail!: string;

  @ApiProperty({ example: '/devices/device_123', description: 'The path that was asked for' })
  instance!: string;

  @ApiProperty({ example: 'device_not_found', description: 'Stable; safe to switch on' })
  code!: string;

  @ApiPropertyOptional({ type: [ProblemField] })
  errors?: ProblemField[];
}
