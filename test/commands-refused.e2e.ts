import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createDatabase, type TestDatabase } from './support/database.js';
import { FakeDevices } from './support/fake-device.js';
import { Mosquitto } from './support/mosquitto.js';
import { Service } from './support/service.js';
import { until } from './support/until.js';

const describeWithMosquitto = Mosquitto.installed ? describe : describe.skip;
if (!Mosquitto.installed) process.stderr.write('Refused commands not tested: Mosquitto is not installed\n');

const MAX_PACKET = 2_048;
const TOO_LARGE = { command: 'vendor.load', parameters: { text: 'x'.repeat(MAX_PACKET) } };
const SMALL = { command: 'measure_now' };

describeWithMosquitto('a command the broker will not take', () => {
  let database: TestDatabase;
  let mosquitto: Mosquitto;
  let service: Service;
  let devices: FakeDevices;

  async function begin(settings: readonly string[], version: '5' | '3.1.1'): Promise<void> {
    [database, mosquitto] = await Promise.all([createDatabase(), Mosquitto.prepare(settings)]);
    await mosquitto.start();
    service = await Service.start({
      DATABASE_URL: database.url,
      ...mosquitto.env,
      MQTT_PROTOCOL_VERSION: version,
      COMMANDS_ALLOW_CUSTOM: 'true',
    });
    devices = await FakeDevices.of(service);
    for (const id of ['pump_1', 'pump_2']) {
      await service.register(id, 'pulse_oximeter');
      await devices.online(id);
      await until(
        `${id} to be online`,
        async () => (await service.read(`/devices/${id}`)).body.status === 'online',
      );
    }
  }
  afterEach(async () => {
    await devices.end();
    await service.remove();
    await mosquitto.remove();
    await database.drop();
  });

  const order = async (
    id: string,
    body: object,
  ): Promise<Record<string, unknown> & { command_id: string }> => {
    const answer = await service.post(`/devices/${id}/command`, body);
    expect(answer.status).toBe(202);
    return answer.body;
  };
  const ledgerOf = async (id: string): Promise<Record<string, unknown>[]> =>
    (await service.read(`/devices/${id}/commands`)).body.data.reverse();

  it('because it is too large, as MQTT 5 says, fails at once', async () => {
    await begin([`max_packet_size ${MAX_PACKET}`], '5');
    const watcher = await service.live(`?token=${await service.token()}`);
    await watcher.hear('connected');
    const failed = await order('pump_1', TOO_LARGE);
    expect(failed).toMatchObject({
      status: 'failed',
      error: `too_large: the broker takes packets of up to ${MAX_PACKET} bytes`,
      attempts: 1,
      sent_at: null,
      completed_at: expect.any(String),
    });
    await watcher.hear('command.failed', (data) => data['command_id'] === failed.command_id);
    watcher.end();
    const next = await order('pump_1', SMALL);
    expect(next['status']).toBe('sent');
    await until('the next', () => devices.idsOf('pump_1').length === 1);
    expect(devices.idsOf('pump_1')).toEqual([next.command_id]);
  });

  it('and that ends the connection over it, as MQTT 3.1.1 has it, fails after some attempts; the others go out', async () => {
    await begin([`max_packet_size ${MAX_PACKET}`], '3.1.1');
    const poison = await order('pump_1', TOO_LARGE);
    const behind = [await order('pump_1', SMALL), await order('pump_1', SMALL)];
    const beside = await order('pump_2', SMALL);
    const ledger = await until('all to be sent or failed', async () => {
      const all = [...(await ledgerOf('pump_1')), ...(await ledgerOf('pump_2'))];
      return all.every(({ status }) => status !== 'queued') && all;
    });
    expect(ledger[0]).toMatchObject({
      command_id: poison.command_id,
      status: 'failed',
      error: 'refused_by_broker: the connection ended each of the 3 times it was sent alone',
      sent_at: null,
    });
    expect(ledger.slice(1).map(({ status }) => status)).toEqual(['sent', 'sent', 'sent']);
    await until('the others', () => devices.received.length >= 3);
    expect(devices.idsOf('pump_1')).toEqual(behind.map(({ command_id }) => command_id));
    expect(devices.idsOf('pump_2')).toEqual([beside.command_id]);
    // What is sent after that goes the usual way.
    expect(await order('pump_1', SMALL)).toMatchObject({ status: 'sent', attempts: 1 });
  });

  it('because the service may not write there fails at once', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'mqtt-service-acl-'));
    chmodSync(folder, 0o755);
    const acl = join(folder, 'acl');
    const rules = ['user mqtt_user', 'topic readwrite #', 'topic deny devices/pump_1/commands'];
    writeFileSync(acl, `${rules.join('\n')}\n`, { mode: 0o644 });
    await begin([`acl_file ${acl}`], '5');
    expect(await order('pump_1', SMALL)).toMatchObject({
      status: 'failed',
      error: 'refused_by_broker: not authorized (0x87)',
    });
    expect(await order('pump_2', SMALL)).toMatchObject({ status: 'sent' });
    rmSync(folder, { recursive: true });
  });
});
