import { applyDecorators } from '@nestjs/common';
import { IsInt, Max, Min } from 'class-validator';
import { MAX_PATIENT_ID } from '#kernel';

const PATIENT_ID = { message: `patient_id must be a whole number from 1 to ${MAX_PATIENT_ID}` };

/** A field `patient_id` of a DTO. In a query, `@Type(() => Number)` makes a number of it first. */
export const IsPatientId = (): PropertyDecorator =>
  applyDecorators(IsInt(PATIENT_ID), Min(1, PATIENT_ID), Max(MAX_PATIENT_ID, PATIENT_ID));
