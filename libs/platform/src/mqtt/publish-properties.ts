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
