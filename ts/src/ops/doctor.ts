/**
 * What this machine allows, and what is missing: for a report of a defect, and for who asks why something is slow or not
 * kept.
 *
 * Comes in: directories or files to look at; goes out: facts. Nothing is changed: only a probe, which has to be asked for,
 * writes into a file without a name. Nothing of it is a secret: no host, no user, no address, no variable.
 */
import { spawn } from 'node:child_process';
import { accessSync, closeSync, constants, openSync, readFileSync, statfsSync, statSync } from 'node:fs';
import { arch, availableParallelism, release, totalmem } from 'node:os';
import { dirname } from 'node:path';
import { BulkhaulError, whyOf } from '../error.js';
import { fromBytes, toBytes } from '../names.js';
import { loadBlockdev } from '../native/blockdev.js';
import { type Addon, type Answer, loadAddon, type Probe } from '../native.js';

/** Whether something is there: what of it, or why not. */
export interface Found {
  readonly name: string;
  /** Its version, or another word for what it is; absent: it is not there. */
  readonly found?: string;
  /** What it is for. */
  readonly use: string;
}

/** A place, and the file system that holds it. */
export interface Place {
  readonly path: string;
  /** Why it can't be looked at; then there is nothing else. */
  readonly error?: string;
  /** The kind of the file system. */
  readonly kind?: string;
  /** Its flags, of those that matter here. */
  readonly flags?: readonly string[];
  readonly size?: number;
  readonly free?: number;
  /** Files that may still be made; absent: as many as there is room for. */
  readonly freeFiles?: number;
  readonly answers?: readonly Answer[];
  readonly probe?: Probe;
  /** Why it could not be probed. */
  readonly probeError?: string;
}

/** All that was found. */
export interface Diagnosis {
  readonly system: string;
  readonly kernel: string;
  readonly arch: string;
  readonly node: string;
  readonly libc: string;
  readonly container: boolean;
  readonly root: boolean;
  /** Processors that may be used; bytes of memory, those of the cgroup where that has a limit. */
  readonly processors: number;
  readonly memory: number;
  /** Why the engine can't be loaded; absent: it is. */
  readonly engineError?: string;
  readonly calls: readonly Answer[];
  /** Of /proc/self/limits: now, and how far it may be raised. */
  readonly limits: readonly { readonly name: string; readonly soft: string; readonly hard: string }[];
  /** Capabilities of root that this process has. */
  readonly capabilities: readonly string[];
  readonly abilities: readonly Answer[];
  readonly tools: readonly Found[];
  readonly places: readonly Place[];
}

/** Looks at this machine and at `paths`; `probe`: also tries what can be done there, and how fast. */
export async function diagnose(paths: readonly string[], probe: boolean): Promise<Diagnosis> {
  const loaded = await loadAddon().catch((error: unknown) => BulkhaulError.from(error));
  const addon = loaded instanceof BulkhaulError ? undefined : loaded;
  return {
    system: /^PRETTY_NAME="?(.*?)"?$/m.exec(read('/etc/os-release'))?.[1] ?? process.platform,
    kernel: release(),
    arch: arch(),
    node: process.versions.node,
    libc: libc(),
    container: ['/.dockerenv', '/run/.containerenv', '/singularity', '/.singularity.d'].some(exists),
    root: process.getuid?.() === 0,
    processors: availableParallelism(),
    memory: memory(),
    ...(loaded instanceof BulkhaulError && { engineError: loaded.message }),
    calls: addon?.kernelCalls() ?? [],
    limits: limits(),
    capabilities: capabilities(),
    abilities: abilities(),
    tools: await Promise.all(TOOLS.map(tool)),
    places: paths.map((path) => place(path, addon, probe)),
  };
}

/** A small file of the system; empty: there is none. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function exists(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}

function libc(): string {
  const { header } = process.report.getReport() as { header?: { glibcVersionRuntime?: string } };
  const version = header?.glibcVersionRuntime;
  return version === undefined ? 'musl' : `glibc ${version}`;
}

function memory(): number {
  const limit = Number(read('/sys/fs/cgroup/memory.max') || Number.NaN);
  return limit > 0 ? Math.min(limit, totalmem()) : totalmem();
}

const LIMITS = ['Max open files', 'Max file size', 'Max processes', 'Max locked memory', 'Max cpu time'];

function limits(): Diagnosis['limits'] {
  const text = read('/proc/self/limits');
  return LIMITS.flatMap((name) => {
    const [, soft, hard] = new RegExp(`^${name} +(\\S+) +(\\S+)`, 'm').exec(text) ?? [];
    return soft === undefined || hard === undefined ? [] : [{ name: name.slice(4), soft, hard }];
  });
}

/** Bits of a capability set (`linux/capability.h`) that a copy has use for. */
const CAPABILITIES: readonly (readonly [number, string])[] = [
  [0, 'CHOWN'],
  [1, 'DAC_OVERRIDE'],
  [2, 'DAC_READ_SEARCH'],
  [3, 'FOWNER'],
  [4, 'FSETID'],
  [21, 'SYS_ADMIN'],
  [23, 'SYS_NICE'],
  [24, 'SYS_RESOURCE'],
  [27, 'MKNOD'],
  [31, 'SETFCAP'],
];

function capabilities(): string[] {
  const [, bits = '0'] = /^CapEff:\s*([0-9a-f]+)$/m.exec(read('/proc/self/status')) ?? [];
  const set = BigInt(`0x${bits}`);
  return CAPABILITIES.flatMap(([bit, name]) => ((set >> BigInt(bit)) & 1n ? [name] : []));
}

