/**
 * Who takes part in a transfer: this host, or others.
 *
 * Comes in: hosts to run on and hosts to copy to, one as often as it is to be counted; goes out, for each run, the ones with
 * least to do. What can't take part is found before anything is begun, and left out with a note; a host that is lost
 * meanwhile gets nothing more.
 */
import { randomBytes } from 'node:crypto';
import { lstat, readdir, stat } from 'node:fs/promises';
import { BulkhaulError } from '../../error.js';
import { makeDirectories } from '../../journal/store.js';
import { display, toBytes } from '../../names.js';
import { folds } from '../folds.js';
import { checkDestinations, checkSources, type Faults } from './check.js';
import { answers, ask } from './ssh.js';
import type { Tool } from './tool.js';

/** Where a run takes place. */
export interface Place {
  /** Where the tool runs; undefined: here. */
  source: string | undefined;
  /** Where it copies to; undefined: where it runs. */
  destination: string | undefined;
}

/** What they are to do. */
export interface Task {
  /** A directory, the same on every host that is a source. */
  source: string;
  /** A directory on the hosts that are destinations, or where the tool runs; with `cloud` a place as rclone has it. */
  destination: string;
  tool: Tool;
  /** Hosts that the tool runs on. Empty: here. */
  sourceHosts: readonly string[];
  /** Hosts that it copies to. Empty: where it runs. */
  destinationHosts: readonly string[];
  /** The destination is no directory. */
  cloud: boolean;
  /** A file that the tool needs where it runs. */
  config: string | undefined;
  /** Nothing is made. */
  dryRun: boolean;
}

/** Entries at the top of the source that are looked at for one whose name can be shown to a host. */
const LOOKED_AT = 100;

export class Crew {
  readonly #sources: Hosts | undefined;
  readonly #destinations: Hosts | undefined;

  private constructor(
    { sourceHosts, destinationHosts }: Task,
    /** Takes what there is to say. */
    public note: (message: string) => void,
  ) {
    if (sourceHosts.length > 0) this.#sources = new Hosts(sourceHosts);
    if (destinationHosts.length > 0) this.#destinations = new Hosts(destinationHosts);
  }

  /**
   * Those who can do it, and the destination made where it is a directory. Throws `NO_SOURCE`, `NO_DESTINATION` or
   * `NO_START` where it can't be done.
   */
  static async muster(task: Task, note: (message: string) => void): Promise<Crew> {
    const { source, destination, tool, config, cloud, dryRun } = task;
    const { program, version } = tool;
    if (!(await isDirectory(source))) throw new BulkhaulError('NO_SOURCE', `${source} is no directory`);
    const crew = new Crew(task, note);
    const [sources, destinations] = [crew.#sources, crew.#destinations];
    if (sources) {
      const entry = await someEntry(source);
      crew.#drop(sources, 'source', await checkSources(sources.left, { program, source, entry, config }));
    } else if (version) {
      const { stdout } = await ask(undefined, [program, version]);
      const why = tool.unsuited?.(stdout);
      if (why !== undefined) throw new BulkhaulError('NO_START', `the ${program} here won't do: ${why}`);
    }
    const witness = `.bulkhaul-witness-${randomBytes(6).toString('hex')}`;
    const question = { program, destination, witness, dryRun };
    if (destinations) {
      crew.#drop(destinations, 'destination', await checkDestinations(destinations.left, question));
    } else if (sources && !cloud) {
      crew.#drop(sources, 'source', await checkDestinations(sources.left, question));
    } else if (!cloud && !dryRun) {
      makeDirectories(destination, 0o777);
      if (!(await isDirectory(destination)))
        throw new BulkhaulError('NO_DESTINATION', `${destination} is no directory`);
      if (tool.keepsApart && folds(destination)) {
        const why =
          'takes names for one that differ by case or by forms of a letter: one copy of all has to see which meet';
        throw new BulkhaulError('SAFETY', `${destination} ${why}`);
      }
    }
    return crew;
  }

  /** Takes out hosts that can't be used, and says so. Throws `NO_START` where none is left. */
  #drop(hosts: Hosts, what: 'source' | 'destination', faults: Faults): void {
    for (const [host, why] of faults) {
      hosts.lose(host);
      this.note(`the ${what} host ${host} is left out: ${why}`);
    }
    if (hosts.left.length > 0) return;
    const causes = [...faults].map(([host, why]) => `${host}: ${why}`).join('; ');
    throw new BulkhaulError('NO_START', `no ${what} host can be used (${causes})`);
  }

  /** Where the next run takes place: whoever takes it gives it back. Undefined: no host is left for it. */
  take(): Place | undefined {
    const place = { source: this.#sources?.take(), destination: this.#destinations?.take() };
    const whole =
      (!this.#sources || place.source !== undefined) && (!this.#destinations || place.destination !== undefined);
    if (whole) return place;
    this.giveBack(place);
    return undefined;
  }

  giveBack({ source, destination }: Place): void {
    this.#sources?.giveBack(source);
    this.#destinations?.giveBack(destination);
  }

  /** A run at a place broke, and `why`: whether one of its hosts does not answer any more. */
  async lost({ source, destination }: Place, why: string): Promise<boolean> {
    let lost = false;
    for (const [what, host, hosts] of [
      ['source', source, this.#sources],
      ['destination', destination, this.#destinations],
    ] as const) {
      if (host === undefined || hosts === undefined || (await answers(host))) continue;
      lost = true;
      if (hosts.lose(host)) this.note(`the ${what} host ${host} is lost (${why}): others take over its parts`);
    }
    return lost;
  }
}

/** Hosts to share work out to. */
export class Hosts {
  readonly #hosts: { name: string; works: number; lost: boolean }[];

  constructor(names: readonly string[]) {
    this.#hosts = names.map((name) => ({ name, works: 0, lost: false }));
  }

  /** The one with least to do, the first of such. Undefined: none is left. */
  take(): string | undefined {
    let least: { name: string; works: number } | undefined;
    for (const host of this.#hosts) if (!host.lost && (least === undefined || host.works < least.works)) least = host;
    if (least !== undefined) least.works += 1;
    return least?.name;
  }

  giveBack(name: string | undefined): void {
    let busiest: { works: number } | undefined;
    for (const host of this.#hosts) {
      if (host.name === name && host.works > (busiest?.works ?? 0)) busiest = host;
    }
    if (busiest !== undefined) busiest.works -= 1;
  }

  /** It is not given out any more; false: it was lost before. */
  lose(name: string): boolean {
    const known = this.#hosts.filter((host) => host.name === name && !host.lost);
    for (const host of known) host.lost = true;
    return known.length > 0;
  }

  /** Those that are left. */
  get left(): string[] {
    return this.#hosts.filter(({ lost }) => !lost).map(({ name }) => name);
  }
}

/** An entry at the top of a directory that can be named in a command. */
async function someEntry(directory: string): Promise<string | undefined> {
  const names = await readdir(toBytes(directory), { encoding: 'buffer' });
  for (const name of names.slice(0, LOOKED_AT)) {
    const text = name.toString();
    if (display(text) !== text || !Buffer.from(text).equals(name)) continue;
    const there = await lstat(Buffer.concat([toBytes(directory), Buffer.from('/'), name])).catch(() => undefined);
    if (there) return text;
  }
  return undefined;
}

function isDirectory(path: string): Promise<boolean> {
  return stat(toBytes(path)).then(
    (entry) => entry.isDirectory(),
    () => false,
  );
}
