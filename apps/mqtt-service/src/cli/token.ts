import { parseArgs } from 'node:util';
import { ROLE_SCOPES, SCOPES } from '#kernel';
import { loadConfig } from '#platform';
import { signToken } from '../development-token.js';

const USAGE = `npm run token -- [options]     prints a development token

  --role NAME          ${Object.keys(ROLE_SCOPES).join(', ')} (default: admin)
  --scope "A B"        scopes instead of a role: ${SCOPES.join(', ')}
  --sub NAME           subject (default: developer)
  --patient-id N       confines the token to one patient
  --tenant NAME        tenant claim
  --expires-in TIME    such as 30m or 12h (default: 12h)
`;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      role: { type: 'string' },
      scope: { type: 'string' },
      sub: { type: 'string' },
      'patient-id': { type: 'string' },
      tenant: { type: 'string' },
      'expires-in': { type: 'string' },
      help: { type: 'boolean' },
    },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return;
  }
  const { role, scope, sub, tenant, 'patient-id': patientId, 'expires-in': expiresIn } = values;
  if (role !== undefined && !Object.hasOwn(ROLE_SCOPES, role)) {
    throw new Error(`--role: expected one of ${Object.keys(ROLE_SCOPES).join(', ')}.`);
  }
  if (role !== undefined && scope !== undefined) throw new Error('--role and --scope: expected one of them.');
  const unknown = scope?.split(' ').find((name) => !(SCOPES as readonly string[]).includes(name));
  if (unknown !== undefined) throw new Error(`--scope: ${unknown} is none of ${SCOPES.join(', ')}.`);
  if (patientId !== undefined && !/^[1-9]\d*$/.test(patientId))
    throw new Error('--patient-id: expected a positive number.');
  if (role === 'patient' && patientId === undefined) throw new Error('--role patient needs --patient-id.');
  const token = await signToken(loadConfig(), {
    ...(role !== undefined && { role }),
    ...(scope !== undefined && { scope }),
    ...(sub !== undefined && { sub }),
    ...(tenant !== undefined && { tenant }),
    ...(patientId !== undefined && { patientId: Number(patientId) }),
    ...(expiresIn !== undefined && { expiresIn }),
  });
  process.stdout.write(`${token}\n`);
}

main().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});
