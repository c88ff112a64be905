import fc from 'fast-check';
import type { DomainError } from './domain-error.js';
import { Principal, SCOPES, type Claims, type Scope } from './principal.js';

const scopesOf = (claims: Claims): Scope[] =>
  SCOPES.filter((scope) => Principal.fromClaims(claims).has(scope));

const VIEWER: Scope[] = ['devices:read', 'readings:read', 'stream'];

describe('Principal', () => {
  it.each<[Claims, Scope[]]>([
    [{ scope: 'devices:read commands:send' }, ['devices:read', 'commands:send']],
    [{ scope: '  stream  unknown:scope ' }, ['stream']],
    [{ scope: 'admin' }, [...SCOPES]],
    [{ scope: '' }, []],
    [{ scope: ['admin'] }, []],
    [{ role: 'admin' }, [...SCOPES]],
    [{ role: 'clinician' }, SCOPES.filter((scope) => scope !== 'admin')],
    [{ role: 'viewer' }, VIEWER],
    [{ role: 'patient', patient_id: 1 }, VIEWER],
    [{ roles: ['unknown', 'viewer'] }, VIEWER],
    [{ roles: 'viewer' }, VIEWER],
    [{ role: 'superuser' }, []],
    [{ role: 'constructor' }, []],
    [{ role: 'Admin' }, []],
    [{}, []],
  ])('grants by %j', (claims, scopes) => {
    expect(scopesOf(claims)).toEqual(scopes);
  });

  it('lets scope narrow what a role would grant', () => {
    expect(scopesOf({ role: 'admin', scope: 'stream' })).toEqual(['stream']);
  });

  it('refuses what it was not granted by name', () => {
    const viewer = Principal.fromClaims({ role: 'viewer' });
    expect(() => viewer.require('readings:read')).not.toThrow();
    expect(() => viewer.require('commands:send')).toThrow(
      expect.objectContaining<Partial<DomainError>>({ kind: 'forbidden', code: 'insufficient_scope' }),
    );
  });

  it.each<[string, Claims, number | null, boolean]>([
    ['a viewer another patient', { role: 'viewer' }, 2, true],
    ['a viewer what names no patient', { role: 'viewer' }, null, true],
    ['a patient the own devices', { role: 'patient', patient_id: 1 }, 1, true],
    ['a patient the own devices by a text', { role: 'patient', patient_id: '1' }, 1, true],
    ['a patient another patient', { role: 'patient', patient_id: 1 }, 2, false],
    ['a patient what names no patient', { role: 'patient', patient_id: 1 }, null, false],
    ['a scope with a patient_id another patient', { scope: 'readings:read', patient_id: 1 }, 2, false],
    ['an admin with a patient_id another patient', { role: 'admin', patient_id: 1 }, 2, false],
    ['a patient who is a clinician too another patient', { roles: ['patient', 'clinician'] }, 2, true],
    ['a patient with an unknown role, without patient_id', { roles: ['patient', 'constructor'] }, 1, false],
    ['a patient with a scope, without patient_id', { role: 'patient', scope: 'readings:read' }, 1, false],
  ])('shows %s: %j, %j -> %j', (_who, claims, patientId, shown) => {
    expect(Principal.fromClaims(claims).maySee({ tenant: null, patientId })).toBe(shown);
  });

  it.each([
    undefined,
    null,
    0,
    -1,
    1.5,
    2_147_483_648,
    1e20,
    '2147483648',
    Number.NaN,
    '',
    '0',
    '-1',
    ' 1',
    '1x',
    [1],
    {},
    true,
  ])('shows nobody to a patient whose patient_id is %j', (patientId) => {
    const patient = Principal.fromClaims({
      role: 'patient',
      ...(patientId !== undefined && { patient_id: patientId }),
    });
    fc.assert(
      fc.property(
        fc.option(fc.integer({ min: 1, max: 2_147_483_647 })),
        (id) => !patient.maySee({ tenant: null, patientId: id }),
      ),
    );
  });

  it.each([
    [{}, 'default', true],
    [{}, null, true],
    [{}, 'north', false],
    [{ tenant: 'north' }, 'north', true],
    [{ tenant: 'north' }, 'south', false],
    [{ tenant: 'north' }, 'default', false],
    [{ tenant: 'north' }, null, false],
    [{ tenant: 'default' }, 'default', true],
  ])('shows %j what is of the tenant %j: %j', (claims, tenant, shown) => {
    expect(Principal.fromClaims({ role: 'admin', ...claims }).maySee({ tenant, patientId: 1 })).toBe(shown);
    const patient = Principal.fromClaims({ role: 'patient', patient_id: 1, ...claims });
    expect(patient.maySee({ tenant, patientId: 1 })).toBe(shown);
    expect(patient.maySee({ tenant, patientId: 2 })).toBe(false);
  });

  it.each([null, '', ' ', 7, {}, ['north'], true, '-', 'x'.repeat(101), 'a b', "a'b"])(
    'is not made of a tenant claim %j',
    (tenant) => {
      expect(() => Principal.fromClaims({ role: 'admin', tenant })).toThrow('names no tenant');
    },
  );

  it('knows its roles, for the record', () => {
    expect(Principal.fromClaims({ role: 'viewer' }).role).toBe('viewer');
    expect(Principal.fromClaims({ roles: ['viewer', 'clinician', 'else'] }).role).toBe('viewer clinician');
    expect(Principal.fromClaims({ scope: 'stream' }).role).toBeNull();
  });

  it('lets the anonymous viewer watch and nothing else', () => {
    expect(SCOPES.filter((scope) => Principal.anonymousViewer().has(scope))).toEqual(['stream']);
  });
});
