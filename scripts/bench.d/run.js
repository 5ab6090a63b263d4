/**
 * Carries out rows: makes their data, runs their contenders interleaved, and gives back what was measured. What keeps
 * artefacts of virtual machines out of the numbers is here, in `#ready`, and documented in docs/benchmarks.md.
 */
import { existsSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statfsSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { OTHER_CHECKOUT } from './contenders.js';
import { describe, entriesRoom, generator, room, scaled } from './data.js';
import { availableMemory, dropCaches, fileSystem, freeSpace, isExt4, isRoot, isTmpfs } from './machine.js';
import { ceph, versitygw } from './server.js';
import { verdict } from './statistics.js';

/** @typedef {import('./rows.js').Row} Row */
/** @typedef {import('./contenders.js').Contender} Contender */
/** @typedef {import('./contenders.js').Place} Place */
/** @typedef {import('./data.js').Data} Data */

const MIB = 1 << 20;
/** Of what is free: the rest is for others, and for what was not foreseen. */
const SHARE = 0.8;
/** So many times its payload is made warm for a large copy in memory: with once, it was given other pages. */
const WARM_TIMES = 4;
/** Copies of a row stay until its end while they take no more of the disk than this. */
const KEPT_SHARE = 0.5;
/** An inode in the table of an ext4, and its part of the bitmaps, with some to spare. */
const INODE_BYTES = 300;
/** For the journal, directories and what mkfs takes for itself. */
const MARGIN_BYTES = 2 ** 30;
const MARGIN_INODES = 10_000;
/** ext4 may pass over an inode for so many seconds after it was freed. */
const FREED_INODES_REST = 60;
/** Whether what a run works on is made for it. @param {Row} row */
const isMade = ({ job }) => job === 'remove' || job === 'replace';
const REHEARSAL = /** @type {const} */ ({ kind: 'tree', directories: 2, files: 10, most: 4096 });

/**
 * @typedef {object} Settings
 * @property {number} scale
 * @property {number} rounds
 * @property {string} tmpfs a directory for the scratch directory in memory
 * @property {string} disk a directory for the one on a disk
 * @property {boolean} loop a fresh ext4 for each row that wants a disk
 * @property {string} tree the real tree
 * @property {(name: string) => string} yardstick path of a program by its name
 * @property {string} executable ours
 * @property {string} [other] the same of another checkout
 * @property {ReadonlyMap<string, string>} peers that are installed
 * @property {(line: string) => void} say what is going on
 */

/**
 * @typedef {object} Measured a contender in a row
 * @property {string} name
 * @property {Contender['role']} role
 * @property {number[]} wall
 * @property {number[]} cpu
 * @property {number[]} resident
 * @property {number[]} durable
 * @property {number} [kept] bytes that it wrote down of its work
 * @property {{ bytes: number, entries: number }} [uneven] how many times as much as the smallest of its parts the largest has
 * @property {string} [missing] why there are no values
 */

/**
 * @typedef {object} Result of a row
 * @property {string} name
 * @property {string} title
 * @property {string} [dash] why nothing was measured
 * @property {string} [data] what was copied
 * @property {string} [fileSystem]
 * @property {number} [rounds]
 * @property {Measured[]} contenders
 * @property {import('./statistics.js').Verdict[]} verdicts
 */

/** Bytes of the files below a directory. @param {string} directory */
function bytesIn(directory) {
  const entries = readdirSync(directory, { recursive: true, withFileTypes: true });
  const sizes = entries.filter((each) => each.isFile()).map(({ parentPath, name }) => statSync(join(parentPath, name)).size);
  return sizes.reduce((sum, size) => sum + size, 0);
}

/**
 * How many times as much as the smallest part the largest has.
 * @param {string} lists names of the lists, but for a dot and a number
 * @param {string} directory where names that do not begin at the root do
 */
export function unevenness(lists, directory) {
  const parts = readdirSync(dirname(lists)).flatMap((list) => {
    if (!list.startsWith(`${basename(lists)}.`)) return [];
    const names = readFileSync(join(dirname(lists), list), 'latin1').split('\n').filter(Boolean);
    const files = names.map((name) => lstatSync(resolve(directory, name))).filter((entry) => entry.isFile());
    return [{ entries: names.length, bytes: files.reduce((sum, { size }) => sum + size, 0) }];
  });
  /** @param {readonly number[]} values */
  const skew = (values) => Math.max(...values) / Math.min(...values);
  return { bytes: skew(parts.map(({ bytes }) => bytes)), entries: skew(parts.map(({ entries }) => entries)) };
}

/** A reason not to run a row here: a dash, no error. */
class NotHere extends Error {}

/**
 * @typedef {object} Medium where a row works
 * @property {string} directory
 * @property {boolean} isDisk
 */

/** @typedef {{ path: string, entries: number, bytes: number, counted: string }} Source */

export class Bench {
  /** Sources that are there, by place and data. @type {Map<string, Source>} */
  #sources = new Map();
  /** Scratch directories that were made. @type {string[]} */
  #scratch = [];
  /** Mounted images. @type {string[]} */
  #mounts = [];
  /** Since inodes were freed on a disk. @type {boolean} */
  #freed = false;
  #names = 0;
  /** The server of the row, and what it lives in. @type {{ server: import('./server.js').Server, home: string } | undefined} */
  #served;

  /**
   * @param {Settings} settings
   * @param {import('./children.js').Children} children
   */
  constructor(settings, children) {
    this.settings = settings;
    this.children = children;
  }

  /**
   * @param {Row} row
   * @returns {Promise<Result>}
   */
  async row(row) {
    const { name, title } = row;
    const empty = { name, title, contenders: [], verdicts: [] };
    try {
      return await this.#measure(row);
    } catch (error) {
      if (error instanceof NotHere) return { ...empty, dash: error.message };
      throw error;
    } finally {
      await this.#served?.server.close();
      if (this.#served) rmSync(this.#served.home, { recursive: true, force: true });
      this.#served = undefined;
      // A failed row must not keep the others from being measured on a clean place.
      await this.#unmount();
    }
  }

  /** Removes whatever was made. Goes on where something cannot be removed, and throws the first error. */
  async close() {
    const errors = [];
    for (const clean of [
      () => this.#unmount(),
      ...this.#scratch.map((directory) => () => this.#remove(directory, true)),
    ]) {
      try {
        await clean();
      } catch (error) {
        errors.push(error);
      }
    }
    this.#scratch = [];
    if (errors.length > 0) throw errors[0];
  }

  /**
   * @param {Row} row
   * @returns {Promise<Result>}
   */
  async #measure(row) {
    if (row.cold && !isRoot) throw new NotHere('only root may drop the page cache');
    const { scale, say } = this.settings;
    const rounds = row.rounds ?? this.settings.rounds;
    const contenders = row.contenders.map((contender) => ({
      contender,
      measured: /** @type {Measured} */ ({
        ...{ name: contender.name, role: contender.role },
        ...{ wall: [], cpu: [], resident: [], durable: [] },
        ...(this.#isInstalled(contender) ? {} : { missing: 'not installed' }),
      }),
    }));
    const data = row.data && scaled(row.data, scale);
    const copies = contenders.filter(({ measured }) => !measured.missing).length * rounds;
    const medium = await this.#medium(row, data, copies);
    const source = data && (await this.#source(row, data, medium));
    if (row.served) await this.#serve(row.served, medium);
    const keeps = source !== undefined && this.#fits(medium.directory, source, copies);
    const already = row.job === 'again' && source ? await this.#copied(source, medium) : undefined;
    const leftovers = already === undefined ? [] : [already];

    for (let round = 0; round < rounds; round++) {
      // Each round begins with another: nobody always follows the same neighbour.
      const turn = round % contenders.length;
      for (const { contender, measured } of [...contenders.slice(turn), ...contenders.slice(0, turn)]) {
        if (measured.missing) continue;
        for (let run = 0; run < (row.repeat ?? 1) && !measured.missing; run++) {
          const destination = already ?? join(medium.directory, `copy-${this.#names++}`);
          const place = this.#place(row, source?.path ?? medium.directory, destination, medium);
          await this.#ready(row, contender, place, source, medium);
          if (source && isMade(row)) await this.children.must(['cp', '-a', source.path, destination]);
          if (contender.before) await this.children.must(contender.before(place));
          await this.#run(row, contender, place, measured, medium, this.#warm(row, source, medium));
          if (source && row.job === 'copy') {
            measured.missing ??= row.proof
              ? undefined
              : await this.#differs(source, destination, round === 0 && row.onlyAs === undefined);
          }
          if (contender.lists && source && round === 0 && !measured.missing)
            measured.uneven = unevenness(contender.lists(place), dirname(source.path));
          if (row.proof && round === 0 && contender.role !== 'yardstick') {
            measured.missing ??= await this.#unproved(row.proof(place));
          }
          if (source && (row.job === 'copy' || row.job === 'replace')) {
            if (medium.isDisk && keeps) leftovers.push(destination);
            else await this.#remove(destination, medium.isDisk);
          }
          if (contender.after) {
            await this.children.must(contender.after(place));
            if (this.#served) await this.children.must(this.#served.server.settle);
          }
          if (row.job === 'remove' && existsSync(destination)) {
            measured.missing ??= 'it left something';
            await this.#remove(destination, medium.isDisk);
          }
          if (source && row.job === 'again' && contender.spoils) {
            await this.children.must(['cp', '-a', '--attributes-only', `${source.path}/.`, destination]);
          }
        }
        const last = measured.missing ?? `${measured.wall.at(-1)?.toFixed(3)} s`;
        say(`${row.name}: round ${round + 1} of ${rounds}: ${contender.name}: ${last}`);
      }
    }
    // An image goes with all that is in it.
    if (!this.#mounts.includes(medium.directory)) {
      for (const leftover of leftovers) await this.#remove(leftover, medium.isDisk);
    }
    const measured = contenders.map((each) => {
      const failed = each.measured.missing !== undefined;
      return failed ? { ...each.measured, wall: [], cpu: [], resident: [], durable: [] } : each.measured;
    });
    return {
      name: row.name,
      title: row.title,
      ...(data && { data: data.kind === 'real' ? `${this.settings.tree}: ${source?.counted}` : describe(data) }),
      fileSystem: fileSystem(medium.directory),
      rounds,
      contenders: measured,
      verdicts: row.targets.map((target) => verdict(target, measured)),
    };
  }

  /** What a command says that finds something missing. @param {string[]} command */
  async #unproved(command) {
    const { code, stderr, result } = await this.children.run(command);
    return code === 0 ? undefined : `what is there is not the source: ${stderr || result}`;
  }

  /** @param {'versitygw' | 'ceph'} name @param {Medium} medium */
  async #serve(name, { directory }) {
    const { peers } = this.settings;
    const program = peers.get(name);
    if (program === undefined) throw new NotHere(`${name} is not installed`);
    if (!peers.has('rclone')) throw new NotHere('rclone, which makes the buckets and looks into them, is not installed');
    if (name === 'ceph' && !isRoot) throw new NotHere('only root may start Ceph');
    const home = join(directory, `server-${this.#names++}`);
    mkdirSync(home);
    const server = await (name === 'ceph' ? ceph(home) : versitygw(home, { program }));
    this.#served = { server, home };
  }

  /** @param {Contender} contender */
  #isInstalled({ program }) {
    return program === undefined || this.settings.peers.has(program);
  }

  /**
   * @param {Row} row
   * @param {string} source
   * @param {string} destination
   * @param {Medium} medium
   * @returns {Place}
   */
  #place(row, source, destination, medium) {
    const { yardstick, executable, other, peers } = this.settings;
    const ours = new Map([
      ['bulkhaul', executable],
      [OTHER_CHECKOUT, other],
    ]);
    const temporary = join(medium.directory, 'temporary');
    mkdirSync(temporary, { recursive: true });
    return {
      ...{ source, destination, temporary },
      ...(this.#served && { endpoint: this.#served.server.endpoint }),
      threads: availableParallelism(),
      batch: row.data?.kind === 'flat' ? 1000 : 1,
      path: (program) => ours.get(program) ?? peers.get(program) ?? yardstick(program),
    };
  }

  /**
   * Brings the machine into the state that the row measures in.
   * @param {Row} row
   * @param {Contender} contender
   * @param {Place} place
   * @param {Source | undefined} source
   * @param {Medium} medium
   */
  async #ready(row, contender, place, source, medium) {
    const { yardstick } = this.settings;
    if (!source || row.job === 'start') return;
    if (medium.isDisk) await this.#rest(medium);
    if (row.cold) {
      await this.children.must(['sync']);
      dropCaches();
      return;
    }
    if (row.job === 'copy' || isMade(row)) await this.#rehearse(row, contender, place, medium);
    // Nobody pays for what another has written, or finds the source pushed out of memory by it.
    if (medium.isDisk) await this.children.must(['sync', '-f', medium.directory]);
    // Ten million files are not read in advance: it would take longer than the copy, whose memory is what counts.
    if ((medium.isDisk || row.data?.kind === 'real') && row.onlyAs === undefined) {
      await this.children.must([yardstick('floor'), 'read', `${place.threads}`, source.path]);
    }
  }

  /**
   * What a copy is started with, so that the memory it needs is warm until its end.
   * @param {Row} row
   * @param {Source | undefined} source
   * @param {Medium} medium
   */
  #warm(row, source, medium) {
    if (!source || row.job !== 'copy' || row.cold) return [];
    // Which of the free pages a large copy in memory is given can't be told: more than it needs are made warm. On a disk
    // that would push its source out of memory.
    const times = row.data?.kind === 'big' && !medium.isDisk ? WARM_TIMES : 1;
    const mebibytes = Math.ceil(Math.min(source.bytes * times, availableMemory() * SHARE) / MIB);
    return [this.settings.yardstick('memwarm'), `${mebibytes}`];
  }

  /** After many inodes were freed on a disk: until ext4 gives them out again. @param {Medium} medium */
  async #rest(medium) {
    if (!this.#freed) return;
    await this.children.must(['sync', '-f', medium.directory]);
    // With the inodes gone from memory, ext4 does not ask how long they have been free.
    if (isRoot) dropCaches();
    else {
      this.settings.say(`waiting ${FREED_INODES_REST} s: inodes were freed`);
      await this.children.must(['sleep', `${FREED_INODES_REST}`]);
    }
    this.#freed = false;
  }

  /**
   * A tiny run, so that the programs themselves are in memory.
   * @param {Row} row
   * @param {Contender} contender
   * @param {Place} place
   * @param {Medium} medium
   */
  async #rehearse(row, contender, place, medium) {
    const source = join(medium.directory, 'rehearsal');
    const key = `${medium.directory} rehearsal`;
    if (!this.#sources.has(key)) {
      await this.children.must(this.#generate(REHEARSAL, source));
      this.#sources.set(key, { path: source, ...room(REHEARSAL), counted: '' });
    }
    const destination = join(medium.directory, `rehearsed-${this.#names++}`);
    if (isMade(row)) await this.children.must(['cp', '-a', source, destination]);
    await this.children.run(contender.command({ ...place, source, destination }));
    rmSync(destination, { recursive: true, force: true });
  }

  /**
   * One timed run.
   * @param {Row} row
   * @param {Contender} contender
   * @param {Place} place
   * @param {Measured} measured
   * @param {Medium} medium
   * @param {readonly string[]} warm
   */
  async #run(row, contender, place, measured, medium, warm) {
    const timed = this.settings.yardstick('timed');
    const { code, stderr, result } = await this.children.run([...warm, timed, ...contender.command(place)]);
    if (code !== 0) throw new Error(`timed: ${stderr}`);
    const usage = JSON.parse(result);
    if (usage.code !== 0) {
      measured.missing = `exit code ${usage.code}: ${stderr.split('\n').at(-1)}`;
      return;
    }
    measured.wall.push(usage.wall);
    measured.cpu.push(usage.user + usage.system);
    measured.resident.push(usage.resident);
    // What is over within a second writes nothing down.
    const kept = contender.keeps?.(place);
    if (kept !== undefined && existsSync(kept)) measured.kept = bytesIn(kept);
    if (row.job === 'copy' && medium.isDisk && !row.durable) {
      const sync = await this.children.run([timed, 'sync', '-f', place.destination]);
      measured.durable.push(usage.wall + JSON.parse(sync.result).wall);
    }
  }

  /**
   * What a copy lacks; undefined when it has as many entries and bytes as its source, and, where asked for, the same.
   * @param {Source} source
   * @param {string} destination
   * @param {boolean} wholly
   */
  async #differs(source, destination, wholly) {
    if (wholly) {
      const { code } = await this.children.run(['diff', '-rq', '--no-dereference', source.path, destination]);
      if (code !== 0) return 'the copy differs from its source';
    }
    const counted = await this.#count(destination);
    if (counted === source.counted) return undefined;
    // A real tree may have changed meanwhile.
    source.counted = await this.#count(source.path);
    return counted === source.counted ? undefined : `incomplete: ${counted} of ${source.counted}`;
  }

  /** @param {string} directory */
  async #count(directory) {
    const threads = `${availableParallelism()}`;
    return (await this.children.must([this.settings.yardstick('floor'), 'walkstat', threads, directory])).trim();
  }

  /**
   * @param {Row} row
   * @param {Data | undefined} data
   * @param {number} copies that are made of it
   * @returns {Promise<Medium>}
   */
  async #medium(row, data, copies) {
    const { tmpfs, disk, loop } = this.settings;
    if (row.medium === 'tmpfs') return { directory: this.#scratchIn(tmpfs, isTmpfs, 'tmpfs'), isDisk: false };
    if (row.medium === 'disk' && !loop && isExt4(disk)) {
      return { directory: this.#scratchIn(disk, isExt4, 'ext4'), isDisk: true };
    }
    return { directory: await this.#mount(data, copies), isDisk: true };
  }

  /**
   * @param {string} parent
   * @param {(path: string) => boolean} fits
   * @param {string} wanted
   */
  #scratchIn(parent, fits, wanted) {
    const there = this.#scratch.find((directory) => directory.startsWith(join(parent, 'bulkhaul-bench-')));
    if (there !== undefined) return there;
    try {
      statSync(parent);
    } catch {
      throw new NotHere(`no ${parent}`);
    }
    if (fits && !fits(parent)) throw new NotHere(`${parent} is not ${wanted}`);
    const directory = mkdtempSync(join(parent, 'bulkhaul-bench-'));
    this.#scratch.push(directory);
    return directory;
  }

  /**
   * Whether so many copies can stay until the end of their row.
   * @param {string} directory
   * @param {{ entries: number, bytes: number }} one
   * @param {number} copies
   */
  #fits(directory, { entries, bytes }, copies) {
    return copies * bytes < freeSpace(directory) * KEPT_SHARE && copies * entries < statfsSync(directory).ffree * SHARE;
  }

  /**
   * A fresh ext4 in an image on the disk, with room for the data and its copies; where that is too much, for one copy.
   * @param {Data | undefined} data
   * @param {number} copies
   */
  async #mount(data, copies) {
    if (!isRoot) throw new NotHere('only root may mount an ext4 image');
    const parent = this.#scratchIn(this.settings.disk, () => true, '');
    if (!data || data.kind === 'real') throw new NotHere('an image for a tree of unknown size');
    const { entries, bytes } = room(data);
    const needs = (/** @type {number} */ trees) => {
      const inodes = Math.ceil((trees * entries) / SHARE ** 2) + MARGIN_INODES;
      return { inodes, size: Math.ceil((trees * bytes) / KEPT_SHARE) + inodes * INODE_BYTES + MARGIN_BYTES };
    };
    const fits = (/** @type {number} */ size) => size < freeSpace(parent) * SHARE;
    const { inodes, size } = [1 + copies, 2].map(needs).find((each) => fits(each.size)) ?? {};
    if (size === undefined) throw new NotHere(`${parent} has too little space for an image: try a smaller --scale`);
    const directory = join(parent, `ext4-${this.#names++}`);
    const image = `${directory}.image`;
    await this.children.must(['truncate', '-s', `${size}`, image]);
    await this.children.must(['mkfs.ext4', '-q', '-F', '-m', '0', '-N', `${inodes}`, image]);
    mkdirSync(directory);
    // An interrupt may come when it is mounted and nobody was told yet.
    this.#mounts.push(directory);
    // Without the initialisation in the background, which would write during the measurement.
    await this.children.must(['mount', '-o', 'loop,noinit_itable', image, directory]);
    return directory;
  }

  async #unmount() {
    for (const directory of this.#mounts.splice(0)) {
      const isMounted = statSync(directory).dev !== statSync(dirname(directory)).dev;
      if (isMounted) await this.children.must(['umount', directory], { cleaning: true });
      rmSync(directory, { recursive: true });
      rmSync(`${directory}.image`);
      for (const key of this.#sources.keys()) {
        if (key.startsWith(`${directory} `)) this.#sources.delete(key);
      }
    }
  }

  /** @param {Exclude<Data, { kind: 'real' }>} data @param {string} directory */
  #generate(data, directory) {
    const [program, ...args] = generator(data, directory);
    return [this.settings.yardstick(program), ...args];
  }

  /**
   * The data of a row on its medium. What other rows have left there and this one does not use is removed first.
   * @param {Row} row
   * @param {Data} data
   * @param {Medium} medium
   * @returns {Promise<Source>}
   */
  async #source(row, data, medium) {
    const key = `${medium.directory} ${JSON.stringify(data)}`;
    const there = this.#sources.get(key);
    if (there) return there;
    for (const [other, source] of this.#sources) {
      if (!other.startsWith(`${medium.directory} {`)) continue;
      this.#sources.delete(other);
      if (source.path !== this.settings.tree) await this.#remove(source.path, medium.isDisk);
    }
    const path = data.kind === 'real' ? this.settings.tree : join(medium.directory, `source-${this.#names++}`);
    /** @type {Source} */
    let source;
    if (data.kind === 'real') {
      const counted = await this.#count(path);
      const [files = 0, directories = 0, bytes = 0] = (counted.match(/\d+/g) ?? []).map(Number);
      source = { path, counted, ...entriesRoom(files, directories, bytes) };
    } else source = { path, counted: '', ...room(data) };

    const needed = source.bytes * 2;
    const { files: inodes, ffree: freeInodes } = statfsSync(medium.directory);
    if (inodes > 0 && source.entries * 2 > freeInodes * SHARE) {
      throw new NotHere(`needs ${source.entries * 2} inodes, ${freeInodes} are free: try a smaller --scale`);
    }
    const free = medium.isDisk ? freeSpace(medium.directory) : Math.min(freeSpace(medium.directory), availableMemory());
    if (needed > free * SHARE) {
      throw new NotHere(
        `needs ${Math.ceil(needed / MIB)} MiB and ${Math.floor((free * SHARE) / MIB)} MiB may be used: try a smaller --scale`,
      );
    }
    if (data.kind !== 'real') {
      this.settings.say(`${row.name}: making ${describe(data)}`);
      await this.children.must(this.#generate(data, path));
      source.counted = await this.#count(path);
    }
    this.#sources.set(key, source);
    return source;
  }

  /**
   * A complete copy of the source, for rows that find one.
   * @param {Source} source
   * @param {Medium} medium
   */
  async #copied(source, medium) {
    const copy = join(medium.directory, `copy-${this.#names++}`);
    await this.children.must(['cp', '-a', source.path, copy]);
    return copy;
  }

  /**
   * @param {string} directory may be absent
   * @param {boolean} frees inodes of a disk
   */
  async #remove(directory, frees) {
    try {
      statSync(directory);
    } catch {
      return;
    }
    if (frees) this.#freed = true;
    const threads = `${availableParallelism()}`;
    await this.children.must([this.settings.yardstick('floor'), 'remove', threads, directory], { cleaning: true });
  }
}
