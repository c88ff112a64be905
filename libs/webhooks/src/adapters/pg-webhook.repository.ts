import { storableText, type Database } from '#platform';
import type { Failure } from '../domain/delivery.js';
import type { DisabledReason, Webhook, WebhookChange } from '../domain/webhook.js';
import {
  WebhookRepository,
  type ActiveWebhook,
  type ListedWebhook,
  type WebhookNews,
  type WebhookStatus,
} from '../ports/webhook.repository.js';
import type { SecretBox } from './secret-box.js';

interface WebhookRecord {
  readonly place: string;
  readonly webhook_id: string;
  readonly tenant: string;
  readonly url: string;
  readonly events: string[] | null;
  readonly device_ids: string[] | null;
  readonly patient_ids: number[] | null;
  readonly metric_types: string[] | null;
  readonly active: boolean;
  readonly disabled_reason: DisabledReason | null;
  readonly created_by: string;
  readonly created_at: Date;
  readonly updated_at: Date;
}

interface StatusRecord {
  readonly pending: string;
  readonly delivered: string;
  readonly dead: string;
  readonly last_success_at: Date | null;
  readonly last_failure_at: Date | null;
  readonly last_failure_status: number | null;
  readonly last_failure_code: Failure | null;
}

const COLUMNS = `place, webhook_id, tenant, url, events, device_ids, patient_ids, metric_types, active, disabled_reason,
  created_by, created_at, updated_at`;

/** Letters of `created_by`: what can't be stored of a token's subject must not keep a webhook out. */
const MAX_CREATED_BY = 255;

const INSERT = `
  INSERT INTO webhooks (webhook_id, tenant, url, events, device_ids, patient_ids, metric_types, active, created_by,
    created_at, updated_at, secret)
  SELECT $1::uuid, $2::text, $3::text, $4::text[], $5::text[], $6::int[], $7::text[], $8::boolean, $9::text,
    $10::timestamptz, $10::timestamptz, $11::bytea
  WHERE (SELECT count(*) FROM webhooks WHERE tenant = $2) < $12
  RETURNING webhook_id`;

const FIND = `SELECT ${COLUMNS} FROM webhooks WHERE webhook_id = $1 AND tenant = $2`;

const LIST = `
  SELECT ${COLUMNS} FROM webhooks WHERE tenant = $1 AND place > coalesce($2::bigint, 0) ORDER BY place LIMIT $3`;

// The columns of a change, each as: is it to be changed, and into what.
const CHANGE = `
  WITH changed AS (UPDATE webhooks SET
    url = CASE WHEN $3 THEN $4::text ELSE url END,
    events = CASE WHEN $5 THEN $6::text[] ELSE events END,
    device_ids = CASE WHEN $7 THEN $8::text[] ELSE device_ids END,
    patient_ids = CASE WHEN $9 THEN $10::int[] ELSE patient_ids END,
    metric_types = CASE WHEN $11 THEN $12::text[] ELSE metric_types END,
    active = CASE WHEN $13 THEN $14::boolean ELSE active END,
    disabled_reason = CASE WHEN $13 THEN NULL ELSE disabled_reason END,
    secret = coalesce($15::bytea, secret),
    updated_at = now()
  WHERE webhook_id = $1 AND tenant = $2
  RETURNING ${COLUMNS})
  SELECT * FROM changed`;

const REMOVE = `
  WITH removed AS (DELETE FROM webhooks WHERE webhook_id = $1 AND tenant = $2 RETURNING webhook_id)
  SELECT * FROM removed`;

const DISABLE = `
  UPDATE webhooks SET active = false, disabled_reason = $2, updated_at = now() WHERE webhook_id = $1 AND active`;

const STATUS = `
  SELECT pending, delivered, dead, last_success_at, last_failure_at, last_failure_status, last_failure_code
  FROM webhooks CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE state = 'pending') AS pending,
      count(*) FILTER (WHERE state = 'delivered') AS delivered,
      count(*) FILTER (WHERE state = 'dead') AS dead
    FROM webhook_deliveries d WHERE d.webhook_id = webhooks.webhook_id
  ) counts
  WHERE webhook_id = $1`;

// greatest() leaves nulls out. Replicas report when they come to it: the newer report stays.
const NOTE = `
  UPDATE webhooks w SET
    last_success_at = greatest(w.last_success_at, n.success_at),
    last_failure_at = CASE WHEN n.is_newer THEN n.failure_at ELSE w.last_failure_at END,
    last_failure_status = CASE WHEN n.is_newer THEN n.status ELSE w.last_failure_status END,
    last_failure_code = CASE WHEN n.is_newer THEN n.code ELSE w.last_failure_code END
  FROM (
    SELECT told.*, coalesce(told.failure_at > coalesce(known.last_failure_at, '-infinity'), false) AS is_newer
    FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::int[], $5::text[])
      AS told (webhook_id, success_at, failure_at, status, code)
    JOIN webhooks known USING (webhook_id)
  ) n
  WHERE w.webhook_id = n.webhook_id`;

