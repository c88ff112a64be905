import { MessageRejected } from '#kernel';
import type { CommandResponse } from './command.js';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const MAX_ERROR_LENGTH = 1_000;

/**
 * Reads a device's answer (contract, "MQTT": `{command_id, status, result?, error?}`).
 * @param correlation what MQTT 5 says it is an answer to: counts where the payload names no command.
 * @throws MessageRejected invalid_payload
 */
export function readCommandResponse(
  payload: Readonly<Record<string, unknown>>,
  correlation: string | null = null,
): CommandResponse {
  const { command_id: named, status, result, error } = payload;
  const commandId = named ?? correlation;
  if (typeof commandId !== 'string' || !UUID.test(commandId)) {
    throw new MessageRejected('invalid_payload', 'command_id is no command id.');
  }
  if (status !== 'acknowledged' && status !== 'completed' && status !== 'failed') {
    throw new MessageRejected('invalid_payload', 'status is none of acknowledged, completed, failed.');
  }
  if (
    error !== undefined &&
    error !== null &&
    (typeof error !== 'string' || error.length > MAX_ERROR_LENGTH)
  ) {
    throw new MessageRejected(
      'invalid_payload',
      `error is not a text of up to ${MAX_ERROR_LENGTH} characters.`,
    );
  }
  return { commandId: commandId.toLowerCase(), status, result: result ?? null, error: error ?? null };
}
