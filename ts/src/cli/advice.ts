/**
 * What somebody may have meant by an option or a command that is not there: the habits of other tools, and near names.
 *
 * Loaded only to refuse.
 */
import { nearest } from '../nearest.js';

const KEPT = 'it is always kept; leave it out';
const WHOLE = 'trees are always taken whole; leave it out';
const JOBS = '--jobs N says how many workers there are at most';
const DELETE = '--delete removes what is extra, after all sources were listed';

const ALL = 'all that it asks for is always done; leave it out';
const HERE = 'sources and destination are paths of this machine';
const HUMAN = 'text for people has units that they read; leave it out';
const ALTERED = 'what differs is copied, and what is the same is skipped';
const FOUND = 'find does that: (cd SRC; find … -print0) | bulkhaul copy --files-from0 - SRC DEST';
const ANEW = 'what was interrupted is made good by the same command; leave it out';
const COPY: Readonly<Record<string, string>> = {
  '-a': ALL,
  '--archive': ALL,
  '-P': 'what was interrupted always goes on, and the status is always shown; leave it out',
  '--partial': 'what was interrupted always goes on; leave it out',
  '--append': 'what was interrupted always goes on; leave it out',
  '-c': '--full-hash compares whole files before they are skipped',
  '--checksum': '--full-hash compares whole files before they are skipped',
  '-i': '-v itemises',
  '--itemize-changes': '-v itemises',
  '-S': '--sparse always makes holes of zeros; those of the source are always kept',
  '-z': 'nothing is sent, so there is nothing to compress; leave it out',
  '--compress': 'nothing is sent, so there is nothing to compress; leave it out',
  '-e': HERE,
  '--rsh': HERE,
  '--rsync-path': HERE,
  '--ignore-times': '--full-hash compares whole files before they are skipped',
  '-I': '--full-hash compares whole files before they are skipped',
  '--size-only': 'time and the last 64 KiB tell too; --hash-size 0 leaves size and time',
  '--ignore-existing': `${ALTERED}; move never replaces anything`,
  '--existing': ALTERED,
  '--no-clobber': `${ALTERED}; move never replaces anything`,
  '--backup': 'what is replaced is not kept; a copy to another directory leaves it',
  '--backup-dir': 'what is replaced is not kept; a copy to another directory leaves it',
  '-b': 'what is replaced is not kept; a copy to another directory leaves it',
  '--link-dest': 'no copy is made of links to another one; cp -al, and then a copy over it, comes to the same',
  '--delete-excluded': '--delete spares what a rule leaves out',
  '--del': DELETE,
  '--max-size': FOUND,
  '--min-size': FOUND,
  '--max-age': FOUND,
  '--min-age': FOUND,
  '--fast-list': 'trees are always listed in parallel; leave it out',
  '--reflink': 'contents are shared where the file system can; leave it out',
  '--preserve': KEPT,
  '--no-dereference': 'links are always copied as links; leave it out',
  '-d': 'links are always copied as links; leave it out',
  '-0': '--files-from0 reads names that end with NUL',
  '--from0': '--files-from0 reads names that end with NUL',
  '--target-directory': 'the last argument is where it goes',
  '--checkers': JOBS,
  '-N': 'no file system takes a time of creation from others',
  '--crtimes': 'no file system takes a time of creation from others',
  '-u': 'what differs is copied, whichever is newer',
  '--update': 'what differs is copied, whichever is newer',
  '-L': 'links are copied as links',
  '--copy-links': 'links are copied as links',
  '-f': '--exclude and --include are the rules; what is in the way is replaced without it',
  '--filter': '--exclude and --include are the rules',
  '--include-from': '--exclude-from reads rules of both kinds: + PATTERN includes',
  '--remove-source-files': '--move removes each source entry whose copy is proved',
  '--delete-before': DELETE,
  '--delete-during': DELETE,
  '--delete-delay': DELETE,
  '--delete-after': DELETE,
  '--stats': 'the end always tells them; leave it out',
  '--info': '--progress FORM says how the status is shown',
  '--inplace': 'a name never shows half a file; leave it out',
  '--whole-file': 'files are always copied whole; leave it out',
  '-W': 'files are always copied whole; leave it out',
  '--transfers': JOBS,
  ...Object.fromEntries(
    ['-t', '-p', '-o', '-g', '-l', '-H', '-A', '-X', '-D', '-U', '--atimes', '--times', '--perms', '--owner', '--group']
      .concat(['--links', '--hard-links', '--acls', '--xattrs', '--devices', '--specials', '--numeric-ids'])
      .map((option) => [option, KEPT]),
  ),
};

