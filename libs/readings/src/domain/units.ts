/** Common spellings of units and their UCUM codes (case-sensitive variant, https://ucum.org). */
const UCUM_OF_SPELLING: Readonly<Record<string, string>> = {
  'mm[Hg]': 'mm[Hg]',
  mmHg: 'mm[Hg]',
  mmhg: 'mm[Hg]',
  kPa: 'kPa',
  kpa: 'kPa',
  '/min': '/min',
  bpm: '/min',
  BPM: '/min',
  'beats/min': '/min',
  '{beats}/min': '/min',
  'mg/dL': 'mg/dL',
  'mg/dl': 'mg/dL',
  'mmol/L': 'mmol/L',
  'mmol/l': 'mmol/L',
  '%': '%',
  percent: '%',
  mV: 'mV',
  uV: 'uV',
  // U+00B5, the micro sign, and U+03BC, the Greek letter.
  µV: 'uV',
  μV: 'uV',
  kg: 'kg',
  g: 'g',
  '[lb_av]': '[lb_av]',
  lb: '[lb_av]',
  lbs: '[lb_av]',
  'kg/m2': 'kg/m2',
  'kg/m²': 'kg/m2',
  Cel: 'Cel',
  C: 'Cel',
  '°C': 'Cel',
  celsius: 'Cel',
  Celsius: 'Cel',
  degC: 'Cel',
  '℃': 'Cel',
  '[degF]': '[degF]',
  degF: '[degF]',
  F: '[degF]',
  '°F': '[degF]',
  fahrenheit: '[degF]',
  Fahrenheit: '[degF]',
  '℉': '[degF]',
};

/** The UCUM code of a unit as devices spell it, or null when the spelling is unknown. */
export function ucumCode(spelling: string): string | null {
  return Object.hasOwn(UCUM_OF_SPELLING, spelling) ? (UCUM_OF_SPELLING[spelling] ?? null) : null;
}

/** NIST SP 811 (2008), appendix B: 1 mmHg = 133.3224 Pa, 1 lb = 0.45359237 kg. */
export const mmHgOfKPa = (kPa: number): number => kPa / 0.133_322_4;
export const kgOfPound = (pound: number): number => pound * 0.453_592_37;
export const kgOfGram = (gram: number): number => gram / 1_000;
export const celsiusOfFahrenheit = (fahrenheit: number): number => (fahrenheit - 32) / 1.8;
/** Molar mass of glucose 180.16 g/mol, so 1 mmol/L = 18.016 mg/dL. */
export const mgPerDlOfMmolPerL = (mmol: number): number => mmol * 18.016;
export const mVOfMicrovolt = (microvolt: number): number => microvolt / 1_000;
