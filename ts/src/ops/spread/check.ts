/**
 * Whether a host can have workers of a run, before anything is planned.
 *
 * Comes in: a question, which goes over the connection, and hosts; goes out: what keeps each of them from it, if anything does,
 * and whether it sees the run directory itself. A host where a file system is not mounted would lose its parts, or fill its own
 * disk: it has to see in the source an entry that is there, and where something is written or removed a file that was made for
 * this. Clocks are only shown: nothing depends on them.
 */
import { closeSync, fsyncSync, openSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { lstat, readdir } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { BulkhaulError, whyOf } from '../../error.js';
import { display, fromBytes, toBytes } from '../../names.js';
import { boolean, record, text } from '../arguments.js';
import { ask, LOST } from '../transfer/ssh.js';
import { RunDirectory } from './directory.js';

/** Milliseconds between the clocks of two hosts that nobody needs to hear of. */
const SKEW = 2000;
/** Hosts that are asked at once. */
const AT_ONCE = 16;

/** What a host has to see. */
interface Question {
  /** The run directory, and what is written in it. */
  directory: string;
  /** The source, and an entry of it; none: it is empty. */
  source: string;
  entry: string | undefined;
  /** A directory that is written to, and the name of a file that is in it for this; none: nothing is written. */
  beside: string | undefined;
  witness: string;
  /** Something is written there, and not only removed. */
  writes: boolean;
}

const QUESTION = record<Question>(
  { directory: text, source: text, entry: text, beside: text, witness: text, writes: boolean },
  ...(['directory', 'source', 'witness', 'writes'] as const),
);

/** What a host answers. */
interface Answer {
  host: string;
  version: string;
  /** Milliseconds since 1970, as its clock has it. */
  time: number;
  /** Bytes and inodes that are free at the destination; inodes 0: the file system does not count them. */
  free: { bytes: number; inodes: number };
  /** It sees the run directory. */
  sees: boolean;
  /** Why it can't take part. */
  why?: string;
}

/** The answer of this host to a question of JSON, as one line of it. Throws `USAGE` for what is no question. */
export async function answer(asked: string, version: string): Promise<string> {
  let question: unknown;
  try {
    question = JSON.parse(asked);
  } catch (error) {
    throw new BulkhaulError('USAGE', `what a host has to see is JSON on standard input: ${whyOf(error)}`);
  }
  QUESTION(question, 'the question');
  const { directory, source, entry, beside, witness, writes } = question as Question;
  const absent = (path: string) =>
    lstat(toBytes(path)).then(
      () => undefined,
      (error: Error) => whyOf(error),
    );
  const noSource = await absent(entry === undefined ? source : join(source, entry));
  const noWitness = beside && (await absent(join(beside, witness)));
  const unseen = noSource
    ? `it does not see the source: ${noSource}`
    : noWitness && `${display(beside)} is not the same directory there, it may not be mounted: ${noWitness}`;
  const why = unseen || (beside && writes && cannotWrite(beside, witness));
  const { bavail = 0, bsize = 0, ffree = 0 } = why ? {} : statfsSync(toBytes(beside ?? source));
  const said: Answer = {
    ...{ host: hostname(), version, time: Date.now(), free: { bytes: bavail * bsize, inodes: ffree } },
    sees: new RunDirectory(directory).witness() === witness,
    ...(why && { why }),
  };
  return `${JSON.stringify(said)}\n`;
}

/** Bytes of a file that shows whether there is room: more than what some file systems have in an inode. */
const TRIED = 16 * 1024;

/** Why nothing can be written to a directory here: it is full, or somebody's quota is, or it is only to be read. */
function cannotWrite(directory: string, witness: string): string | undefined {
  const name = join(directory, `${witness}.${hostname()}.${process.pid}`);
  const path = toBytes(name);
  let file: number | undefined;
  try {
    file = openSync(path, 'wx', 0o600);
    writeFileSync(file, Buffer.alloc(TRIED, 1));
    // Servers tell of a quota when they have it.
    fsyncSync(file);
    return undefined;
  } catch (error) {
    return `nothing can be written to ${display(directory)} there: ${whyOf(error, name)}`;
  } finally {
    if (file !== undefined) {
      closeSync(file);
      rmSync(path, { force: true });
    }
  }
}

/** Why hosts can't be used, by their names; and what there is to say of the others. */
export interface Muster {
  faults: Map<string, string>;
  notes: string[];
  /** Those that the run directory is carried to. */
  blind: Set<string>;
}

/** Asks hosts. */
export async function muster(
  hosts: readonly string[],
  directory: RunDirectory,
  {
    source,
    beside,
    writes,
    version,
    program,
  }: Pick<Question, 'source' | 'beside' | 'writes'> & { version: string | undefined; program: readonly string[] },
): Promise<Muster> {
  const [entry] = await readdir(toBytes(source), { encoding: 'buffer' });
  const witness = `.bulkhaul-witness-${process.pid}-${Math.random().toString(36).slice(2, 10)}`;
  if (beside !== undefined) closeSync(openSync(toBytes(join(beside, witness)), 'wx', 0o600));
  const found: Muster = { faults: new Map(), notes: [], blind: new Set() };
  try {
    directory.setWitness(witness);
    const question: Question = {
      ...{ directory: directory.path, source, entry: entry && fromBytes(entry) },
      ...{ beside, witness, writes },
    };
    const input = async function* () {
      yield Buffer.from(JSON.stringify(question));
    };
    const queue = [...new Set(hosts)];
    const work = async () => {
      for (let host = queue.shift(); host !== undefined; host = queue.shift()) await one(host);
    };
    const one = async (host: string) => {
      const asked = Date.now();
      const [command = '', ...args] = program;
      const { code, stdout, stderr } = await ask(
        host,
        [command, ...args, 'worker', '--check', '--', directory.path],
        input(),
      );
      const said = stderr.trim().split('\n').at(-1) ?? '';
      if (code === LOST) return void found.faults.set(host, `it can't be reached${said && `: ${said}`}`);
      let told: Answer;
      try {
        told = JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Answer;
      } catch {
        return void found.faults.set(host, said || `the check ended with ${code}`);
      }
      if (told.why !== undefined) return void found.faults.set(host, told.why);
      if (version !== undefined && told.version !== version)
        return void found.faults.set(host, `it has bulkhaul ${told.version}, and this is ${version}`);
      if (!told.sees) {
        found.blind.add(host);
        found.notes.push(`host ${host} does not see the run directory: it is carried by the connection`);
      }
      const skew = told.time - (asked + Date.now()) / 2;
      if (Math.abs(skew) > SKEW)
        found.notes.push(
          `the clock of ${host} is ${Math.abs(skew / 1000).toFixed(0)} s ${skew > 0 ? 'ahead' : 'behind'}`,
        );
      if (beside !== undefined && told.free.bytes === 0)
        found.notes.push(`${host} says that there is no room in ${display(beside)}`);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
  } finally {
    if (beside !== undefined) rmSync(toBytes(join(beside, witness)), { force: true });
  }
  const causes = [...found.faults].map(([host, why]) => `${host}: ${why}`).join('; ');
  if (hosts.every((host) => found.faults.has(host)))
    throw new BulkhaulError('NO_START', `no host can have a worker (${causes})`);
  return found;
}
