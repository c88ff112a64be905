import { createHash } from 'node:crypto';

const DIGEST_LETTERS = 32;
/** A text that ends so looks like one that was changed. */
const MARKED = new RegExp(`~[0-9a-f]{${DIGEST_LETTERS}}$`);

/**
 * A text from outside as PostgreSQL can store it in a column of that length, and as no terminal would obey it. One that
 * has to be changed for that ends in a digest of what it was, so that two of them do not become one; so does one that
 * looks like it was changed.
 */
export function storableText(text: string, length: number): string {
  // eslint-disable-next-line no-control-regex -- they are what is looked for
  const harmless = text.toWellFormed().replace(/[\u0000-\u001f\u007f-\u009f]/g, '\ufffd');
  // A letter that is two units of JavaScript's is one to PostgreSQL.
  // eslint-disable-next-line @typescript-eslint/no-misused-spread -- as PostgreSQL counts
  const letters = [...harmless];
  if (harmless === text && letters.length <= length && !MARKED.test(text)) return text;
  const mark = `~${createHash('sha256').update(text, 'utf16le').digest('hex').slice(0, DIGEST_LETTERS)}`;
  return letters.slice(0, length - mark.length).join('') + mark;
}
