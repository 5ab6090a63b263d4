/**
 * What a copy takes from where to where.
 *
 * Comes in: the call; goes out: sources and destinations as the copy takes them, and as people know them.
 */
import type { Report } from '../../../events.js';
import type { MappedCopyOptions } from '../../../ops/mapping.js';
import { askedCall } from './ask.js';
import { type HpcpConsole, Refused } from './codes.js';
import { destinationLine, destinationsOf, mapSources, sourcesThatAreDestinations } from './destinations.js';
import { filterOf, patternsOf, readExcludes } from './excludes.js';
import type { HpcpCall } from './flags.js';
import { nameList, sourcesOf } from './sources.js';

export interface Placed {
  /** What of the copy's options says what goes where. */
  options: Pick<MappedCopyOptions, 'sources' | 'destinations'> & Partial<MappedCopyOptions>;
  /** The sources and the destinations, for people. */
  shown: readonly string[];
  destinations: readonly string[];
  /** The copy has come to its end. */
  end?: (report: Report) => Promise<void>;
  /** In the end, however it came. */
  close?: () => Promise<void>;
}

/** Directories and files as they lie there. */
export async function placeTrees(
  { values, positionals }: HpcpCall,
  out: HpcpConsole,
  directory: string,
): Promise<Placed> {
  const patterns = patternsOf(values);
  const { sources: args, destinations: wanted } = await askedCall(positionals, values, out.streams);
  const found = await sourcesOf(args, values, out);
  const destinations = destinationsOf(found, wanted, values, out);
  const { rules, sources, notes } = readExcludes(patterns, found, directory);
  for (const note of notes) out.note(note);
  const mapping = mapSources(sources, destinations, {
    create: !values.no_create_dir,
    rooted: nameList(values) !== undefined,
  });
  const same = sourcesThatAreDestinations(mapping);
  if (same.length > 0) throw new Refused(same);
  if (destinations.length > 1) out.note(destinationLine(destinations));
  return { options: { ...mapping, ...filterOf(rules) }, shown: sources.map(({ path }) => path), destinations };
}