/** Options of rsync, cp, rm, diff, tar and rclone, and what serves here. */
const HABITS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  copy: COPY,
  migrate: {
    ...COPY,
    '--remove-source-files': 'sources stay; compress packs files where they are',
    '-z': '--format NAME says how files are packed; leave it out',
    '--compress': '--format NAME says how files are packed; leave it out',
  },
  sync: {
    '-a': 'times are kept, and on this machine modes with --perms; copy keeps all that rsync does with it',
    '--archive': 'times are kept, and on this machine modes with --perms; copy keeps all that rsync does with it',
    '-c': '--compare checksum does that',
    '--checksum': '--compare checksum does that',
    '--size-only': '--compare size does that',
    '-u': '--conflict newer keeps what is newer',
    '--update': '--conflict newer keeps what is newer',
    '-p': '--perms does that',
    '-l': '--links says what becomes of them',
    '-i': '-v itemises',
    '--itemize-changes': '-v itemises',
    '-P': ANEW,
    '--partial': ANEW,
    '-z': 'what is sent is sent as it is; leave it out',
    '--compress': 'what is sent is sent as it is; leave it out',
    '-t': KEPT,
    '--times': KEPT,
    '--remove-source-files': 'sources stay; move takes them along, between paths of this machine',
    '--delete-before': DELETE,
    '--delete-during': DELETE,
    '--delete-delay': DELETE,
    '--delete-after': DELETE,
    '--transfers': JOBS,
    '--checkers': JOBS,
  },
  pack: {
    '-c': 'it is what this does; leave it out',
    '-f': 'the last argument is the directory or URL of the shards',
    '-z': '--compress NAME says how',
    '-a': ALL,
    '-p': KEPT,
  },
  unpack: {
    '-x': 'it is what this does; leave it out',
    '-f': 'the first argument is what is unpacked',
    '-z': 'what is compressed is recognised; leave it out',
    '--test': '--verify does that',
    '-p': KEPT,
    '-C': 'the last argument is where it goes',
  },
  move: {
    '-f': 'nothing is replaced; copy --move does that',
    '-i': '-v itemises; nothing is replaced, so there is nothing to ask',
    '-u': 'nothing is replaced; copy --move does that',
    '--no-clobber': 'nothing is ever replaced; leave it out',
    '--verify': 'what is copied is always read back; leave it out',
    '--sync': 'what is written is always synced; leave it out',
    ...Object.fromEntries(['-a', '--archive', '-P', '--partial'].map((option) => [option, KEPT])),
  },
  manifest: {
    '-c': 'bulkhaul verify MANIFEST checks files against one',
    '--check': 'bulkhaul verify MANIFEST checks files against one',
    '--tag': '--format NAME says how lines look',
  },
  verify: {
    '-c': 'it is what this does; leave it out',
    '--check': 'it is what this does; leave it out',
    '--status': '--quiet tells by the exit code alone',
  },
  remove: {
    '-x': 'what is mounted below a PATH is never entered; leave it out',
    '--one-file-system': 'what is mounted below a PATH is never entered; leave it out',
    '-i': 'it always asks where there is a terminal; leave it out',
    '-I': 'it always asks where there is a terminal; leave it out',
    '-d': WHOLE,
    '--dir': WHOLE,
  },
  list: {
    '-a': 'names that begin with a dot are always listed; leave it out',
    '-l': '--json tells sizes, times, modes and owners',
    '-s': '--json tells sizes',
    '-1': 'it is always one a line; leave it out',
  },
  compress: {
    '-d': 'bulkhaul decompress does that',
    '--decompress': 'bulkhaul decompress does that',
    '--remove': 'a file goes when its archive is proved; --keep leaves it',
    '--rm': 'a file goes when its archive is proved; --keep leaves it',
    '--verify': 'it is always done; leave it out',
    '-9': '--level 9 says it',
    '-1': '--level 1 says it',
    '--fast': '--level 1 says it',
    '--best': '--level 9 says it',
    '-p': JOBS,
    '--processes': JOBS,
  },
  decompress: {
    '-d': 'it is what this does; leave it out',
    '--rm': 'an archive goes when its content is proved; --keep leaves it',
  },
  compare: {
    '-a': '--metadata and --xattrs compare what rsync keeps with -a',
    '--brief': 'without --itemize only counts are told; leave it out',
    '-u': '--itemize names each difference; diff -u shows those of one file',
  },
};

