/**
 * The flags of `hpcp`: those of 8.96 (rank 0), those that 9.79 added (rank 1), and bulkhaul's own (rank 2).
 *
 * Comes in: arguments; goes out: their values, the usage, and the echo of the call. What 8.96 understood, an
 * abbreviation too, keeps its meaning: a higher rank is asked only where a lower one has no match.
 */
import { display } from '../../../names.js';
import { ADDED, WATCHED } from '../added.js';
import { type Flag, type FlagTable, type Parsed, parse, UsageError, usage, type Values } from '../argparse.js';

/** In the order of the original's help, which is the order of the echo. */
export const FLAGS = {
  help: { names: ['-h', '--help'], takes: 'none', rank: 0, help: 'Show this help.' },
  single_thread: { names: ['-s', '--single_thread'], takes: 'none', rank: 0, help: 'Work with one thread.' },
  max_workers: {
    names: ['-j', '-m', '-t', '--max_workers'],
    takes: 'int',
    rank: 0,
    help: 'Worker threads at most: a number as it is, -N for N times the CPUs, 0 for half of them. Without it from the CPUs that this process may use and the devices.',
  },
  batch: {
    names: ['-b', '--batch'],
    takes: 'none',
    rank: 0,
    group: 'batch',
    help: 'No effect: a copy or a removal is always one job.',
  },
  no_batch: {
    names: ['-nb', '--sequential', '--no_batch'],
    takes: 'none',
    rank: 1,
    group: 'batch',
    help: 'No effect: a copy or a removal is always one job.',
  },
  verbose: { names: ['-v', '--verbose'], takes: 'none', rank: 0, help: 'At the end name every file and link.' },
  directory_only: {
    names: ['-do', '--directory_only'],
    takes: 'none',
    rank: 0,
    help: 'Make the directories and nothing else.',
  },
  no_directory_sync: {
    names: ['-nds', '--no_directory_sync'],
    takes: 'none',
    rank: 0,
    help: 'Make only directories that a file needs, and leave their mode, owner and times alone.',
  },
  full_hash: {
    names: ['-fh', '--full_hash'],
    takes: 'none',
    rank: 0,
    help: 'Compare whole files, not only their ends, before a file counts as unchanged.',
  },
  hash_size: {
    names: ['-hs', '--hash_size'],
    takes: 'int',
    metavar: 'BYTES',
    rank: 0,
    default: '65536',
    help: 'Bytes at the end of a file that are compared before it counts as unchanged. 0 or less: none, size and time decide.',
  },
  files_per_job: {
    names: ['-f', '-fpj', '--files_per_job'],
    takes: 'int',
    metavar: 'N',
    rank: 0,
    help: 'No effect: batches are sized while the copy runs.',
  },
  source_file_list: {
    names: ['-sfl', '-lfl', '--source_file_list'],
    takes: 'text',
    metavar: 'FILE',
    rank: 0,
    help: 'Take sources from a list, one a line, hashed or not; - for standard input. What is in a directory of the list comes with it.',
  },
  target_file_list: {
    names: ['-fl', '-tfl', '--target_file_list'],
    takes: 'text',
    metavar: 'FILE',
    rank: 0,
    help: 'Write the list of the sources to FILE (- is standard output), and copy nothing. With -cfl, -dfl or -tdfl: compare with this list.',
  },
  compare_file_list: {
    names: ['-cfl', '--compare_file_list'],
    takes: 'none',
    rank: 0,
    help: 'Compare instead of copying: the sources with the destination, or with the list of -fl.',
  },
  diff_file_list: {
    names: ['-dfl', '--diff_file_list'],
    takes: 'optional',
    metavar: 'FILE',
    rank: 0,
    help: 'Compare, and write to FILE (- is standard output) how to turn the sources into the destination: its names, then those of the sources with - and NUL in front.',
  },
  tar_diff_file_list: {
    names: ['-tdfl', '--tar_diff_file_list'],
    takes: 'none',
    rank: 0,
    help: 'Compare; the list of what differs holds new and changed names of the destination only, for tar -T.',
  },
  no_hash_file_list: {
    names: ['-nhfl', '--no_hash_file_list'],
    takes: 'none',
    rank: 0,
    help: 'Lists without hashes; a comparison is one of names and sizes.',
  },
  remove: {
    names: ['-rm', '--remove'],
    takes: 'none',
    rank: 0,
    help: 'Remove the sources; with -d each one after its copy is proved: synced, read back and the same.',
  },
  remove_force: {
    names: ['-rf', '--remove_force'],
    takes: 'none',
    rank: 0,
    help: 'Do not ask before removing. Without a destination it implies -rm; with one it never does.',
  },
  remove_extra: {
    names: ['-rme', '--remove_extra'],
    takes: 'none',
    rank: 0,
    help: 'Remove from the directories of the destination what the sources do not have, after a question.',
  },
  do_not_remove_files_while_listing: {
    names: ['-rwloff', '--do_not_remove_files_while_listing'],
    takes: 'none',
    rank: 1,
    help: 'Remove only after everything was listed.',
  },
  exclude: {
    names: ['-e', '--exclude'],
    takes: 'texts',
    metavar: 'PATTERN',
    rank: 0,
    help: 'Leave out what matches. A pattern is matched with the absolute path; without a leading / it begins at any component. * and ? match / too. Repeatable.',
  },
  exclude_file: {
    names: ['-x', '--exclude_file'],
    takes: 'text',
    metavar: 'FILE',
    rank: 0,
    help: 'Patterns as for -e, one a line; - is standard input.',
  },
  link_tracking: {
    names: ['-lt', '--link_tracking'],
    takes: 'none',
    rank: 1,
    help: 'Where a relative link would lead nowhere in the destination, copy its target too, unless that is outside the destination.',
  },
  no_link_tracking: {
    names: ['-nlt', '--no_link_tracking'],
    takes: 'none',
    rank: 0,
    help: 'Links only (the default); wins over -lt.',
  },
  version: { names: ['-V', '--version'], takes: 'none', rank: 0, help: 'Show the version.' },
  parallel_file_listing: {
    names: ['-pfl', '--parallel_file_listing'],
    takes: 'none',
    rank: 0,
    help: 'No effect: listing is always parallel.',
  },
  src_image: {
    names: ['-si', '--src_image'],
    takes: 'many',
    metavar: 'IMAGE',
    rank: 0,
    help: 'Copy out of disk images what is in their file systems.',
  },
  load_diff_image: {
    names: ['-siff', '--load_diff_image'],
    takes: 'many',
    metavar: 'IMAGE',
    rank: 0,
    help: 'Apply patch images to the destination.',
  },
  dest_path: {
    names: ['-d', '-C', '--dest_path'],
    takes: 'texts',
    metavar: 'DEST',
    rank: 0,
    help: 'Where to. Repeated: each file goes to one of them, in order, the next when one is full.',
  },
  random_dest_selection: {
    names: ['-rds', '--random_dest_selection'],
    takes: 'none',
    rank: 1,
    help: 'With several destinations, a file goes to one of them by chance, to the next when that is full.',
  },
  dest_image: {
    names: ['-di', '--dest_image'],
    takes: 'text',
    metavar: 'IMAGE',
    rank: 0,
    help: 'Copy into a disk image, each source to its absolute path in it; a new one is made large enough.',
  },
  dest_image_size: {
    names: ['-dis', '--dest_image_size'],
    takes: 'text',
    metavar: 'SIZE',
    rank: 0,
    help: 'Size of a new image; 0 (the default): as much as is needed.',
  },
  get_diff_image: {
    names: ['-diff', '--get_diff_image'],
    takes: 'optional',
    metavar: 'IMAGE',
    rank: 0,
    help: 'Make a patch image that turns the destination into the source.',
  },
  force_apply: {
    names: ['-fa', '--force_apply'],
    takes: 'none',
    rank: 1,
    help: 'Apply a patch image to whatever is there.',
  },
  disk_dump: {
    names: ['-dd', '--disk_dump'],
    takes: 'none',
    rank: 0,
    help: 'Clone a whole disk or image, partition by partition, into an image (-di) or onto another disk (-d).',
  },
  dd_resize: {
    names: ['-ddr', '--dd_resize'],
    takes: 'texts',
    metavar: 'SIZE',
    rank: 0,
    help: 'Sizes of partitions for -dd: the greatest is for the largest partition, and so on. Repeatable.',
  },
  no_fs_param_mirror: {
    names: ['-nfp', '--no_fs_param_mirror'],
    takes: 'none',
    rank: 1,
    help: 'With -dd, make file systems with the defaults of mkfs.',
  },
  rate_limit: {
    names: ['-L', '-rl', '--rate_limit'],
    takes: 'text',
    metavar: 'BYTES',
    rank: 1,
    default: '0',
    help: 'Read at most so many bytes a second from the sources: K is 1000, Ki is 1024; 0: no limit.',
  },
  file_rate_limit: {
    names: ['-F', '-frl', '--file_rate_limit'],
    takes: 'text',
    metavar: 'FILES',
    rank: 1,
    default: '0',
    help: 'Look at no more than so many entries a second, with K or Ki as for -L; 0: no limit.',
  },
  target_file_system: {
    names: ['-tfs', '--target_file_system'],
    takes: 'text',
    metavar: 'TYPE',
    rank: 1,
    help: 'Drop a destination that is not on a file system of this type, as df -T names it.',
  },
  no_create_dir: {
    names: ['-ncd', '--no_create_dir'],
    takes: 'none',
    rank: 1,
    help: 'Drop a destination directory that does not exist, instead of making it.',
  },
  content_only: {
    names: ['-co', '--content_only'],
    takes: 'none',
    rank: 1,
    help: 'Contents only: no mode, owner, times or attributes.',
  },
  command_timeout_limit: {
    names: ['-ctl', '--command_timeout_limit'],
    takes: 'text',
    metavar: 'SECONDS',
    rank: 1,
    default: '0',
    help: 'Give up when nothing at all moves for so long, with 190 for a copy; ten times as long while something is synced. 0: never.',
  },
  exit_not_enough_space: {
    names: ['-enes', '--exit_not_enough_space'],
    takes: 'none',
    rank: 1,
    help: 'Size the sources first, and copy nothing when they do not fit.',
  },

  dry_run: { names: ['--dry-run'], takes: 'none', rank: 2, help: 'Show what would be done, itemised, and do nothing.' },
  json: { names: ['--json'], takes: 'none', rank: 2, help: 'JSON lines on standard output instead of text.' },
  progress: {
    names: ['--progress'],
    takes: 'text',
    metavar: 'FORM',
    rank: 2,
    default: 'auto',
    help: 'auto, tty, plain, json or none.',
  },
  quiet: { names: ['--quiet'], takes: 'none', rank: 2, help: 'No progress and no notes on standard error.' },
  log_file: {
    names: ['--log-file'],
    takes: 'text',
    metavar: 'FILE',
    rank: 2,
    help: 'Log in JSON lines to FILE; - is standard error.',
  },
  jobs: {
    names: ['--jobs'],
    takes: 'int',
    metavar: 'N',
    rank: 2,
    help: 'Worker threads at most, 1 or more; wins over -j.',
  },
  sync: {
    names: ['--sync'],
    takes: 'text',
    metavar: 'WHEN',
    rank: 2,
    help: 'What is on disk before success is reported: none, safe (the default: what the next run could mistake), or all.',
  },
  sparse: {
    names: ['--sparse'],
    takes: 'text',
    metavar: 'WHEN',
    rank: 2,
    help: 'Holes: always (the default: runs of zeros become holes), auto (as the source), or never.',
  },
  keep_dirlinks: {
    names: ['--keep-dirlinks'],
    takes: 'none',
    rank: 2,
    help: 'Follow a symlink to a directory where a directory comes in the destination.',
  },
  one_file_system: { names: ['--one-file-system'], takes: 'none', rank: 2, help: 'Do not enter other file systems.' },
  chown: {
    names: ['--chown'],
    takes: 'text',
    metavar: 'USER:GROUP',
    rank: 2,
    default: 'as in the source',
    help: 'Owner and group to set.',
  },
  chmod: {
    names: ['--chmod'],
    takes: 'text',
    metavar: 'MODES',
    rank: 2,
    default: 'as in the source',
    help: 'Changes to modes, such as D755,F644 or go-w.',
  },
  no_owner: { names: ['--no-owner'], takes: 'none', rank: 2, help: 'Do not keep owner and group.' },
  files_from: {
    names: ['--files-from'],
    takes: 'text',
    metavar: 'FILE',
    rank: 2,
    default: 'all of the source',
    help: 'Copy only the names in FILE, one a line, relative to the one source directory.',
  },
  files_from0: {
    names: ['--files-from0'],
    takes: 'text',
    metavar: 'FILE',
    rank: 2,
    default: 'all of the source',
    help: 'The same, each name ended by NUL.',
  },
  max_delete: {
    names: ['--max-delete'],
    takes: 'text',
    metavar: 'N|N%',
    rank: 2,
    default: 'no limit',
    help: 'Remove nothing when it would be more entries than N, or more than N% of those that are there: in the destination before the run, or in the sources. What a run that held back has copied counts in the next.',
  },
  accept_time_loss: {
    names: ['--accept-time-loss'],
    takes: 'none',
    rank: 2,
    help: 'A move removes also entries with a time that the destination can not keep; otherwise they stay.',
  },
  no_preserve_root: {
    names: ['--no-preserve-root'],
    takes: 'texts',
    metavar: 'PATH',
    rank: 2,
    help: 'Remove PATH though it is protected (/, the home and the working directory and what is above them), or empty it though something is mounted there. Repeatable.',
  },
  require_space: { names: ['--require-space'], takes: 'none', rank: 2, help: 'The same as -enes.' },
  verify: {
    names: ['--verify'],
    takes: 'none',
    rank: 2,
    help: 'Read everything back from the medium and compare it, also what is there already.',
  },
  fail_on_diff: {
    names: ['--fail-on-diff'],
    takes: 'none',
    rank: 2,
    help: 'A comparison that finds differences ends with 1.',
  },
  changes: {
    names: ['--changes'],
    takes: 'none',
    rank: 2,
    help: 'Compare, metadata too, and write the list of -dfl in the form of 9.79: how to turn the destination into the sources.',
  },
  metadata: { names: ['--metadata'], takes: 'none', rank: 2, help: 'Compare modes, owners, times and attributes too.' },
  bwlimit: {
    names: ['--bwlimit'],
    takes: 'text',
    metavar: 'RATE',
    rank: 2,
    help: 'The same as -L in the form of rsync: KiB a second, or with B, K, M, G; wins over -L.',
  },
  iops_limit: {
    names: ['--iops-limit'],
    takes: 'text',
    metavar: 'N',
    rank: 2,
    help: 'The same as -F; wins over it.',
  },
  nice: ADDED.nice,
  stall_timeout: {
    names: ['--stall-timeout'],
    takes: 'text',
    metavar: 'SECONDS',
    rank: 2,
    help: 'The same as -ctl, and wins over it.',
  },
  state_dir: ADDED.state_dir,
  no_journal: ADDED.no_journal,
  new_identity: {
    names: ['--new-identity'],
    takes: 'none',
    rank: 2,
    help: 'With -dd: new ids for the disk, its partitions and file systems; fstab, crypttab and boot loaders are rewritten.',
  },
  image_fs: {
    names: ['--image-fs'],
    takes: 'text',
    metavar: 'TYPE',
    rank: 2,
    help: 'File system of a new image (-di): ext4, xfs or btrfs. Without it xfs above 300 MiB where it can be made, else ext4.',
  },
  undo: {
    names: ['--undo'],
    takes: 'text',
    metavar: 'IMAGE',
    rank: 2,
    help: 'Before a patch (-siff) is applied, write the one that leads back to IMAGE.',
  },
  overwrite: {
    names: ['--overwrite'],
    takes: 'none',
    rank: 2,
    help: 'With -dd, do not ask before what the destination holds is overwritten.',
  },
  ionice: ADDED.ionice,
  ...WATCHED,
} as const satisfies FlagTable;

