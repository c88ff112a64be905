import { accountOf, aclsOf, findDrift, isOurs, type DynsecClient, type DynsecRole } from './dynsec-drift.js';

const FILTERS = {
  data: 'devices/+/data',
  status: 'devices/+/status',
  responses: 'devices/+/responses',
  commands: 'devices/+/commands',
};
const account = (id: string): DynsecClient => accountOf(id);
const role = (id: string): DynsecRole => ({ rolename: `device:${id}`, acls: aclsOf(FILTERS, id) });
const ADMIN: DynsecClient = { username: 'mqtt_user', roles: [{ rolename: 'admin' }] };
const drift = (devices: string[], clients: DynsecClient[], roles: DynsecRole[]): unknown =>
  findDrift(FILTERS, new Set(devices), clients, roles);

describe('the difference between registry and broker', () => {
  it('is none where each device has its account, in whatever order the rules are listed', () => {
    const reversed = { rolename: 'device:a', acls: [...aclsOf(FILTERS, 'a')].reverse() };
    expect(drift(['a'], [ADMIN, account('a')], [{ rolename: 'admin' }, reversed])).toEqual({
      repairs: [],
      missing: [],
    });
  });

  it('is repaired: accounts and roles of devices that are not there', () => {
    expect(drift([], [account('a')], [role('a'), role('b')])).toEqual({
      repairs: [
        { command: 'deleteClient', username: 'a' },
        { command: 'deleteRole', rolename: 'device:a' },
        { command: 'deleteRole', rolename: 'device:b' },
      ],
      missing: [],
    });
  });

  it.each<[string, Partial<DynsecClient>]>([
    ['another client id', { clientid: 'b' }],
    ['an empty client id', { clientid: '' }],
    ['a further role', { roles: [{ rolename: 'device:a' }, { rolename: 'admin' }] }],
    ["another device's role", { roles: [{ rolename: 'device:b' }] }],
    ['no role', { roles: [] }],
    ['a group', { groups: [{ groupname: 'g' }] }],
  ])('is repaired: %s', (_what, difference) => {
    expect(drift(['a'], [{ ...account('a'), ...difference }], [role('a')])).toEqual({
      repairs: [{ command: 'modifyClient', ...accountOf('a') }],
      missing: [],
    });
  });

  it('is repaired: a disabled account, without a new password', () => {
    expect(drift(['a'], [{ ...account('a'), disabled: true }], [role('a')])).toEqual({
      repairs: [{ command: 'enableClient', username: 'a' }],
      missing: [],
    });
  });

  it('is repaired: rules that are gone, narrower or wider', () => {
    const acls = aclsOf(FILTERS, 'a');
    const expected = { rolename: 'device:a', acls };
    expect(drift(['a'], [account('a')], [])).toMatchObject({
      repairs: [{ command: 'createRole', ...expected }],
    });
    for (const changed of [
      [],
      acls.slice(1),
      [...acls, { acltype: 'subscribePattern', topic: '#', allow: true }],
      acls.map((acl) => ({ ...acl, allow: false })),
    ])
      expect(drift(['a'], [account('a')], [{ rolename: 'device:a', acls: changed }])).toMatchObject({
        repairs: [{ command: 'modifyRole', ...expected }],
      });
  });

  it('names devices without an account, and takes a namesake that is not ours for none', () => {
    const namesake = { username: 'b', roles: [{ rolename: 'nurse' }] };
    expect(drift(['a', 'b'], [ADMIN, namesake], [role('a')])).toEqual({ repairs: [], missing: ['a', 'b'] });
  });

  it('knows its own accounts by their role or their mark', () => {
    expect(
      [ADMIN, account('a'), { ...account('a'), roles: [] }, { ...account('a'), textname: '' }].map(isOurs),
    ).toEqual([false, true, true, true]);
  });
});
