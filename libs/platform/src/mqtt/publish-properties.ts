/** What a PUBLISH of MQTT 5 can say besides its payload (section 3.3.2.3). */
export interface PublishProperties {
  /** Seconds after which a broker no longer delivers it. */
  readonly messageExpiryInterval: number;
  readonly contentType: string;
  readonly responseTopic: string;
  readonly correlationData: string;
  readonly userProperties: Readonly<Record<string, string>>;
}

/** Section 2.2.2.2: identifiers of properties. */
const PAYLOAD_FORMAT = 0x01;
const MESSAGE_EXPIRY = 0x02;
const CONTENT_TYPE = 0x03;
const RESPONSE_TOPIC = 0x08;
const CORRELATION_DATA = 0x09;
const SUBSCRIPTION_IDENTIFIER = 0x0b;
const TOPIC_ALIAS = 0x23;
const USER_PROPERTY = 0x26;
/** The payload is UTF-8 text. */
const TEXT = 1;

/** The properties as they stand on the wire, behind their length. */
export function encodeProperties(properties: PublishProperties): Buffer {
  const expiry = Buffer.alloc(5);
  expiry[0] = MESSAGE_EXPIRY;
  expiry.writeUInt32BE(properties.messageExpiryInterval, 1);
  return Buffer.concat([
    Buffer.of(PAYLOAD_FORMAT, TEXT),
    expiry,
    Buffer.of(CONTENT_TYPE),
    text(properties.contentType),
    Buffer.of(RESPONSE_TOPIC),
    text(properties.responseTopic),
    Buffer.of(CORRELATION_DATA),
    text(properties.correlationData),
    ...Object.entries(properties.userProperties).flatMap(([name, value]) => [
      Buffer.of(USER_PROPERTY),
      text(name),
      text(value),
    ]),
  ]);
}

/** Section 1.5.4: its length in two bytes, then UTF-8. */
function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  const length = Buffer.alloc(2);
  length.writeUInt16BE(bytes.length);
  return Buffer.concat([length, bytes]);
}

/** The correlation data among a PUBLISH's properties, as text; null when there are none. What is malformed has none. */
export function correlationDataOf(properties: Buffer): string | null {
  for (let at = 0; at < properties.length;) {
    const property = properties[at];
    at += 1;
    if (property === CORRELATION_DATA) {
      const end = afterText(properties, at);
      return end <= properties.length ? properties.toString('utf8', at + 2, end) : null;
    }
    const next = after(properties, property, at);
    if (next === null) return null;
    at = next;
  }
  return null;
}

/** Where the property behind this one begins; null for one that a PUBLISH does not have. */
function after(properties: Buffer, property: number | undefined, at: number): number | null {
  switch (property) {
    case PAYLOAD_FORMAT:
      return at + 1;
    case MESSAGE_EXPIRY:
      return at + 4;
    case TOPIC_ALIAS:
      return at + 2;
    case CONTENT_TYPE:
    case RESPONSE_TOPIC:
      return afterText(properties, at);
    case USER_PROPERTY:
      return afterText(properties, afterText(properties, at));
    case SUBSCRIPTION_IDENTIFIER: {
      let end = at;
      while ((properties[end] ?? 0) >= 0x80) end += 1;
      return end + 1;
    }
    default:
      return null;
  }
}

/** Section 1.5.4; behind the end when it is cut off. */
function afterText(properties: Buffer, at: number): number {
  return at + 2 <= properties.length ? at + 2 + properties.readUInt16BE(at) : properties.length + 1;
}