export type HpcpValues = Values<typeof FLAGS>;
export type HpcpCall = Parsed<typeof FLAGS>;
type FlagName = keyof typeof FLAGS;

/** Reads a command line. Throws `UsageError`. */
export function parseCall(args: readonly string[]): HpcpCall {
  const call = parse(FLAGS, args);
  if (call.values.help || call.values.version) return call;
  for (const [name, allowed] of Object.entries(CHOICES)) {
    const value = call.values[name as keyof typeof CHOICES];
    if (value !== undefined && !(allowed as readonly string[]).includes(value)) {
      throw new UsageError(`argument --${name}: '${value}' is none of ${allowed.join(', ')}`);
    }
  }
  if (call.values.target_file_list !== undefined && call.values.remove_extra) {
    throw new UsageError(
      'argument -rme/--remove_extra: not with a list (-fl): nothing goes from a source because a list does not name it; nothing was done',
    );
  }
  if (call.values.remove && call.values.remove_extra && call.values.dest_path.length === 0) {
    throw new UsageError(
      'argument -rm/--remove: together with -rme the destination is named with -d; nothing was done',
    );
  }
  for (const name of ['dd_resize', 'no_fs_param_mirror', 'new_identity', 'overwrite'] as const) {
    const none = name === 'dd_resize' && call.values.dd_resize.every((size) => size === '0');
    if (!call.given.includes(name) || call.values.disk_dump || none) continue;
    throw new UsageError(`argument ${FLAGS[name].names.join('/')}: it goes with -dd; nothing was done`);
  }
  if (call.values.changes && call.values.tar_diff_file_list) {
    throw new UsageError('argument --changes: not allowed with argument -tdfl/--tar_diff_file_list');
  }
  for (const name of ['command_timeout_limit', 'stall_timeout'] as const) {
    const value = call.values[name];
    if (value !== undefined && !/^\d{1,9}(\.\d+)?$/.test(value)) {
      throw new UsageError(`argument ${FLAGS[name].names.join('/')}: '${value}' is not a number of seconds`);
    }
  }
  if (call.values.max_delete !== undefined && !/^\d+%?$/.test(call.values.max_delete)) {
    throw new UsageError(`argument --max-delete: '${call.values.max_delete}' is neither N nor N%`);
  }
  const { remove, remove_extra, remove_force, dest_path } = call.values;
  if (call.values.max_delete !== undefined && !remove && !remove_extra && !(remove_force && dest_path.length === 0)) {
    throw new UsageError('argument --max-delete: it goes with -rm or -rme; nothing was done');
  }
  if (call.values.accept_time_loss && !(remove && dest_path.length > 0)) {
    throw new UsageError('argument --accept-time-loss: it goes with -rm and -d; nothing was done');
  }
  for (const name of ['force_apply', 'undo'] as const) {
    if (call.given.includes(name) && call.values.load_diff_image === undefined) {
      throw new UsageError(`argument ${FLAGS[name].names.join('/')}: it goes with -siff; nothing was done`);
    }
  }
  const { source_file_list, target_file_list, files_from, files_from0, exclude_file, json } = call.values;
  const writes = writtenList(call.values);
  const lists = [source_file_list, files_from, files_from0, exclude_file];
  const read = workOf(call) === 'compare' ? [...lists, target_file_list] : lists;
  if (read.filter((path) => path === '-').length > 1) {
    throw new UsageError('argument -sfl/-lfl/--source_file_list: standard input can be read once; nothing was done');
  }
  if (json && writes === '-') throw new UsageError('argument --json: standard output has the list; nothing was done');
  if (call.values.jobs !== undefined && call.values.jobs < 1) {
    throw new UsageError(`argument --jobs: ${call.values.jobs} is less than 1`);
  }
  if (call.values.files_from !== undefined && call.values.files_from0 !== undefined) {
    throw new UsageError('argument --files-from0: not allowed with argument --files-from');
  }
  return call;
}

