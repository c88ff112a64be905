import type { MigrationInterface, QueryRunner } from 'typeorm';

/**
 * `webhook_claim`: takes what is due from the front of the lanes of a webhook that nobody has any of. `webhook_replay`: queues
 * again what was finished, as far as there is room. Both are functions, since their statements must see what was committed
 * while they waited for their turn; the statements of one SQL command do not.
 */
export class WebhookTurns1764420000000 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE FUNCTION webhook_claim(
        turn integer, claim uuid, webhook uuid, max_lanes integer, depth integer, lease interval, max_body integer
      ) RETURNS TABLE (id bigint, message_id uuid, lane text, body text, attempts integer, age_ms float8)
      LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
      #variable_conflict use_column
      BEGIN
        PERFORM pg_advisory_xact_lock(turn, hashtext(webhook::text));
        RETURN QUERY
        WITH heads AS MATERIALIZED (
          SELECT DISTINCT ON (lane) lane, id, next_attempt_at, claimed_until
          FROM webhook_deliveries WHERE webhook_id = webhook AND state = 'pending' ORDER BY lane, id
        ), lanes AS MATERIALIZED (
          SELECT lane FROM (
            SELECT lane FROM heads
            WHERE next_attempt_at <= now() AND coalesce(claimed_until < now(), true)
              AND (SELECT active FROM webhooks WHERE webhook_id = webhook)
            ORDER BY next_attempt_at, id OFFSET 0
          ) due
          -- The head may have come in front of what is being sent. An aggregate: it is asked lane by lane, until there are enough.
          WHERE (
            SELECT coalesce(max(claimed_until) < now(), true) FROM webhook_deliveries
            WHERE webhook_id = webhook AND lane BETWEEN due.lane AND due.lane AND state = 'pending'
          )
          LIMIT max_lanes
        ), chosen AS MATERIALIZED (
          SELECT run.id FROM lanes CROSS JOIN LATERAL (
            SELECT front.id, bool_and(front.next_attempt_at <= now()) OVER (ORDER BY front.id) AS is_due FROM (
              SELECT id, next_attempt_at FROM webhook_deliveries
              WHERE webhook_id = webhook AND lane BETWEEN lanes.lane AND lanes.lane AND state = 'pending'
              ORDER BY lane, id LIMIT depth
            ) front
          ) run
          WHERE run.is_due
        ), claimed AS (
          UPDATE webhook_deliveries d SET claimed_by = claim, claimed_until = now() + lease
          WHERE d.id = ANY (ARRAY(SELECT id FROM chosen)) AND d.state = 'pending'
          RETURNING d.id, d.message_id, d.lane::text, CASE WHEN octet_length(d.body) <= max_body THEN d.body END,
            d.attempts, (extract(epoch FROM now() - d.queued_at) * 1000)::float8
        )
        SELECT * FROM claimed ORDER BY id;
      END $$`);
    await runner.query(`
      CREATE FUNCTION webhook_replay(
        turn integer, webhook uuid, states text[], after_id bigint, since timestamptz, before timestamptz,
        max_pending integer
      ) RETURNS TABLE (queued bigint, remaining bigint, last_message_id uuid)
      LANGUAGE plpgsql SET plan_cache_mode = force_custom_plan AS $$
      #variable_conflict use_column
      BEGIN
        PERFORM pg_advisory_xact_lock(turn, hashtext(webhook::text));
        RETURN QUERY
        WITH room AS MATERIALIZED (
          SELECT greatest(0, max_pending - count(*)) AS free FROM webhook_deliveries
          WHERE webhook_id = webhook AND state = 'pending'
        ), selected AS MATERIALIZED (
          SELECT id FROM webhook_deliveries
          WHERE webhook_id = webhook AND state = ANY (states) AND id > coalesce(after_id, 0)
            AND created_at >= coalesce(since, '-infinity') AND created_at < coalesce(before, 'infinity')
        ), chosen AS MATERIALIZED (
          SELECT id FROM selected ORDER BY id LIMIT (SELECT free FROM room)
        ), queued AS (
          UPDATE webhook_deliveries d SET state = 'pending', attempts = 0, queued_at = now(), next_attempt_at = now(),
            finished_at = NULL, last_status = NULL, last_failure = NULL, claimed_by = NULL, claimed_until = NULL
          WHERE d.id = ANY (ARRAY(SELECT id FROM chosen)) AND d.state <> 'pending'
          RETURNING d.id, d.message_id
        )
        SELECT (SELECT count(*) FROM queued), greatest(0, (SELECT count(*) FROM selected) - (SELECT free FROM room)),
          (SELECT message_id FROM queued ORDER BY id DESC LIMIT 1);
      END $$`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(`DROP FUNCTION webhook_replay`);
    await runner.query(`DROP FUNCTION webhook_claim`);
  }
}
