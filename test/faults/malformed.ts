import fc from 'fast-check';

const SEED = 20_261_125;
const SAMPLES = 2_000;

/** A message that must not be taken in, as text around the name it is known again by. */
type Maker = (mark: string) => string | Buffer;

const pressure =
  (besides: string): Maker =>
  (mark) =>
    `{"metric_type":"blood_pressure",${mark},${besides}}`;

/** Ways to be wrong that devices and attackers are known for. */
const CORPUS: readonly Maker[] = [
  (mark) => `{"metric_type":"blood_pressure",${mark}`,
  (mark) => `{${mark}}`,
  (mark) => `[{${mark}}]`,
  (mark) => `{${mark}}{"metric_type":"heart_rate","value":70}`,
  (mark) => `{'metric_type':'heart_rate','value':70,${mark}}`,
  (mark) =>
    Buffer.concat([Buffer.from(`{${mark},"note":"`), Buffer.from([0xc3, 0x28, 0xff]), Buffer.from('"}')]),
  (mark) => Buffer.concat([Buffer.from([0x1f, 0x8b, 0x08, 0x00]), Buffer.from(mark)]),
  (mark) => `\ufeff{"metric_type":"heart_rate","value":70,${mark}}`,
  pressure('"systolic":NaN,"diastolic":80'),
  pressure('"systolic":1e999,"diastolic":80'),
  pressure('"systolic":"120","diastolic":80'),
  pressure('"systolic":120,"diastolic":[80]'),
  pressure('"systolic":80,"diastolic":120'),
  pressure('"systolic":-120,"diastolic":80'),
  pressure('"systolic":120,"diastolic":80,"note":"\\u0000"'),
  pressure('"systolic":120,"diastolic":80,"device_id":"somebody_else"'),
  pressure('"systolic":120,"diastolic":80,"device_id":7'),
  pressure('"systolic":120,"diastolic":80,"unit":"bar"'),
  pressure('"systolic":120,"diastolic":80,"timestamp":"yesterday"'),
  pressure('"systolic":120,"diastolic":80,"timestamp":"2124-01-01T00:00:00Z"'),
  pressure('"systolic":120,"diastolic":80,"timestamp":"2024-02-30T00:00:00Z"'),
  pressure('"systolic":120,"diastolic":80,"timestamp":1e300'),
  pressure('"systolic":120,"diastolic":80,"timestamp":{}'),
  pressure('"systolic":120,"diastolic":80,"readings":[]'),
  pressure('"value":120'),
  pressure('"systolic":null,"diastolic":null'),
  (mark) => `{"metric_type":"glucose","value":100,${mark}}`,
  (mark) => `{"metric_type":"__proto__","value":100,${mark}}`,
  (mark) => `{"metric_type":"heart_rate","value":70,"unit":"constructor",${mark}}`,
  (mark) => `{"readings":[{"metric_type":"heart_rate","value":70},{"metric_type":"heart_rate"}],${mark}}`,
  (mark) => `{"readings":{"length":1},${mark}}`,
  (mark) => `{"metric_type":"ecg","lead":"II","sampling_rate":250,"samples":[0.1],${mark}}`,
  (mark) => `{${mark},"deep":${'['.repeat(5_000)}${']'.repeat(5_000)}}`,
  (mark) => `{"metric_type":"heart_rate","value":70,${mark},"pad":"${'x'.repeat(262_144)}"}`,
];

/** JSON documents and bytes nobody thought of. */
const GENERATED: readonly Maker[] = fc.sample<Maker>(
  fc.oneof(
    fc
      .jsonValue()
      .filter((value) => typeof value !== 'number')
      .map(
        (value): Maker =>
          (mark) =>
            `{"metric_type":"heart_rate","value":${JSON.stringify(value)},${mark}}`,
      ),
    fc
      .jsonValue()
      .filter((value) => typeof value !== 'string')
      .map(
        (value): Maker =>
          (mark) =>
            `{"metric_type":${JSON.stringify(value)},"value":70,${mark}}`,
      ),
    fc.jsonValue().map(
      (value): Maker =>
        (mark) =>
          `[${JSON.stringify(value)},{${mark}}]`,
    ),
    fc.uint8Array({ minLength: 1, maxLength: 64 }).map(
      (bytes): Maker =>
        (mark) =>
          Buffer.concat([bytes, Buffer.from(`{${mark}`)]),
    ),
    fc.string({ minLength: 1, unit: 'grapheme' }).map(
      (text): Maker =>
        (mark) =>
          `{${mark},"metric_type":${JSON.stringify(`not a metric ${text}`)},"value":1}`,
    ),
  ),
  { seed: SEED, numRuns: SAMPLES },
);

const MAKERS = [...CORPUS, ...GENERATED];

/** Message number n that must end in quarantine; its `"message":"<id>"` is found in its bytes. */
export function malformed(number: number, id: string): Buffer {
  const make = MAKERS[number % MAKERS.length];
  return Buffer.from(make?.(`"message":"${id}"`) ?? '');
}
