import { Mosquitto } from './mosquitto.js';

/** A broker the suites run against. */
export interface BrokerUnderTest {
  readonly name: string;
  /** Environment for the service. */
  readonly env: Readonly<Record<string, string>>;
  /** Null: the embedded one, which lives and dies with the service. */
  readonly mosquitto: Mosquitto | null;
  stop(): Promise<void>;
}

type BrokerKind = 'embedded' | 'mosquitto 5' | 'mosquitto 3.1.1';

/** The brokers present on this machine; says which is missing. */
export function brokersHere(): readonly BrokerKind[] {
  if (Mosquitto.installed) return ['embedded', 'mosquitto 5', 'mosquitto 3.1.1'];
  process.stderr.write(
    'Not tested against Mosquitto: it is not installed (Debian: apt-get install mosquitto)\n',
  );
  return ['embedded'];
}

export async function startBroker(kind: BrokerKind): Promise<BrokerUnderTest> {
  if (kind === 'embedded') return { name: kind, env: {}, mosquitto: null, stop: () => Promise.resolve() };
  const mosquitto = await Mosquitto.prepare();
  await mosquitto.start();
  const env = { ...mosquitto.env, MQTT_PROTOCOL_VERSION: kind === 'mosquitto 5' ? '5' : '3.1.1' };
  return { name: kind, env, mosquitto, stop: () => mosquitto.remove() };
}