function abilities(): Answer[] {
  const namespaces = Number(read('/proc/sys/user/max_user_namespaces') || '0');
  const forbidden = read('/proc/sys/kernel/unprivileged_userns_clone').trim() === '0';
  const why = namespaces === 0 ? 'none may be made' : forbidden ? 'only root may make them' : undefined;
  return [
    { name: 'user namespaces', ...(why !== undefined && { error: why }) },
    disks(),
    writable('loop devices', '/dev/loop-control'),
    writable('FUSE', '/dev/fuse'),
    { name: '/proc', ...(!exists('/proc/self/fd') && { error: 'it is not mounted' }) },
  ];
}

function disks(): Answer {
  const name = 'disks and images';
  try {
    loadBlockdev();
    return { name };
  } catch (error) {
    return { name, error: BulkhaulError.from(error).message };
  }
}

function writable(name: string, path: string): Answer {
  try {
    accessSync(path, constants.R_OK | constants.W_OK);
    return { name };
  } catch (error) {
    return { name, error: whyOf(error) };
  }
}

/** Programs of others that something here uses, how they tell their version, and what they are for. */
const TOOLS: readonly (readonly [string, readonly string[], string])[] = [
  ['rsync', ['--version'], 'transfers by rsync'],
  ['rclone', ['version'], 'transfers by rclone'],
  ['ssh', ['-V'], 'other hosts'],
  ['sbatch', ['--version'], 'arrays of Slurm jobs'],
  ['lfs', ['--version'], 'layouts of Lustre'],
  ['b3sum', ['--version'], 'a second look at manifests'],
  ['xz', ['--version'], 'a second look at archives'],
  ['bgzip', ['--version'], 'a second look at archives'],
  ['losetup', ['--version'], 'disk images'],
  ['sfdisk', ['--version'], 'disk images'],
  ['mkfs.ext4', ['-V'], 'disk images'],
];

/** Milliseconds that a program has to tell its version. */
const PATIENCE = 5000;

function tool([name, args, use]: (typeof TOOLS)[number]): Promise<Found> {
  return new Promise((resolve) => {
    const child = spawn(name, args, { stdio: ['ignore', 'pipe', 'pipe'], timeout: PATIENCE });
    let said = '';
    const take = (chunk: Buffer) => {
      said += said.length < 1000 ? chunk.toString() : '';
    };
    child.stdout.on('data', take);
    child.stderr.on('data', take);
    child.on('error', () => resolve({ name, use }));
    // Some tell it and answer that this was wrong.
    child.on('close', () => {
      const line = said.split('\n', 1)[0]?.trim() ?? '';
      resolve({ name, use, found: /\d+[.p]\d[\w.]*/.exec(line)?.[0] ?? 'unknown version' });
    });
  });
}

/** Flags of a mount that change what a copy can do. No others are told: some have names of hosts and users in them. */
const FLAGS =
  /^(ro|rw|noexec|nosuid|nodev|noatime|relatime|nodiratime|lazytime|sync|async|dirsync|discard|acl|noacl|user_xattr|nouser_xattr|hard|soft|(?:no)?lock|local_lock=\w+|vers=[\d.]+|proto=\w+|[rw]size=\d+|data=\w+|compress[\w-]*(?:=[\w:]+)?|usrquota|grpquota|prjquota|noquota|flock|localflock|noflock|allow_other|default_permissions|case=\w+|nobarrier|redirect_dir=\w+|metacopy=\w+|xino=\w+)$/;

function place(path: string, addon: Addon | undefined, probe: boolean): Place {
  let descriptor: number | undefined;
  try {
    const bytes = toBytes(path);
    const directory = statSync(bytes).isDirectory() ? bytes : toBytes(dirname(path));
    descriptor = openSync(directory, constants.O_RDONLY | constants.O_DIRECTORY);
    const { blocks, bsize, bavail, files, ffree } = statfsSync(directory);
    const mount = mountOf(descriptor);
    return {
      path,
      kind: mount?.kind ?? 'unknown',
      flags: mount?.flags ?? [],
      size: blocks * bsize,
      free: bavail * bsize,
      ...(files > 0 && { freeFiles: ffree }),
      answers: addon?.lookAt(descriptor) ?? [],
      ...(probe && addon !== undefined && probed(addon, descriptor)),
    };
  } catch (error) {
    return { path, error: whyOf(error, path) };
  } finally {
    if (descriptor !== undefined) closeSync(descriptor);
  }
}

function probed(addon: Addon, descriptor: number): Pick<Place, 'probe' | 'probeError'> {
  try {
    return { probe: addon.probe(descriptor) };
  } catch (error) {
    return { probeError: whyOf(error) };
  }
}

/** The mount that an open directory is on. */
function mountOf(descriptor: number): { kind: string; flags: string[] } | undefined {
  const [, id] = /^mnt_id:\s*(\d+)$/m.exec(read(`/proc/self/fdinfo/${descriptor}`)) ?? [];
  // The fields are those of proc_pid_mountinfo(5).
  const lines = fromBytes(readFileSync('/proc/self/mountinfo')).split('\n');
  const line = lines.find((each) => each.split(' ', 1)[0] === id);
  if (line === undefined) return undefined;
  const [before = '', after = ''] = line.split(' - ');
  const [kind = 'unknown', , options = ''] = after.split(' ');
  const flags = `${before.split(' ')[5] ?? ''},${options}`.split(',').filter((flag) => FLAGS.test(flag));
  return { kind, flags: [...new Set(flags)] };
}