/** The same in every verb. */
const ANYWHERE: Readonly<Record<string, string>> = {
  '-r': WHOLE,
  '-R': WHOLE,
  '--recursive': WHOLE,
  '--human-readable': HUMAN,
  '-V': 'bulkhaul --version tells it',
  '--version': 'bulkhaul --version tells it',
  '-T': JOBS,
  '--threads': JOBS,
  '--workers': JOBS,
  '--parallel': JOBS,
};

/** One sentence for the options that `verb` does not have; `known`: those that it has. */
export function optionAdvice(verb: string, given: readonly string[], known: readonly string[]): string {
  const habits = given.map((option) => HABITS[verb]?.[option] ?? ANYWHERE[option]);
  const sentences = given.map((option, at) => {
    if (habits[at] !== undefined) return `${option} is not an option of ${verb}: ${habits[at]}`;
    const near = like(option, known);
    return `${verb} has no option ${option}${near === undefined ? '' : `; did you mean ${near}?`}`;
  });
  const name = habits.every((habit) => habit === undefined) && given.every((option) => !option.startsWith('--'));
  return [...sentences, ...(name ? ['a name that begins with - goes after --'] : [])].join('; ');
}

function like(option: string, known: readonly string[]): string | undefined {
  if (!option.startsWith('--')) {
    const other = option === option.toLowerCase() ? option.toUpperCase() : option.toLowerCase();
    return known.find((each) => each === other);
  }
  const long = known.filter((each) => each.startsWith('--'));
  const longer = long.filter((each) => each.startsWith(option));
  return longer.length === 1 ? longer[0] : nearest(option, long);
}

/** Commands of other tools, and what serves here. */
const COMMANDS: Readonly<Record<string, string>> = {
  cp: 'copy',
  ...{ rsync: 'copy', copyto: 'copy', dcp: 'copy', scp: 'copy' },
  moveto: 'move',
  ...{ tar: 'pack or unpack', untar: 'unpack', extract: 'unpack', fpart: 'partition' },
  ...{ mv: 'move', rename: 'move' },
  mirror: 'copy --delete',
  rm: 'remove',
  ...{ delete: 'remove', purge: 'remove', unlink: 'remove' },
  ...{ ls: 'list', lsf: 'list', lsl: 'list', find: 'list' },
  ...{ b3sum: 'manifest', sha256sum: 'manifest', md5sum: 'manifest', hashdeep: 'manifest' },
  ...{ hash: 'manifest', sums: 'manifest', checksum: 'manifest' },
  diff: 'compare',
  cmp: 'compare',
  check: 'compare',
  audit: 'verify',
  ...{ gzip: 'compress', pigz: 'compress', bgzip: 'compress', crabz: 'compress', xz: 'compress', zstd: 'compress' },
  ...{ gunzip: 'decompress', unpigz: 'decompress', unxz: 'decompress', unzstd: 'decompress' },
  ...{ zcat: 'decompress --stdout', xzcat: 'decompress --stdout', zstdcat: 'decompress --stdout' },
};

/** One sentence for a command that is not there; `known`: those that are. */
export function commandAdvice(given: string, known: readonly string[]): string {
  if (given.startsWith('-')) {
    return `${given} stands before a command; options come after it, as in: bulkhaul copy --verify SRC DEST`;
  }
  const meant = Object.hasOwn(COMMANDS, given) ? COMMANDS[given] : nearest(given, known);
  return `there is no command ${given}${meant === undefined ? '' : `; did you mean ${meant}?`}`;
}