/** Whether a call is about images. */
export function usesImages({ src_image = [], dest_image }: HpcpValues): boolean {
  return src_image.length > 0 || dest_image !== undefined;
}

/** What a call with one of these flags does instead of copying. */
export type Work = 'clone' | 'list' | 'compare' | 'patch' | undefined;

/** `-fl` lists; with one of the others, which compare also alone, it names the list to compare with. */
export function workOf({ values }: Pick<HpcpCall, 'values'>): Work {
  const { compare_file_list, diff_file_list, tar_diff_file_list, changes, get_diff_image, load_diff_image } = values;
  if (get_diff_image !== undefined || load_diff_image !== undefined) return 'patch';
  if (values.disk_dump) return 'clone';
  if (compare_file_list || diff_file_list !== undefined || tar_diff_file_list || changes) return 'compare';
  return values.target_file_list === undefined ? undefined : 'list';
}

/** The list that a call writes. */
export function writtenList(values: HpcpValues): string | true | undefined {
  return workOf({ values }) === 'list' ? values.target_file_list : values.diff_file_list;
}

/** The values that a flag may have. */
export const CHOICES = {
  progress: ['auto', 'tty', 'plain', 'json', 'none'],
  sync: ['none', 'safe', 'all'],
  sparse: ['auto', 'always', 'never'],
  image_fs: ['ext4', 'xfs', 'btrfs'],
} as const;

