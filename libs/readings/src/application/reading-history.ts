import type { Readable } from 'node:stream';
import { Injectable } from '@nestjs/common';
import type { Principal } from '#kernel';
import { DeviceRegistry } from '#devices';
import type { StoredReading } from '../domain/reading.js';
import {
  ReadingRepository,
  type Aggregate,
  type Bucket,
  type ReadingFilter,
} from '../ports/reading.repository.js';

/** Answers for what a device has measured, to those who may see the device. */
@Injectable()
export class ReadingHistory {
  constructor(
    private readonly registry: DeviceRegistry,
    private readonly readings: ReadingRepository,
  ) {}

  /** @throws DomainError not_found/device_not_found */
  async page(
    filter: ReadingFilter,
    after: { timestamp: string; id: number } | null,
    limit: number,
    caller: Principal,
  ): Promise<readonly StoredReading[]> {
    await this.registry.get(filter.deviceId, caller);
    return this.readings.page(filter, after, limit);
  }

  /** @throws DomainError not_found/device_not_found */
  async aggregate(
    filter: ReadingFilter,
    intervalMs: number,
    aggregates: readonly Aggregate[],
    after: { timestamp: string; metricType: string } | null,
    limit: number,
    caller: Principal,
  ): Promise<readonly Bucket[]> {
    await this.registry.get(filter.deviceId, caller);
    return this.readings.aggregate(filter, intervalMs, aggregates, after, limit);
  }

  /** @throws DomainError not_found/device_not_found */
  async downsample(
    filter: ReadingFilter,
    maxPoints: number,
    caller: Principal,
  ): Promise<readonly StoredReading[]> {
    await this.registry.get(filter.deviceId, caller);
    return this.readings.downsample(filter, maxPoints);
  }

  /** @throws DomainError not_found/device_not_found */
  async stream(filter: ReadingFilter, caller: Principal): Promise<Readable> {
    await this.registry.get(filter.deviceId, caller);
    return this.readings.stream(filter);
  }

  /** @throws DomainError not_found/device_not_found */
  async latest(deviceId: string, caller: Principal): Promise<readonly StoredReading[]> {
    await this.registry.get(deviceId, caller);
    return this.readings.latest(deviceId);
  }
}