// One statement, so one snapshot. Without any webhook, it still says the version.
const ACTIVE = `
  SELECT version, secret, ${COLUMNS}
  FROM webhooks_version LEFT JOIN webhooks ON active`;

/** Webhooks in `webhooks`. */
export class PgWebhookRepository extends WebhookRepository {
  constructor(
    private readonly database: Database,
    private readonly box: SecretBox,
  ) {
    super();
  }

  async insert(webhook: Webhook, key: Uint8Array, max: number): Promise<boolean> {
    const { webhookId, tenant, url, events, deviceIds, patientIds, metricTypes } = webhook;
    const rows = await this.database.query(INSERT, [
      webhookId,
      tenant,
      url,
      events,
      deviceIds,
      patientIds,
      metricTypes,
      webhook.active,
      storableText(webhook.createdBy, MAX_CREATED_BY),
      webhook.createdAt,
      this.box.seal(key, webhookId),
      max,
    ]);
    return rows.length > 0;
  }

  async find(webhookId: string, tenant: string): Promise<Webhook | null> {
    const [row] = await this.database.query<WebhookRecord>(FIND, [webhookId, tenant]);
    return row ? toWebhook(row) : null;
  }

  async list(tenant: string, after: number | null, limit: number): Promise<readonly ListedWebhook[]> {
    const rows = await this.database.query<WebhookRecord>(LIST, [tenant, after, limit]);
    return rows.map((row) => ({ place: Number(row.place), webhook: toWebhook(row) }));
  }

  async change(
    webhookId: string,
    tenant: string,
    change: WebhookChange,
    key: Uint8Array | null,
  ): Promise<Webhook | null> {
    const { url, events, deviceIds, patientIds, metricTypes, active } = change;
    const parts = [url, events, deviceIds, patientIds, metricTypes, active];
    const [row] = await this.database.query<WebhookRecord>(CHANGE, [
      webhookId,
      tenant,
      ...parts.flatMap((part) => [part !== undefined, part ?? null]),
      key && this.box.seal(key, webhookId),
    ]);
    return row ? toWebhook(row) : null;
  }

  async remove(webhookId: string, tenant: string): Promise<boolean> {
    return (await this.database.query(REMOVE, [webhookId, tenant])).length > 0;
  }

  async disable(webhookId: string, reason: DisabledReason): Promise<void> {
    await this.database.query(DISABLE, [webhookId, reason]);
  }

  async status(webhookId: string): Promise<WebhookStatus> {
    const [row] = await this.database.query<StatusRecord>(STATUS, [webhookId]);
    const failedAt = row?.last_failure_at ?? null;
    return {
      pending: Number(row?.pending ?? 0),
      delivered: Number(row?.delivered ?? 0),
      dead: Number(row?.dead ?? 0),
      lastSuccessAt: row?.last_success_at ?? null,
      lastFailure:
        row?.last_failure_code && failedAt
          ? { at: failedAt, status: row.last_failure_status, code: row.last_failure_code }
          : null,
    };
  }

  async note(news: readonly WebhookNews[]): Promise<void> {
    await this.database.query(NOTE, [
      news.map(({ webhookId }) => webhookId),
      news.map(({ lastSuccessAt }) => lastSuccessAt),
      news.map(({ lastFailure }) => lastFailure?.at ?? null),
      news.map(({ lastFailure }) => lastFailure?.status ?? null),
      news.map(({ lastFailure }) => lastFailure?.code ?? null),
    ]);
  }

  async version(): Promise<string> {
    const [row] = await this.database.query<{ version: string }>('SELECT version FROM webhooks_version');
    return row?.version ?? '';
  }

  async active(): Promise<{ version: string; webhooks: readonly ActiveWebhook[] }> {
    const rows = await this.database.query<
      { version: string } & (WebhookRecord & { readonly secret: Buffer })
    >(ACTIVE);
    return {
      version: rows[0]?.version ?? '',
      webhooks: rows
        .filter((row) => (row.webhook_id as string | null) !== null)
        .map((row) => ({ webhook: toWebhook(row), key: this.box.open(row.secret, row.webhook_id) })),
    };
  }
}

function toWebhook(row: WebhookRecord): Webhook {
  return {
    webhookId: row.webhook_id,
    tenant: row.tenant,
    url: row.url,
    events: row.events,
    deviceIds: row.device_ids,
    patientIds: row.patient_ids,
    metricTypes: row.metric_types,
    active: row.active,
    disabledReason: row.disabled_reason,
    createdBy: row.created_by,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  };
}
