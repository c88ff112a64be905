import type { SchemaObject } from '@nestjs/swagger';
import { COMMAND_CATALOGUE, type CommandSpec, type ParameterSpec } from '../domain/command-catalogue.js';

/** The catalogue as JSON Schema, for the API description: the table itself stays the only place that says what is taken. */
function parameterSchema(spec: ParameterSpec): SchemaObject {
  if (spec.type === 'timestamp')
    return { type: 'string', format: 'date-time', description: spec.description };
  const { minimum, maximum, unit, description } = spec;
  return {
    type: 'integer',
    ...(minimum !== undefined && { minimum }),
    ...(maximum !== undefined && { maximum }),
    description: unit === undefined ? description : `${description} (${unit})`,
  };
}

/** What `parameters` of a command may hold. */
export function parametersSchema({ parameters }: CommandSpec): SchemaObject {
  const entries = Object.entries(parameters);
  const required = entries.filter(([, spec]) => spec.required).map(([name]) => name);
  return {
    type: 'object',
    properties: Object.fromEntries(entries.map(([name, spec]) => [name, parameterSchema(spec)])),
    ...(required.length > 0 && { required }),
    additionalProperties: false,
  };
}

function orderSchema(command: string, spec: CommandSpec, types: readonly string[]): SchemaObject {
  const parameters = parametersSchema(spec);
  return {
    type: 'object',
    title: `${command} (${types.length === Object.keys(COMMAND_CATALOGUE).length ? 'every device' : types.join(', ')})`,
    description: spec.description,
    properties: {
      command: { type: 'string', enum: [command] },
      parameters,
      expires_in: {
        type: 'string',
        pattern: String.raw`^\d{1,9}(ms|s|m|h|d)$`,
        example: '10m',
        description: 'Time it has to be completed; COMMAND_EXPIRES_AFTER unless given',
      },
    },
    required: parameters.required ? ['command', 'parameters'] : ['command'],
    additionalProperties: false,
  };
}

function orderSchemas(): SchemaObject[] {
  const variants = new Map<CommandSpec, { readonly command: string; readonly types: string[] }>();
  for (const [type, commands] of Object.entries(COMMAND_CATALOGUE)) {
    for (const [command, spec] of Object.entries(commands)) {
      const variant = variants.get(spec);
      if (variant) variant.types.push(type);
      else variants.set(spec, { command, types: [type] });
    }
  }
  return [...variants].map(([spec, { command, types }]) => orderSchema(command, spec, types));
}

/** Body of POST /devices/{device_id}/command: one schema for each command. */
export const ORDER_SCHEMA: SchemaObject = {
  description: 'With COMMANDS_ALLOW_CUSTOM=true further commands and parameters are taken.',
  anyOf: orderSchemas(),
  example: { command: 'start_monitoring', parameters: { interval: 30 } },
};
