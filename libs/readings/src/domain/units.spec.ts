import { ucumCode } from './units.js';

describe('ucumCode', () => {
  it.each([
    ['mm[Hg]', ['mm[Hg]', 'mmHg', 'mmhg']],
    ['kPa', ['kPa', 'kpa']],
    ['/min', ['/min', 'bpm', 'BPM', 'beats/min', '{beats}/min']],
    ['mg/dL', ['mg/dL', 'mg/dl']],
    ['mmol/L', ['mmol/L', 'mmol/l']],
    ['%', ['%', 'percent']],
    ['mV', ['mV']],
    ['uV', ['uV', '\u00b5V']],
    ['kg', ['kg']],
    ['g', ['g']],
    ['[lb_av]', ['[lb_av]', 'lb', 'lbs']],
    ['kg/m2', ['kg/m2', 'kg/m²']],
    ['Cel', ['Cel', 'C', '°C', 'celsius']],
    ['[degF]', ['[degF]', 'degF', 'F', '°F', 'fahrenheit']],
  ])('knows %s by all its spellings', (code, spellings) => {
    expect(spellings.map(ucumCode)).toEqual(spellings.map(() => code));
  });

  it.each(['', 'stone', 'K', 'MG/DL', 'kg ', 'constructor', 'toString', '__proto__'])(
    'does not know %j',
    (spelling) => {
      expect(ucumCode(spelling)).toBeNull();
    },
  );
});