/** The value of a flag of `CHOICES`, which `parseCall` has checked. */
export function choice<Name extends keyof typeof CHOICES>(
  values: HpcpValues,
  name: Name,
): (typeof CHOICES)[Name][number] | undefined {
  const allowed: readonly (typeof CHOICES)[Name][number][] = CHOICES[name];
  return allowed.find((each) => each === values[name]);
}

/** Spellings of a flag that the originals have, for the documentation and its test. */
export function originalFlags(): Flag[] {
  return Object.values<Flag>(FLAGS).filter(({ rank }) => rank < 2);
}

export function usageText(width?: number): string {
  const originals = Object.entries<Flag>(FLAGS).filter(([, { rank }]) => rank < 2);
  return usage('hpcp', Object.fromEntries(originals), '[src_path ...]', width);
}

/** Usage and one sentence. */
export function usageError(sentence: string): string {
  return `${usageText()}\nhpcp: error: ${display(sentence)}\n`;
}

const DEFAULTS: { readonly [Name in FlagName]?: number } = { hash_size: 65536, files_per_job: 1 };

/** The first line of output: the call with every value that is not the default, in the original's form. */
export function echo({ values, positionals, given }: HpcpCall): string {
  const words = given.flatMap((name) => {
    const value = values[name];
    if (value === DEFAULTS[name]) return [];
    const texts = typeof value === 'boolean' ? ['True'] : typeof value === 'object' ? value : [String(value ?? '')];
    return texts.map((text) => `${FLAGS[name].names.at(-1)}=${quote(text)}`);
  });
  return ['>', 'hpcp', ...positionals.map(quote), ...words].join(' ');
}

function quote(text: string): string {
  return `'${display(text).replaceAll("'", "'\\''")}'`;
}
