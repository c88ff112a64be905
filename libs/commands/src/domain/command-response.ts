import { MessageRejected } from '#kernel';
import type { CommandResponse } from './command.js';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;
const MAX_ERROR_LENGTH = 1_000;

/**
 * Reads a device's answer (contract, "MQTT": `{command_id, status, result?, error?}`).
 * Why it failed is the device's to say in its own way: no `error` makes the answer worth less than its status.
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
  return {
    commandId: commandId.toLowerCase(),
    status,
    result: result ?? null,
    error: errorOf(error ?? null),
  };
}

/** What is no text is kept as its JSON; and none is kept whole that is too long. */
function errorOf(error: unknown): string | null {
  if (error === null) return null;
  const text = typeof error === 'string' ? error : JSON.stringify(error);
  const cut = text.slice(0, MAX_ERROR_LENGTH);
  // Half a character is no text.
  return text.length > cut.length ? cut.replace(/[\uD800-\uDBFF]$/, '') : cut;
}
