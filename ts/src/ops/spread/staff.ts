/**
 * The workers of a run: how they are begun, followed by others when they die, and sent away.
 *
 * Comes in: who is to work, and a plan; goes out: workers at work, until all parts have their states or nobody is left. What
 * they have done it leaves to the states of the parts to say; what they are doing their beats tell.
 */
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { display } from '../../names.js';
import type { Books } from './books.js';
import { serve } from './carried.js';
import { type Hired, hire, sharing, type WorkerEnded, workerCommand } from './crew.js';
import type { Beat, PartState, Plan, RunDirectory } from './directory.js';
import type { Crew } from './operation.js';
import { attempt } from './protocol.js';
import { SlurmArray, STEP, submission } from './slurm.js';

/** Milliseconds between two looks at the run directory. */
export const LOOK = 500;
/** Times that workers are submitted to Slurm, where none is left and parts are. */
const SUBMISSIONS = 4;
/** Looks at the run directory for each at the queue of Slurm. */
const LOOKS_AT_SLURM = 6;
/** Milliseconds that workers have to end in when all parts are done. */
const GRACE = 10_000;
/** Milliseconds in which the process of a worker goes that has ended: nothing is left to do for it. */
const LINGER = 3000;
/** Workers that may die for each that there is to be, before no more are begun. */
const DEATHS_PER_WORKER = 3;
/** Attempts at a part that ended with the death of its worker, before it is taken for failed. */
const MOST_ATTEMPTS = 5;

/** Who is to work. */
export interface Muster {
  /** How many at a time. */
  workers: number;
  /** Those that can have workers; none: they are here. */
  hosts: readonly string[];
  /** Those of them that do not see the run directory. */
  blind: ReadonlySet<string>;
  /** How bulkhaul is begun where they are. */
  program: readonly string[];
  /** Where the sockets of connections are. */
  sockets: string | undefined;
  slurm: Crew['slurm'];
}

/** A worker that was begun. */
interface Member extends Hired {
  /** What it is called in the run. */
  name: string;
  /** Whose place it has, from 0. */
  index: number;
  host: string | undefined;
  /** When it was first seen to have ended, with its process still there. */
  over?: number;
}

/** The commands that would be run, each with where. */
export function* commands({ workers, hosts, blind, program, slurm }: Muster, directory: string): Generator<string> {
  if (slurm && !slurm.allocated) {
    const words = submission(directory, workers, slurm.args ?? []);
    yield `here: ${words.map(display).join(' ')}`;
    return;
  }
  const tag = newTag();
  for (let index = 0; index < workers; index += 1) {
    const host = hosts[index % Math.max(1, hosts.length)];
    const carried = host !== undefined && blind.has(host);
    const command = workerCommand(program, directory, { name: nameOf(tag, index, 1), index, carried });
    yield `${host === undefined ? 'here' : `on ${host}`}: ${command.map(display).join(' ')}`;
  }
}

export class Staff {
  readonly #crew = new Map<string, Member>();
  readonly #tag = newTag();
  #beats = new Map<string, Beat>();
  #stopping: 'no' | 'gently' | 'now' = 'no';
  #deaths = 0;
  #hired = 0;
  #wake: () => void = () => undefined;
  #dismissed: NodeJS.Timeout | undefined;

  /** `look`: called as often as there may be something new. */
  constructor(
    readonly muster: Muster,
    readonly plan: Plan,
    readonly directory: RunDirectory,
    readonly books: Books,
    readonly look: () => Promise<void>,
  ) {}

  /** How many there are. */
  get size(): number {
    return this.#crew.size;
  }

  /** How each of them is. */
  get beats(): Beat[] {
    return [...this.#beats.values()];
  }

  /** All parts, as far as workers come. */
  async work(): Promise<void> {
    const { slurm } = this.muster;
    if (slurm && !slurm.allocated) await this.#array(slurm.args ?? []);
    else await this.#attend();
    clearTimeout(this.#dismissed);
  }

  stop(abort: boolean): void {
    if (this.#stopping !== 'now') this.#stopping = abort ? 'now' : 'gently';
    for (const { stop } of this.#crew.values()) stop(abort);
    this.#wake();
  }

  /** Reads how they are. */
  observe(): void {
    const { slurm } = this.muster;
    const names = slurm ? [...this.directory.workers()].flatMap(([name, over]) => (over ? [] : [name])) : [];
    this.#beats = new Map(
      [...this.#crew.keys(), ...names].flatMap((name) => {
        const beat = this.directory.beatOf(name);
        return beat ? [[name, beat]] : [];
      }),
    );
  }

  /** Workers that are begun here, to their end. */
  async #attend(): Promise<void> {
    const many = Math.min(this.muster.workers, this.books.left);
    for (let index = 0; index < many; index += 1) this.#hire(index);
    while (this.#crew.size > 0) {
      await this.#pause();
      await this.look();
      this.#forsake();
      // Those that wait for more need not look again.
      if (this.books.left === 0) this.#dismiss();
    }
  }

  /** Workers that Slurm begins, as long as there is something to do and any of them is left. */
  async #array(args: readonly string[]): Promise<void> {
    const { program, workers } = this.muster;
    let array = await SlurmArray.adopt(this.directory);
    for (let more = SUBMISSIONS; this.books.left > 0 && this.#stopping === 'no'; ) {
      if (array === undefined && more === 0) return;
      if (array === undefined) {
        more -= 1;
        array = await SlurmArray.submit(this.directory, program, workers, args);
        this.books.note('worker', `submitted to Slurm as ${array.id}`);
      }
      for (let looks = LOOKS_AT_SLURM; looks > 0 && this.#stopping === 'no'; looks -= 1) {
        await this.#pause();
        await this.look();
        if (this.books.left === 0) break;
      }
      if (this.books.left > 0 && this.#stopping === 'no' && !(await array.isLeft())) {
        await this.look();
        array = undefined;
      }
    }
    await array?.cancel();
  }

