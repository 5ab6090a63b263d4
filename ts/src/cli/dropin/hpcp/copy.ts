/**
 * What `hpcp` deletes as part of a copy: extra entries of the destination (`-rme`), and the sources of a move (`-d`
 * with `-rm`).
 *
 * Comes in: what would go, and at the end the report; goes out: whether somebody agrees, and lines for the summary.
 * Nothing goes without a yes, typed or piped, or `-rf`.
 */
import type { Report, Victims } from '../../../events.js';
import { display } from '../../../names.js';
import { bytes, count } from '../../../report/units.js';
import { askConsent } from '../../consent.js';
import type { Context } from '../../run.js';
import { RULE } from './summary.js';

/** Shows what would go and asks; `stop` for ^C. */
export async function agreed(victims: readonly Victims[], streams: Context, stop: () => void): Promise<boolean> {
  const answer = await askConsent(question(victims), streams);
  if (answer === 'interrupted') stop();
  return answer === 'yes';
}

/** The question, with what it is about: one answer is for all of it. */
export function question(victims: readonly Victims[]): string {
  const what = victims.map(({ what }) => what).join();
  const ask = { extra: 'delete them', sources: 'continue' }[what] ?? 'delete both';
  return `${victims.map(shown).join('')}Do you want to ${ask}? (y/n) `;
}

function shown({ what, entries, bytes: size, first }: Victims): string {
  const many = `${count(entries, 'entry', 'entries')} (${bytes(size)})`;
  const names = first.map((name) => `  ${display(name)}\n`).join('');
  if (what === 'sources') {
    return `${many} will be removed from the sources, each when its copy is proved:\n${names}`;
  }
  const more = entries - first.length;
  const rest = more > 0 ? `  and ${more.toLocaleString('en-US')} more\n` : '';
  return `${many} of the destination are extra:\n${names}${rest}`;
}

/** What was deleted, after the totals of the copy. */
export function deletionLines({ extras, outcomes, removedSources, keptSources }: Report): string[] {
  const lines: string[] = [];
  if (extras > 0) lines.push(`Removed ${outcomes.removed} of ${extras} extra files, links and folders`);
  if (removedSources + keptSources > 0) {
    lines.push(`Removed ${removedSources} files, links and folders from the sources`);
  }
  if (keptSources > 0) lines.push(`Move left ${keptSources} entries in the sources`);
  return lines.length > 0 ? [...lines, RULE] : [];
}
