import type { Readable } from 'node:stream';
import { Injectable } from '@nestjs/common';
import type { Principal } from '#kernel';
import { DeviceRegistry, shownSince } from '#devices';
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
    return this.readings.page(await this.visible(filter, caller), after, limit);
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
    const visible = await this.visible(filter, caller);
    return this.readings.aggregate(visible, intervalMs, aggregates, after, limit);
  }

  /** @throws DomainError not_found/device_not_found */
  async downsample(
    filter: ReadingFilter,
    maxPoints: number,
    caller: Principal,
  ): Promise<readonly StoredReading[]> {
    return this.readings.downsample(await this.visible(filter, caller), maxPoints);
  }

  /** @throws DomainError not_found/device_not_found */
  async stream(filter: ReadingFilter, caller: Principal): Promise<Readable> {
    return this.readings.stream(await this.visible(filter, caller));
  }

  /** @throws DomainError not_found/device_not_found */
  async latest(deviceId: string, caller: Principal): Promise<readonly StoredReading[]> {
    return this.readings.latest(await this.visible({ deviceId, order: 'desc' }, caller));
  }

  /**
   * What of a filter the caller may see: whoever is confined to a patient sees nothing that the device measured for
   * another one before. What came in before was, too: the device's clock may be ahead.
   * @throws DomainError not_found/device_not_found
   */
  private async visible(filter: ReadingFilter, caller: Principal): Promise<ReadingFilter> {
    const from = shownSince(await this.registry.get(filter.deviceId, caller), caller);
    if (from === null) return filter;
    const since = from.toISOString();
    const isLater = filter.from !== undefined && new Date(filter.from) >= from;
    return { ...filter, receivedFrom: since, ...(!isLater && { from: since }) };
  }
}
