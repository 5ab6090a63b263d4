/**
 * `hpcp -fl`: a list of the sources, in a file.
 *
 * Comes in: the call; goes out: the list, its lines, and what went wrong. Names in it are those that a copy would give.
 */
import { display } from '../../../names.js';
import { listMapped } from '../../../ops/list.js';
import { runJob } from '../../run.js';
import { codeWith, type HpcpConsole, listFileError, readingProblems } from './codes.js';
import { filterOf, patternsOf, readExcludes } from './excludes.js';
import type { HpcpCall } from './flags.js';
import { hashing, journaled, outputPath, resources, settingsOf } from './settings.js';
import { neededSpill, sourcesOf, treesOf } from './sources.js';

/** Lists; `directory` is the working directory. */
export async function list({ values, positionals }: HpcpCall, out: HpcpConsole, directory: string): Promise<void> {
  const output = outputPath(values.target_file_list ?? '');
  const patterns = patternsOf(values);
  const found = await sourcesOf(positionals, values, out);
  const { rules, sources, notes } = readExcludes(patterns, found, directory);
  for (const note of notes) out.note(note);
  for (const { path } of sources) out.print(`Getting file list for ${display(path)}`);
  const allowed = resources(values);
  const begin = (entries: boolean) =>
    listMapped({
      ...hashing(values),
      sources: treesOf(sources),
      hashes: !values.no_hash_file_list,
      oneFileSystem: values.one_file_system,
      spillDirectory: neededSpill(out),
      entries,
      output,
      dryRun: values.dry_run,
      ...allowed,
      ...journaled(values, out.streams.env),
      ...filterOf(rules),
    });
  const report = await runJob(begin, settingsOf(values, codeWith(out, readingProblems)), out.streams).catch(
    listFileError,
  );
  out.notes(report);
  out.report(...readingProblems(report));
  out.print(
    `Time taken to get file list: ${report.elapsed.toFixed(4)} seconds`,
    `Number of files: ${report.outcomes.listed}`,
    values.dry_run ? 'Dry run: no list was written' : `Writing file list to ${display(output)}`,
  );
}
