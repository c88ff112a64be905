import { ValidationPipe, type ArgumentMetadata, type ValidationError } from '@nestjs/common';
import { DomainError, findJsonFlaw, type FieldError } from '#kernel';

/** Checks bodies and queries against their DTO; unknown fields are refused. @throws DomainError invalid/validation_failed */
export function validationPipe(): ValidationPipe {
  return new SoundValuesPipe({
    transform: true,
    whitelist: true,
    forbidNonWhitelisted: true,
    forbidUnknownValues: true,
    exceptionFactory: (errors) => validationFailed(errors.flatMap((error) => fieldErrors(error, ''))),
  });
}

/** Refuses what the guard of JSON bodies refuses, in a query: PostgreSQL would stumble over it. */
class SoundValuesPipe extends ValidationPipe {
  override async transform(value: unknown, metadata: ArgumentMetadata): Promise<unknown> {
    const flaw = metadata.type === 'query' ? findJsonFlaw(value) : null;
    if (flaw)
      throw validationFailed([{ field: flaw.path === '' ? 'query' : flaw.path, message: flaw.reason }]);
    return super.transform(value, metadata);
  }
}

/** The error of an input whose fields are wrong; the detail names them all, `errors` each with its reason. */
export function validationFailed(errors: readonly FieldError[]): DomainError {
  const fields = [...new Set(errors.map((error) => error.field))].join(', ');
  return new DomainError('invalid', 'validation_failed', `Not acceptable: ${fields}.`, errors);
}

function fieldErrors(error: ValidationError, prefix: string): FieldError[] {
  const field = prefix === '' ? error.property : `${prefix}.${error.property}`;
  const messages = Object.entries(error.constraints ?? {}).map(([rule, message]) =>
    rule === 'whitelistValidation' ? 'is not a known field' : message.replace(`${error.property} `, ''),
  );
  // Several rules of one field may share one message.
  const own = [...new Set(messages)].map((message) => ({ field, message }));
  return [...own, ...(error.children ?? []).flatMap((child) => fieldErrors(child, field))];
}