  #hire(index: number): void {
    const { hosts, blind, program, slurm, sockets } = this.muster;
    this.#hired += 1;
    const name = nameOf(this.#tag, index, this.#hired);
    const host = hosts[index % Math.max(1, hosts.length)];
    const carried = host !== undefined && blind.has(host);
    const words = workerCommand(program, this.directory.path, { name, index, carried });
    const hired = hire([...(slurm ? STEP : []), ...words], {
      ...{ log: this.directory.log(name), host, options: sockets === undefined ? [] : sharing(sockets) },
      ...(carried && { serves: (from, to) => serve(from, to, this.directory, name) }),
    });
    const member: Member = { ...hired, name, index, host };
    this.#crew.set(name, member);
    if (this.#stopping !== 'no') member.stop(this.#stopping === 'now');
    void hired.ended.then((how) => this.#part(member, how));
  }

  /** A worker is not there any more. */
  #part({ name, index, host }: Member, { code, signal, why, lost }: WorkerEnded): void {
    // Of one that was forsaken all was said.
    if (!this.#crew.delete(name)) return;
    this.#beats.delete(name);
    const left = this.#stopping === 'no' ? undefined : this.directory.beatOf(name)?.left;
    if (left) this.books.leave(left);
    // It is known to be gone: nobody has to wait for what it had.
    if (!lost && !this.muster.slurm) this.directory.end(name);
    if (code !== 0 && this.books.left > 0 && this.#stopping === 'no') {
      this.#condemn(name);
      const status = signal === undefined ? `with code ${code}` : `by ${signal}`;
      const how = why === undefined ? status : `without having begun: ${why}`;
      const where = host === undefined ? '' : ` on ${host}`;
      this.books.note(
        'worker',
        `worker ${name}${where} ${lost ? 'is lost: ssh ended' : 'ended'} ${how}`,
        this.directory.log(name),
      );
      this.#deaths += 1;
      // One that can't work here says so, and another one could not either.
      const few = this.#deaths <= this.muster.workers * DEATHS_PER_WORKER;
      if (!lost && code !== 2 && why === undefined && few) this.#hire(index);
    }
    this.#wake();
  }

  /** Does not wait for processes that hang in the system though their workers have ended. */
  #forsake(): void {
    const workers = this.directory.workers();
    const now = performance.now();
    for (const member of this.#crew.values()) {
      if (workers.get(member.name) !== true) continue;
      member.over ??= now;
      if (now - member.over < LINGER && this.#stopping !== 'now') continue;
      member.leave();
      this.#part(member, { code: undefined, signal: 'SIGKILL', lost: false });
    }
  }

  /** All parts are done: nobody is needed any more, and who can't be told that is not waited for. */
  #dismiss(): void {
    if (this.#dismissed !== undefined) return;
    for (const { stop } of this.#crew.values()) stop(false);
    this.#dismissed = setTimeout(() => {
      for (const { leave } of this.#crew.values()) leave();
    }, GRACE).unref();
  }

  /** A part at which one worker after another has died is not tried any more: each of its entries failed. */
  #condemn(worker: string): void {
    for (const [part, { attempt: last, settled }] of this.directory.standings()) {
      const planned = this.plan.parts[part - 1];
      if (settled || last < MOST_ATTEMPTS || !planned || this.directory.holder(part, last) !== worker) continue;
      const name = `coordinator-${process.pid}`;
      // What nobody has done then is done in the end: of a range its file, and of what one tells all of the rest.
      const failed = planned.range === undefined && !this.books.operation.tellsAll;
      const state: PartState = {
        ...{ part, attempt: last + 1, worker: name, host: hostname(), elapsed: 0, found: planned.entries, made: 0 },
        outcomes: {},
        ...(failed && { abandoned: last }),
        ...{ copiedBytes: 0, movedBytes: 0, resumedFiles: 0, resumedBytes: 0, verifiedFiles: 0, verifiedBytes: 0 },
        ...{ verifiedFromCache: 0, hashedBytes: 0, complete: !failed, failureKinds: {}, notes: [] },
      };
      const steps = attempt<PartState>(part, last + 1);
      for (let step = steps.next(); !step.done; ) {
        step = steps.next(step.value.do === 'work' ? state : this.directory.perform(step.value, name));
      }
    }
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, LOOK);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}

/** What tells one run of this process from another, in which a worker of the same number has ended. */
function newTag(): string {
  return randomBytes(3).toString('hex');
}

/** What a worker is called: by who coordinates, its number, and which one it is of all that were begun. */
function nameOf(tag: string, index: number, number: number): string {
  return `${hostname().replace(/[^\w.-]/g, '_')}-${process.pid}-${tag}-${index + 1}.${number}`;
}
