import { readFileSync } from 'node:fs';
import { parseEnv } from 'node:util';
import { parseConfig } from './config.js';
import { VARIABLES } from './variables.js';

const text = readFileSync(new URL('../../../../.env.example', import.meta.url), 'utf8');
const lines = text.split('\n');

describe('.env.example', () => {
  it('names every variable once, in the order of the configuration, and nothing else', () => {
    // Not from parseEnv alone: it would hide a name that stands there twice.
    const assigned = lines.filter((line) => !line.startsWith('#') && line !== '');
    expect(assigned.map((line) => line.split('=')[0])).toEqual(Object.keys(VARIABLES));
    expect(Object.keys(parseEnv(text)).sort()).toEqual(Object.keys(VARIABLES).sort());
  });

  it.each(Object.entries(VARIABLES))('gives the default of %s below its description', (name, variable) => {
    const at = lines.indexOf(`${name}=${variable.default}`);
    expect(lines[at - 1]).toBe(`# ${variable.description}`);
    expect(parseEnv(text)[name]).toBe(variable.default);
  });

  it('changes nothing when it is copied to .env', () => {
    expect(parseConfig(parseEnv(text))).toStrictEqual(parseConfig({}));
  });
});
