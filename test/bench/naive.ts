// The naive peer: what the documentation of the framework leads to. An event handler that saves each message.
import 'reflect-metadata';
import { Controller, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { EventPattern, Payload, Transport } from '@nestjs/microservices';
import { Column, DataSource, Entity, PrimaryGeneratedColumn } from 'typeorm';

const [port = '', username = '', password = '', databaseUrl = '', clientId = ''] = process.argv.slice(2);

@Entity('device_readings')
class Reading {
  @PrimaryGeneratedColumn({ type: 'bigint' })
  id!: string;

  @Column({ name: 'device_id', type: 'varchar' })
  deviceId!: string;

  @Column({ name: 'metric_type', type: 'varchar' })
  metricType!: string;

  @Column({ type: 'numeric' })
  value!: number;

  @Column({ type: 'varchar' })
  unit!: string;

  @Column({ type: 'timestamptz' })
  timestamp!: string;
}

interface BloodPressure {
  readonly device_id: string;
  readonly systolic: number;
  readonly diastolic: number;
  readonly heart_rate: number;
  readonly timestamp: string;
}

const source = await new DataSource({ type: 'postgres', url: databaseUrl, entities: [Reading] }).initialize();
const readings = source.getRepository(Reading);

@Controller()
class Devices {
  @EventPattern('devices/+/data')
  async receive(@Payload() message: BloodPressure): Promise<void> {
    const { device_id: deviceId, timestamp } = message;
    await readings.save([
      { deviceId, metricType: 'systolic', value: message.systolic, unit: 'mm[Hg]', timestamp },
      { deviceId, metricType: 'diastolic', value: message.diastolic, unit: 'mm[Hg]', timestamp },
      { deviceId, metricType: 'heart_rate', value: message.heart_rate, unit: '/min', timestamp },
    ]);
  }
}

@Module({ controllers: [Devices] })
class Naive {}

const app = await NestFactory.createMicroservice(Naive, {
  transport: Transport.MQTT,
  options: {
    url: `mqtt://127.0.0.1:${port}`,
    username,
    password,
    clientId,
    clean: false,
    subscribeOptions: { qos: 1 },
  },
  logger: false,
});
await app.listen();
process.stdout.write('ready\n');
