/**
 * What is done by parts, as its coordinator sees it.
 *
 * Comes in: who works, where, and on what; goes out: what an operation says of itself. All operations have the same course:
 * a plan, parts, workers, and what comes last. They differ in what workers are told (`kept`), and in what comes last.
 */
import type { Report } from '../../events.js';
import type { PathLike } from '../../names.js';
import type { NativeFailure, NativeReport, NativeSnapshot } from '../../native/events.js';
import type { NativeNames, Resources } from '../../native/options.js';
import type { NativeJob } from '../../native.js';
import type { Given, JobOptions } from '../arguments.js';
import type { Job } from '../job.js';
import type { Books, Manner } from './books.js';
import type { Plan, RunDirectory } from './directory.js';

/** Who works on the parts of something. */
export interface Crew {
  /** Workers at a time, which share `jobs` and `limits`. Default: one for each host, or 2. */
  workers?: number;
  /** Hosts that have the workers, as ssh knows them; one as often as it is to have a worker. Default: they are here. */
  hosts?: readonly string[];
  /** Workers are tasks of Slurm: an array of jobs, with these words for sbatch; in an allocation that this runs in, its steps. Default: they are not. */
  slurm?: {
    /** Words for sbatch. Default: none. */
    args?: readonly string[];
    /** Workers are steps of the allocation that this runs in. Default false: they are an array of jobs. */
    allocated?: boolean;
  };
  /** The command that bulkhaul is on the hosts. Default: its name. */
  hostProgram?: string;
  /** Parts that the source is divided into. Default: sixteen for each worker. */
  parts?: number;
  /** The run directory. Default: with the journal, which is needed then; it goes when the run is complete. */
  directory?: PathLike;
  /** Seconds after which a worker of which nothing was heard is taken for lost, at the least. Default 60. */
  patience?: number;
  /** How bulkhaul is begun here, as words of a command. Default: by its name. */
  program?: readonly string[];
  /** The version of the program. Default: nothing is said of it. */
  version?: string;
}

/** What a run is made of, whatever is done in it. */
export interface Run extends Omit<Crew, 'directory'>, Omit<JobOptions, 'journal'>, Resources {
  /** A directory, absolute; what is in it is divided. */
  source: string;
  /** Rules know names from below the source on, and otherwise from its own. Default true. */
  contents?: boolean;
  /** Rules as rsync's --exclude. Default: everything is taken. */
  exclude?: readonly PathLike[];
  /** Do not go into other file systems. Default false. */
  oneFileSystem?: boolean;
  /** Only what a list names. Default: all of the source. */
  filesFrom?: Given<Omit<NativeNames, 'contents'>>;
  /** For temporary files without a name. Default: memory is used. */
  spillDirectory?: PathLike;
  /** What of the run's own is in the trees, by the names that it has there: rules leave it out. Default: nothing. */
  own?: readonly string[];
  /** What the caller has open meanwhile. Default: nothing. */
  inUse?: readonly PathLike[];
  /** The run directory; empty in a dry run. */
  path: string;
  /** What was begun is gone on with, even where it came to its end. */
  goesOn: boolean;
  /** The run directory stays when all is complete. */
  lasting: boolean;
}

/** An operation. */
export interface Operation extends Manner {
  /** What workers have to know. */
  readonly kept: Pick<Plan, 'destination' | 'terms' | 'task'>;
  /** Workers need room. */
  readonly writes: boolean;
  /** What is shown while parts are worked on. */
  readonly phase: NativeSnapshot['phase'];
  /** What is on disk for sure in the end. */
  readonly sync: NativeReport['sync'];
  /** Big files may be cut in ranges. */
  readonly ranges: boolean;
  /** Names in lists begin below the source, also where rules know them from its own on. */
  readonly below: boolean;
  /** How often each byte and each entry is gone through, with what comes last. */
  passes(): { bytes: number; entries: number };
  /** Refuses what can't be done, before anything is made, also for a dry run. `include`: has a job run as a part of this one. */
  check(run: Run, include: Stage['include']): Promise<void>;
  /** Makes what has to be there before anything is begun. Answers with a directory that something is written to or removed from. */
  prepare(): Promise<string | undefined>;
  /** What comes last, when all workers have ended; it is told to stop where `stopping` says so. */
  finish(stage: Stage): Promise<NativeReport>;
}

/** What an operation works with in the end. */
export interface Stage {
  readonly run: Run;
  readonly directory: RunDirectory;
  readonly books: Books;
  readonly plan: Plan;
  /** How many workers there were to be. */
  readonly workers: number;
  /** Seconds since the run was begun. */
  elapsed(): number;
  /** Whether it is to end early. */
  stopping(): boolean;
  /** Whether this is still the one that coordinates. */
  leads(): boolean;
  enter(phase: NativeSnapshot['phase']): void;
  /** Has a job run as a part of this one: it ends with it, and goes as fast. `failed`: takes what goes wrong. */
  include(job: Job, failed?: (failure: NativeFailure) => Promise<void>): Promise<Report>;
  /** The same of a job that tells everything itself. */
  tell(native: NativeJob): Promise<NativeReport>;
}
