/**
 * The world: every verb on file systems that are not as they should be, in one table: a row a verb, a cell a fault, which
 * says how the command ends, what is left of both sides, and a word of what is said.
 *
 * A new verb is a new row: one that has none fails the test, and so does a row that has no cell for some fault.
 */
import { type ChildProcess, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  lchownSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { WITHOUT_DISKS } from './rig/disks.js';
import { S3 } from './rig/s3.js';
import { executable, type Mount, mountFaulty, program } from './rig.js';

/** Names below a directory, and what they hold. */
type Files = Readonly<Record<string, string>>;

/** What a file system does to what it shows. */
interface Fault {
  /** As faultfs.py tells them. */
  options: string;
  /** The side that is seen through it; `same`: the destination, which is the source. */
  side: 'source' | 'destination' | 'same';
  /** What the source holds. */
  files: Files;
  /** What else is so in the source. */
  arrange?: (source: string) => void;
  /** The destination holds an earlier copy, whatever a row says. */
  copied?: true;
  /** What an earlier copy of it holds, where that is not all. */
  copy?: Files;
  /** It is stopped by two signals when a read hangs. */
  stopped?: true;
}

const FILES = { a: '1234567', 'sub/b': '89' };
const dated = (source: string, name: string, seconds: number) => lutimesSync(join(source, name), seconds, seconds);

const FAULTS = {
  view: { options: '', side: 'same', files: FILES },
  folded: {
    options: 'fold',
    side: 'destination',
    files: { F: 'upper', f: 'lower', 'Dir/r': '1', 'dir/r': '2' },
    copy: { F: 'upper', 'Dir/r': '1' },
  },
  'equal inodes': {
    options: 'inode=77',
    side: 'source',
    files: { a: '1234567', 'sub/b': '7654321' },
    arrange: (source) => dated(source, 'a', 1_000_000_000),
  },
  'whole seconds': {
    options: 'granularity=1000000000',
    side: 'destination',
    files: FILES,
    arrange: (source) => dated(source, 'a', 1_000_000_000.5),
    copied: true,
  },
  'clamped times': {
    options: 'latest=2000000000',
    side: 'destination',
    files: FILES,
    arrange: (source) => dated(source, 'a', 2_208_988_800),
  },
  'dropped times': {
    options: 'noutimens=ignored',
    side: 'destination',
    files: FILES,
    // Directories too: their times would be those of their copies where all is quick.
    arrange: (source) => ['a', 'sub/b', 'sub', ''].map((name) => dated(source, name, 1_000_000_000)),
  },
  'no chown': {
    options: 'nochown=EPERM',
    side: 'destination',
    files: FILES,
    arrange: (source) => lchownSync(join(source, 'a'), 12, 34),
  },
  'no chmod': { options: 'nochmod=EPERM', side: 'destination', files: FILES },
  'no xattr': {
    options: 'noxattr=EOPNOTSUPP',
    side: 'destination',
    files: FILES,
    arrange: (source) => execFileSync('setfattr', ['-n', 'user.note', '-v', 'x', join(source, 'a')]),
  },
  // It is stated 10 bytes long, and has 7.
  'ends early': {
    options: 'larger=3,only=/a',
    side: 'source',
    files: FILES,
    copy: { a: '1234567\0\0\0', 'sub/b': '89' },
  },
  // It is stated 4 bytes long, and has 7.
  'goes on': { options: 'smaller=3,only=/a', side: 'source', files: FILES, copy: { a: '1234', 'sub/b': '89' } },
  hangs: { options: 'hang,only=/a', side: 'source', files: FILES, stopped: true },
  'nothing new': { options: 'nocreate=ENOKEY', side: 'destination', files: FILES },
} satisfies Record<string, Fault>;

/** The exit code, what is left in the source and in the destination, and what is said. */
type Cell = [code: number, source: string | RegExp, destination: string | RegExp, said: string | RegExp];

interface Row {
  /** It takes loop devices, and its time. */
  disks?: true;
  /** The command, for a source, a destination, and the one of them that has the fault. */
  words: (source: string, destination: string, faulty: string, files: Files) => [string, ...string[]];
  /** What the destination holds before: an earlier copy, its archives, or something extra. */
  before?: 'copy' | 'archives' | 'extra';
  /** What a file holds that it has as its standard input: the source's `a` where that side has the fault. */
  input?: (files: Files) => Buffer;
  cells: Record<keyof typeof FAULTS, Cell>;
}

const [A, B, E] = ['a=1234567', 'sub/b=89', 'extra=e'];
const BOTH = `${A} ${B}`;
/** Earlier copies of files that have another size than is stated: as long as that. */
const [PADDED, CUT] = [`a=1234567\0\0\0 ${B}`, `a=1234 ${B}`];
const TWINS = `${A} sub/b=7654321`;
const NAMESAKES = 'Dir/r=1 F=upper dir/r=2 f=lower';
/** Of two names that are one, one arrives, with the content of this very name; in a move both stay. */
const ONE_OF_EACH = /^(Dir\/r=1 F=upper|F=upper dir\/r=2|Dir\/r=1 f=lower|dir\/r=2 f=lower)$/;
const ONE_OF_EACH_AND_EXTRA =
  /^(Dir\/r=1 F=upper extra=e|F=upper dir\/r=2 extra=e|Dir\/r=1 extra=e f=lower|dir\/r=2 extra=e f=lower)$/;
/** Stopped in the middle: what is not finished may be left, under a name of its own. */
const WITHOUT_A = /^(?!(.* )?a=)/;
const GONE = '-';
const LISTED = /^\.\/\na:d3a46e9108289359\nsub\/\nsub\/b:f652b04189071817\n$/;
const md5 = (text: string) => createHash('md5').update(text).digest('hex');
const VERIFIED = /^verified: 2 files \(9 B\) read back and equal/;
const UNREAD = 'verified: 2 files there, by names, kinds and sizes only: no content was read';
const REPAIRED_ONE = 'repaired: 1 file written anew from ';
const SUMS = /^fcea920f7412b5da7be0cf42b8c93759 {2}a\n[0-9a-f]{32} {2}sub\/b\n$/;
/** The same, and what else is said. */
const LISTED_BOTH = /^fcea920f7412b5da7be0cf42b8c93759 {2}a\n[0-9a-f]{32} {2}sub\/b\n/;
/** Both files, as archives in their places. */
const PACKED = /^a\.gz=.* sub\/b\.gz=(?!.*89$)/s;
/** The same beside them. */
const BOTH_PACKED_TOO = /^a\.gz=.* a=1234567 sub\/b\.gz=.* sub\/b=89$/s;
/** Of two names that are one, one arrives. */
const ONE_OF_EACH_PACKED = /^(?!.*\/r\.gz=.*\/r\.gz=)(?!.*[fF]\.gz=.*[fF]\.gz=)(?=.*\/r\.gz=)(?=.*[fF]\.gz=)/s;
/** What there is of a tree in its shard, and what is said then. */
const SHARD = /^shard-00001\.jsonl=.*"sub\/b".* shard-00001\.tar=/s;
const SHARDED = 'complete: 4 entries';
const NO_ARCHIVES = 'skipped: 2 not-a-file, 2 other-suffix';
const MIRRORED = 'verified: 2 files';
const SAME = '0 only in A, 0 only in B, 0 different';

/** Two workers, each with a part. */
const CREW = ['--workers', '2', '--parts', '2'] as const;
const base = mkdtempSync(join(tmpdir(), 'bulkhaul-test-'));
/** Where dsync has its lists and logs. */
const DSYNC = ['-n', '1', '--working-dir', join(base, 'dsync'), '--log-output', join(base, 'dsync')];

const copying = (...options: string[]): Row['words'] => {
  return (source, destination) => ['copy', ...options, `${source}/`, destination];
};
const hpcp = (...options: string[]): Row['words'] => {
  return (source, destination) => ['hpcp', ...options, `${source}/`, '-d', destination];
};
const comparing = (...options: string[]): Row['words'] => {
  return (source, destination) => ['compare', ...options, source, destination];
};

/** From a source to a store, where nothing is of this row; and from a store that has what the source should have. */
const up: Row['words'] = (source) => {
  server.objects.clear();
  return ['sync', source, 's3://b/p'];
};
const filled = (files: Files) => {
  server.objects.clear();
  for (const [name, content] of Object.entries(files)) server.put(`p/${name}`, content);
};
const down: Row['words'] = (_source, destination, _faulty, files) => {
  filled(files);
  return ['sync', 's3://b/p', destination];
};
/** The same where the other side has all of it already, and it comes again. */
const upAgain: Row['words'] = (source, _destination, _faulty, files) => {
  filled(files);
  return ['sync', '--compare', 'always', source, 's3://b/p'];
};
const downAgain: Row['words'] = (source, destination, faulty, files) => {
  const [verb, ...places] = down(source, destination, faulty, files);
  return [verb, '--compare', 'always', ...places];
};
const TO_STORES = new Set([up, down, upAgain, downAgain]);

/** Cells as another row tells them. */
const retold = (cells: Row['cells'], as: (cell: Cell) => Cell): Row['cells'] =>
  Object.fromEntries(Object.entries(cells).map(([fault, cell]) => [fault, as(cell)])) as Row['cells'];
/** The same, with another word where all is well. */
const saying = (cells: Row['cells'], word: Cell[3]) =>
  retold(cells, ([code, source, destination, said]) => [code, source, destination, code === 0 ? word : said]);
/** Cells of what reads no content and changes nothing: all is well in every world. */
const untouched = (word: Cell[3]) => retold(COMPARED, ([, source, destination]) => [0, source, destination, word]);

/** What becomes of a copy. */
const COPIED: Row['cells'] = {
  view: [0, BOTH, BOTH, 'skipped: 4 unchanged'],
  folded: [23, NAMESAKES, ONE_OF_EACH, 'takes two names of the source for one'],
  'equal inodes': [0, TWINS, TWINS, '2 files copied'],
  'whole seconds': [0, BOTH, BOTH, 'skipped: 4 unchanged'],
  'clamped times': [0, BOTH, BOTH, /note .*2040-01-01T00:00:00Z became 2033-05-18T03:33:20Z/],
  'dropped times': [23, BOTH, BOTH, /LOST .*the times were not kept.*\/a$/m],
  'no chown': [23, BOTH, BOTH, /owner.*\/a$/m],
  'no chmod': [23, BOTH, BOTH, /mode was not kept.*\/a/],
  'no xattr': [23, BOTH, BOTH, /user\.note.*\/a$/m],
  'ends early': [24, BOTH, B, 'after 7 bytes, and its size is 10'],
  'goes on': [24, BOTH, B, 'goes on after 4 bytes, which is its size'],
  hangs: [130, BOTH, WITHOUT_A, ': aborting\n'],
  'nothing new': [23, BOTH, '', 'Required key not available'],
};
/** The same of a move. */
const MOVED: Row['cells'] = {
  view: [3, BOTH, BOTH, 'the same directory, seen in another way'],
  folded: [23, NAMESAKES, ONE_OF_EACH, 'takes two names of the source for one'],
  'equal inodes': [0, GONE, TWINS, 'verified: 2 files'],
  'whole seconds': [0, GONE, BOTH, 'moved: 4 source entries removed, 0 left'],
  'clamped times': [23, A, BOTH, 'its time was not kept, so it stays'],
  'dropped times': [23, BOTH, BOTH, 'the times were not kept'],
  'no chown': [23, A, BOTH, /owner.*\/a$/m],
  'no chmod': [23, BOTH, BOTH, /mode was not kept.*\/a/],
  'no xattr': [23, A, BOTH, /user\.note.*\/a$/m],
  'ends early': [24, A, B, 'after 7 bytes, and its size is 10'],
  'goes on': [24, A, B, 'goes on after 4 bytes, which is its size'],
  hangs: [130, BOTH, WITHOUT_A, ': aborting\n'],
  'nothing new': [23, BOTH, '', 'Required key not available'],
};
/** The codes of move_to_final for those of a move. */
const FINAL: Record<number, number> = { 0: 0, 130: 130 };
/** What migrate_compress says then. */
const MIGRATED: Record<number, string> = { 0: 'root_files: completed,', 130: ': aborting\n' };
/** The same of a compression. */
const COMPRESSED: Row['cells'] = {
  view: [0, PACKED, PACKED, '2 files compressed'],
  folded: [0, NAMESAKES, /^Dir\/r\.gz=.* F\.gz=/s, '2 files compressed'],
  // What shows several names is left alone.
  'equal inodes': [0, TWINS, TWINS, 'skipped: 2 not-a-file, 2 several-names'],
  'whole seconds': [0, BOTH, PACKED, '2 files compressed'],
  'clamped times': [0, BOTH, PACKED, '2 files compressed'],
  'dropped times': [23, BOTH, BOTH, /its time was not kept, so it stays/],
  'no chown': [23, BOTH, /^a=1234567 sub\/b\.gz=/, /\/a: its owner was not kept, so it stays$/m],
  'no chmod': [23, BOTH, BOTH, /\/a: its mode was not kept, so it stays$/m],
  'no xattr': [0, BOTH, PACKED, '2 files compressed'],
  'ends early': [24, /^a=1234567 sub\/b\.gz=/, PADDED, 'after 7 bytes, and its size is 10'],
  'goes on': [24, /^a=1234567 sub\/b\.gz=/, CUT, 'goes on after 4 bytes, which is its size'],
  // What another worker was at when the process went stays behind, or is done.
  hangs: [130, /^a=1234567 (sub\/\.bh-.*)?sub\/b(=89|\.gz=.*)$/s, BOTH, ': aborting\n'],
  'nothing new': [23, BOTH, BOTH, 'Required key not available'],
};
/** The same of a removal. */
const REMOVED: Row['cells'] = {
  view: [0, GONE, GONE, '4 entries removed'],
  folded: [0, NAMESAKES, GONE, '4 entries removed'],
  'equal inodes': [0, GONE, TWINS, '4 entries removed'],
  'whole seconds': [0, BOTH, GONE, '4 entries removed'],
  'clamped times': [0, BOTH, GONE, '4 entries removed'],
  'dropped times': [0, BOTH, GONE, '4 entries removed'],
  'no chown': [0, BOTH, GONE, '4 entries removed'],
  'no chmod': [0, BOTH, GONE, '4 entries removed'],
  'no xattr': [0, BOTH, GONE, '4 entries removed'],
  'ends early': [0, GONE, PADDED, '4 entries removed'],
  'goes on': [0, GONE, CUT, '4 entries removed'],
  // It reads nothing.
  hangs: [0, GONE, BOTH, '4 entries removed'],
  'nothing new': [0, BOTH, GONE, '4 entries removed'],
};
/** The same of a comparison. */
const COMPARED: Row['cells'] = {
  view: [0, BOTH, BOTH, SAME],
  folded: [1, NAMESAKES, 'Dir/r=1 F=upper', '3 only in A, 0 only in B, 0 different'],
  'equal inodes': [0, TWINS, TWINS, SAME],
  'whole seconds': [0, BOTH, BOTH, SAME],
  'clamped times': [0, BOTH, BOTH, SAME],
  'dropped times': [0, BOTH, BOTH, SAME],
  'no chown': [0, BOTH, BOTH, SAME],
  'no chmod': [0, BOTH, BOTH, SAME],
  'no xattr': [0, BOTH, BOTH, SAME],
  'ends early': [24, BOTH, PADDED, 'after 7 bytes, and its size is 10'],
  'goes on': [24, BOTH, CUT, 'goes on after 4 bytes, which is its size'],
  hangs: [130, BOTH, BOTH, ': aborting\n'],
  'nothing new': [0, BOTH, BOTH, SAME],
};
/** The same of the drop-in's copy. */
const HPCP: Row['cells'] = {
  view: [0, BOTH, BOTH, /Total files unchanged: +2\n/],
  folded: [193, NAMESAKES, ONE_OF_EACH, 'takes two names of the source for one'],
  'equal inodes': [0, TWINS, TWINS, 'Done.'],
  'whole seconds': [0, BOTH, BOTH, /Total files unchanged: +2\n/],
  'clamped times': [0, BOTH, BOTH, /note: .*2040-01-01T00:00:00Z became 2033-05-18T03:33:20Z/],
  'dropped times': [190, BOTH, BOTH, 'the times were not kept'],
  'no chown': [190, BOTH, BOTH, /owner.*\/a/],
  'no chmod': [190, BOTH, BOTH, /mode was not kept.*\/a/],
  'no xattr': [190, BOTH, BOTH, /user\.note.*\/a/],
  'ends early': [190, BOTH, B, 'after 7 bytes, and its size is 10'],
  'goes on': [190, BOTH, B, 'goes on after 4 bytes, which is its size'],
  hangs: [130, BOTH, WITHOUT_A, ': aborting\n'],
  'nothing new': [193, BOTH, '', 'Required key not available'],
};
/** The same of its move. */
const HPCP_MOVED: Row['cells'] = {
  view: [241, BOTH, BOTH, 'the same directory, seen in another way'],
  folded: [193, NAMESAKES, ONE_OF_EACH, 'takes two names of the source for one'],
  'equal inodes': [0, GONE, TWINS, 'Done.'],
  'whole seconds': [0, GONE, BOTH, 'Done.'],
  'clamped times': [192, A, BOTH, 'its time was not kept, so it stays'],
  'dropped times': [192, BOTH, BOTH, 'the times were not kept'],
  'no chown': [192, A, BOTH, /owner.*\/a/],
  'no chmod': [192, BOTH, BOTH, /mode was not kept.*\/a/],
  'no xattr': [192, A, BOTH, /user\.note.*\/a/],
  'ends early': [190, A, B, 'after 7 bytes, and its size is 10'],
  'goes on': [190, A, B, 'goes on after 4 bytes, which is its size'],
  hangs: [130, BOTH, WITHOUT_A, ': aborting\n'],
  'nothing new': [193, BOTH, '', 'Required key not available'],
};

const IMAGE = 'x.img';
/** What a command of ours makes beforehand, which no fault has touched. */
const prepare = (...words: string[]) => execFileSync(executable, words, { stdio: 'ignore' });
/** What becomes of what goes to a store. */
const STORED: Row['cells'] = {
  view: [0, BOTH, BOTH, '2 files copied'],
  // A store tells all names apart.
  folded: [0, NAMESAKES, '', '4 files copied'],
  'equal inodes': [0, TWINS, '', '2 files copied'],
  'whole seconds': [0, BOTH, BOTH, '2 files copied'],
  'clamped times': [0, BOTH, '', '2 files copied'],
  'dropped times': [0, BOTH, '', '2 files copied'],
  'no chown': [0, BOTH, '', '2 files copied'],
  'no chmod': [0, BOTH, '', '2 files copied'],
  'no xattr': [0, BOTH, '', '2 files copied'],
  'ends early': [24, BOTH, '', 'after 7 bytes, and its size is 10'],
  'goes on': [24, BOTH, '', 'goes on after 4 bytes, which is its size'],
  hangs: [130, BOTH, '', ': aborting\n'],
  'nothing new': [0, BOTH, '', '2 files copied'],
};
/** The same of what comes from one. */
const FETCHED: Row['cells'] = {
  view: [0, BOTH, BOTH, '2 files copied'],
  // Of two directories that are one, either makes it.
  folded: [
    23,
    NAMESAKES,
    /^(Dir\/r=[12] (F=upper|f=lower)|(F=upper )?dir\/r=[12]( f=lower)?)$/,
    'another key is the same name here',
  ],
  'equal inodes': [0, TWINS, TWINS, '2 files copied'],
  'whole seconds': [0, BOTH, BOTH, '2 files copied'],
  'clamped times': [0, BOTH, BOTH, '2 files copied'],
  'dropped times': [23, BOTH, BOTH, 'the times were not kept'],
  'no chown': [0, BOTH, BOTH, '2 files copied'],
  'no chmod': [0, BOTH, BOTH, '2 files copied'],
  'no xattr': [0, BOTH, BOTH, '2 files copied'],
  'ends early': [0, BOTH, BOTH, '2 files copied'],
  'goes on': [0, BOTH, BOTH, '2 files copied'],
  hangs: [0, BOTH, BOTH, '2 files copied'],
  'nothing new': [23, BOTH, '', 'Required key not available'],
};
/** What a manifest says of each world, by one process or by more. */
const LISTED_SUMS: Row['cells'] = {
  ...saying(COMPARED, SUMS),
  folded: [0, NAMESAKES, 'Dir/r=1 F=upper', /^[0-9a-f]{32} {2}Dir\/r\n[0-9a-f]{32} {2}F\n$/],
  'equal inodes': [0, TWINS, TWINS, /^[0-9a-f]{32} {2}a\n[0-9a-f]{32} {2}sub\/b\n$/],
};
/** The same of one that was made of the files elsewhere, and is brought up to date: all is read again. */
const UPDATED = saying(LISTED_SUMS, /^\d entries listed, \d+ B hashed/);
/** The same of a verification: of the files of most worlds. */
const PROVED: Row['cells'] = {
  ...saying(COMPARED, VERIFIED),
  folded: [1, NAMESAKES, 'Dir/r=1 F=upper', 'MISMATCHED: 2 missing, 2 extra (exit 1)'],
  'equal inodes': [1, TWINS, TWINS, 'its content is not that of line 2 of'],
};
/** The same where one file is written anew, and its directory made. */
const REPAIRED: Row['cells'] = {
  // Nothing is good any more where the copy is the same directory in another view.
  view: [1, A, A, 'the copy is not good either'],
  // Who has its name already is as good as it.
  folded: [1, NAMESAKES, 'Dir/r=1 F=upper', 'its name leads to another file there'],
  'equal inodes': [0, TWINS, TWINS, REPAIRED_ONE],
  'whole seconds': [0, BOTH, BOTH, REPAIRED_ONE],
  'clamped times': [0, BOTH, BOTH, REPAIRED_ONE],
  'dropped times': [23, BOTH, BOTH, 'LOST (times, '],
  'no chown': [0, BOTH, BOTH, REPAIRED_ONE],
  'no chmod': [23, BOTH, BOTH, 'LOST (mode, '],
  'no xattr': [0, BOTH, BOTH, REPAIRED_ONE],
  // What was copied with the fault can't be repaired from there.
  'ends early': [1, BOTH, PADDED, 'the copy is not good either'],
  'goes on': [1, BOTH, CUT, 'the copy is not good either'],
  // The file that hangs is good where it was copied, and not read.
  hangs: [0, BOTH, BOTH, REPAIRED_ONE],
  'nothing new': [1, BOTH, A, 'Required key not available'],
};
const proving =
  (...more: string[]): Row['words'] =>
  (_source, _destination, faulty) => {
    writeFileSync(join(base, 'MD5SUMS'), `${md5('1234567')}  a\n${md5('89')}  sub/b\n`);
    return ['verify', ...more, '--in', faulty, join(base, 'MD5SUMS')];
  };

/** Where a manifest lies that a command of ours has made of such files, which no fault has touched. */
const listed = (files: Files): string => {
  const directory = mkdtempSync(join(base, 'listed-'));
  mkdirSync(join(directory, 'tree'));
  put(join(directory, 'tree'), files);
  const manifest = join(directory, 'M');
  prepare('manifest', '--quiet', '--format', 'jsonl', '--output', manifest, `${join(directory, 'tree')}/`);
  return manifest;
};

const ROWS: Record<string, Row> = {
  copy: {
    words: copying(),
    cells: COPIED,
  },
  'copy --verify': {
    words: copying('--verify'),
    cells: {
      ...COPIED,
      view: [0, BOTH, BOTH, 'verified: 2 files'],
      'equal inodes': [0, TWINS, TWINS, 'verified: 2 files'],
    },
  },
  'copy --no-everything': {
    words: copying('--no-owner', '--no-perms', '--no-acls', '--no-xattrs', '--no-times'),
    cells: {
      ...COPIED,
      'clamped times': [0, BOTH, BOTH, '2 files copied'],
      'dropped times': [0, BOTH, BOTH, '2 files copied'],
      'no chown': [0, BOTH, BOTH, '2 files copied'],
      'no chmod': [0, BOTH, BOTH, '2 files copied'],
      'no xattr': [0, BOTH, BOTH, '2 files copied'],
    },
  },
  'copy --require-space': {
    words: copying('--require-space'),
    cells: COPIED,
  },
  'copy --move': {
    words: copying('--move'),
    cells: MOVED,
  },
  'copy --move --accept-time-loss': {
    words: copying('--move', '--accept-time-loss'),
    cells: {
      ...MOVED,
      'clamped times': [0, GONE, BOTH, /note .*2040-01-01T00:00:00Z became 2033-05-18T03:33:20Z/],
      'dropped times': [0, GONE, BOTH, /note .*the times were not kept.*\/a$/m],
    },
  },
  'copy --delete': {
    words: copying('--delete'),
    before: 'extra',
    cells: {
      ...COPIED,
      view: [3, `a=1234567 ${E} sub/b=89`, `a=1234567 ${E} sub/b=89`, 'the same directory, seen in another way'],
      folded: [3, NAMESAKES, ONE_OF_EACH_AND_EXTRA, 'NOT REMOVED: '],
      'equal inodes': [0, TWINS, TWINS, '1 removed'],
      'whole seconds': [0, BOTH, BOTH, /1 removed\nskipped: 4 unchanged/],
      hangs: [130, BOTH, /^(?!(.* )?a=).*extra=e/, ': aborting\n'],
      'nothing new': [23, BOTH, E, 'Required key not available'],
    },
  },
  sync: {
    words: (source, destination) => ['sync', source, destination],
    cells: COPIED,
  },
  'sync file by file': {
    words: (source, destination) => ['sync', '--min-size', '0', source, destination],
    cells: {
      ...COPIED,
      view: [3, BOTH, BOTH, 'one is in the other, seen in another way'],
      // Of two directories that are one, either makes it.
      folded: [
        23,
        NAMESAKES,
        /^(Dir\/r=[12] (F=upper|f=lower)|(F=upper )?dir\/r=[12]( f=lower)?)$/,
        'another key is the same name here',
      ],
      'whole seconds': [0, BOTH, BOTH, 'skipped: 2 not-needed, 2 unchanged'],
      'clamped times': [23, BOTH, BOTH, /LOST .*2208988800 s became 2000000000 s/],
      // Either file may be the first that is told.
      'dropped times': [23, BOTH, BOTH, /LOST \(times, 2x\): the times were not kept/],
      'no chmod': [23, BOTH, BOTH, /LOST \(mode, \dx\): the mode was not kept/],
    },
  },
  'sync to a store': {
    words: up,
    cells: STORED,
  },
  'sync from a store': {
    words: down,
    cells: FETCHED,
  },
  migrate: {
    words: (source, destination) => ['migrate', '--verify', `${source}/`, destination],
    cells: {
      ...COPIED,
      // What seems to be another directory gets the archives.
      view: [0, BOTH_PACKED_TOO, BOTH_PACKED_TOO, 'verified: 2 files'],
      folded: [23, NAMESAKES, ONE_OF_EACH_PACKED, 'takes two names of the source for one'],
      'equal inodes': [0, TWINS, PACKED, 'verified: 2 files'],
      'whole seconds': [0, BOTH, BOTH_PACKED_TOO, 'verified: 2 files'],
      'clamped times': [0, BOTH, PACKED, /note .*2040-01-01T00:00:00Z became 2033-05-18T03:33:20Z/],
      'dropped times': [23, BOTH, PACKED, /LOST .*the times were not kept.*\/a\.gz$/m],
      'no chown': [23, BOTH, PACKED, /owner.*\/a\.gz$/m],
      'no chmod': [23, BOTH, PACKED, /mode was not kept.*\/a/],
      'no xattr': [23, BOTH, PACKED, /user\.note.*\/a\.gz$/m],
      'ends early': [24, BOTH, /^sub\/b\.gz=/, 'after 7 bytes, and its size is 10'],
      'goes on': [24, BOTH, /^sub\/b\.gz=/, 'goes on after 4 bytes, which is its size'],
      hangs: [130, BOTH, /^(?!.*a\.gz=)/s, ': aborting\n'],
    },
  },
  'copy --workers': {
    words: copying(...CREW),
    cells: {
      ...COPIED,
      folded: [3, NAMESAKES, '', 'only a copy by one process sees which of them meet'],
      // The end sets what directories are like once more.
      'whole seconds': [0, BOTH, BOTH, '0 files copied'],
    },
  },
  partition: {
    words: (_source, _destination, faulty) => ['partition', '-n', '1', `${faulty}/`],
    before: 'copy',
    cells: { ...untouched('a'), folded: [0, NAMESAKES, 'Dir/r=1 F=upper', 'F'] },
  },
  'sync --compare always to a store': {
    words: upAgain,
    cells: STORED,
  },
  'sync --compare always from a store': {
    words: downAgain,
    before: 'copy',
    cells: {
      ...FETCHED,
      folded: [23, NAMESAKES, ONE_OF_EACH, 'another key is the same name here'],
      // What is replaced keeps its owner and its rights, or says that it doesn't.
      'no chown': [23, BOTH, BOTH, /owner was not kept.*\/a/],
      'no chmod': [23, BOTH, BOTH, 'the mode was not kept'],
      'nothing new': [23, BOTH, BOTH, 'Required key not available'],
    },
  },
  dsync: {
    // What the real rsync makes of them: it takes a size for all that there is (which is told afterwards), and of two names
    // that are one the last stays.
    words: (source, destination) => ['dsync', ...DSYNC, source, destination],
    cells: {
      ...COPIED,
      view: [0, BOTH, BOTH, 'skipped: 3 unchanged'],
      folded: [0, NAMESAKES, 'Dir/r=2 F=lower', '4 files copied'],
      'whole seconds': [0, BOTH, BOTH, 'skipped: 3 unchanged'],
      'clamped times': [0, BOTH, BOTH, '2 files copied'],
      'dropped times': [0, BOTH, BOTH, '2 files copied'],
      'no chown': [23, BOTH, BOTH, /\/a: .*Operation not permitted/],
      'no chmod': [23, BOTH, 'sub/', 'Operation not permitted'],
      'no xattr': [0, BOTH, BOTH, '2 files copied'],
      'ends early': [23, BOTH, B, /\/a: No data available/],
      'goes on': [24, BOTH, CUT, /\/a: it goes on after the 4 bytes that it says it has/],
    },
  },
  'dsync --copy-with bulkhaul': {
    words: (source, destination) => ['dsync', ...DSYNC, '--copy-with', 'bulkhaul', source, destination],
    cells: {
      ...COPIED,
      view: [0, BOTH, BOTH, 'skipped: 3 unchanged'],
      folded: [3, NAMESAKES, '', 'takes names for one that differ by case'],
      'whole seconds': [0, BOTH, BOTH, 'skipped: 3 unchanged'],
      'clamped times': [0, BOTH, BOTH, '2 files copied'],
      'dropped times': [23, BOTH, BOTH, 'bulkhaul ended with 23'],
      'no chown': [23, BOTH, BOTH, /\/a: bulkhaul ended with 23/],
      'no chmod': [23, BOTH, BOTH, /\/a: bulkhaul ended with 23/],
      'no xattr': [23, BOTH, BOTH, /\/a: bulkhaul ended with 23/],
      'ends early': [23, BOTH, B, 'after 7 bytes, and its size is 10'],
      'goes on': [23, BOTH, B, 'goes on after 4 bytes, which is its size'],
    },
  },
  list: {
    words: (_source, _destination, faulty) => ['list', '-q', `${faulty}/`],
    before: 'copy',
    cells: {
      ...saying(COMPARED, LISTED),
      folded: [0, NAMESAKES, 'Dir/r=1 F=upper', /^\.\/\nDir\/\nDir\/r:.*\nF:.*\n$/],
      'equal inodes': [0, TWINS, TWINS, /^a:d3a46e9108289359\nsub\/\nsub\/b:1e75245c72a47feb$/m],
    },
  },
  manifest: {
    words: (_source, _destination, faulty) => ['manifest', '-q', '--algorithm', 'md5', `${faulty}/`],
    before: 'copy',
    cells: LISTED_SUMS,
  },
  'manifest --workers': {
    words: (_source, _destination, faulty) => ['manifest', '-q', ...CREW, '--algorithm', 'md5', `${faulty}/`],
    before: 'copy',
    cells: LISTED_SUMS,
  },
  'copy --manifest': {
    words: copying('--algorithm', 'md5', '--manifest', '-'),
    cells: {
      ...COPIED,
      // Of what is there already too, and of nothing that did not arrive.
      view: [0, BOTH, BOTH, LISTED_BOTH],
      folded: [23, NAMESAKES, ONE_OF_EACH, /^[0-9a-f]{32} {2}[Dd]ir\/r\n(?!.*[fF]\n.*[fF]\n)/],
      'equal inodes': [0, TWINS, TWINS, /^[0-9a-f]{32} {2}a\n[0-9a-f]{32} {2}sub\/b\n/],
      'whole seconds': [0, BOTH, BOTH, LISTED_BOTH],
      'clamped times': [0, BOTH, BOTH, LISTED_BOTH],
      'dropped times': [23, BOTH, BOTH, LISTED_BOTH],
      'no chown': [23, BOTH, BOTH, LISTED_BOTH],
      'no chmod': [23, BOTH, BOTH, LISTED_BOTH],
      'no xattr': [23, BOTH, BOTH, LISTED_BOTH],
      'ends early': [24, BOTH, B, /^[0-9a-f]{32} {2}sub\/b\n(?!.* {2}a\n)/s],
      'goes on': [24, BOTH, B, /^[0-9a-f]{32} {2}sub\/b\n(?!.* {2}a\n)/s],
    },
  },
  'manifest --update': {
    words: (_source, _destination, faulty, files) => {
      const older = listed(files);
      return ['manifest', '--update', '--format', 'jsonl', '--output', older, `${faulty}/`];
    },
    before: 'copy',
    cells: UPDATED,
  },
  verify: { words: proving(), before: 'copy', cells: PROVED },
  'verify --quick': {
    words: (_source, _destination, faulty, files) => ['verify', '--quick', '--in', faulty, listed(files)],
    before: 'copy',
    cells: {
      ...untouched(UNREAD),
      folded: [1, NAMESAKES, 'Dir/r=1 F=upper', 'MISMATCHED: 3 missing (exit 1)'],
      'ends early': [1, BOTH, PADDED, 'it has 10 bytes, and line 2 of'],
      'goes on': [1, BOTH, CUT, 'it has 4 bytes, and line 2 of'],
    },
  },
  'verify --repair-from': {
    words: (source, destination, _faulty, files) => {
      const manifest = listed(files);
      rmSync(join(destination, 'sub'), { recursive: true, force: true });
      return ['verify', '--repair-from', source, '--in', destination, manifest];
    },
    before: 'copy',
    cells: REPAIRED,
  },
  compress: {
    words: (_source, _destination, faulty) => ['compress', '--force', `${faulty}/`],
    before: 'copy',
    cells: COMPRESSED,
  },
  'compress --workers': {
    words: (_source, _destination, faulty) => ['compress', ...CREW, '--force', `${faulty}/`],
    before: 'copy',
    cells: COMPRESSED,
  },
  decompress: {
    words: (_source, _destination, faulty) => ['decompress', '--test', `${faulty}/`],
    before: 'copy',
    // It finds no archives.
    cells: untouched(NO_ARCHIVES),
  },
  pack: {
    words: (source, destination) => ['pack', `${source}/`, destination],
    cells: {
      // What the run itself makes is no entry.
      view: [0, /^a=1234567 shard-00001\.jsonl=.* sub\/b=89$/s, /^a=1234567 shard-00001\.jsonl=/, SHARDED],
      folded: [0, NAMESAKES, /^shard-00001\.jsonl=.*"Dir\/r".*"F".*"dir\/r".*"f"/s, 'complete: 7 entries'],
      // Each has its own content: they are no names of one file.
      'equal inodes': [0, TWINS, /"a".*"f619f1de.*"sub\/b".*"435e8470/s, SHARDED],
      'whole seconds': [0, BOTH, /^a=1234567 shard-00001\.jsonl=/, SHARDED],
      'clamped times': [0, BOTH, SHARD, SHARDED],
      'dropped times': [0, BOTH, SHARD, SHARDED],
      'no chown': [0, BOTH, SHARD, SHARDED],
      'no chmod': [0, BOTH, SHARD, SHARDED],
      'no xattr': [0, BOTH, SHARD, SHARDED],
      'ends early': [24, BOTH, /^shard-00001\.jsonl=(?!.*"path":"a")/s, 'after 7 bytes, and its size is 10'],
      'goes on': [24, BOTH, /^shard-00001\.jsonl=(?!.*"path":"a")/s, 'goes on after 4 bytes, which is its size'],
      // No shard has its name.
      hangs: [130, BOTH, /^(?!(.* )?shard-)/s, ': aborting\n'],
      'nothing new': [23, BOTH, '', 'Required key not available'],
    },
  },
  unpack: {
    words: (source, destination, faulty, files) => {
      const shards = mkdtempSync(join(base, 'shards-'));
      // What a faulty source does to shards is another row's affair.
      const tree = source === faulty ? mkdtempSync(join(base, 'tree-')) : source;
      if (source === faulty) put(tree, files);
      if (existsSync(tree)) execFileSync(executable, ['pack', '-q', '--no-journal', `${tree}/`, shards]);
      return ['unpack', shards, destination];
    },
    cells: {
      view: [0, BOTH, BOTH, 'skipped: 4 unchanged'],
      folded: [23, NAMESAKES, ONE_OF_EACH, 'takes two names of the source for one'],
      'equal inodes': [0, TWINS, TWINS, SHARDED],
      'whole seconds': [0, BOTH, BOTH, '0 files copied'],
      'clamped times': [0, BOTH, BOTH, "note (time, 1x): the destination can't keep its time"],
      'dropped times': [23, BOTH, BOTH, 'LOST (times, '],
      'no chown': [23, BOTH, BOTH, /LOST .*the owner was not kept.*\/a$/m],
      'no chmod': [23, BOTH, BOTH, 'LOST (mode, '],
      'no xattr': [23, BOTH, BOTH, 'extended attribute user.note was not kept'],
      'ends early': [0, BOTH, BOTH, SHARDED],
      'goes on': [0, BOTH, BOTH, SHARDED],
      hangs: [0, BOTH, BOTH, SHARDED],
      'nothing new': [23, BOTH, '', 'Required key not available'],
    },
  },
  retain: {
    words: (_source, _destination, faulty) => ['retain', '--key', 'year', '--keep', '1', faulty],
    before: 'copy',
    // Nothing there is in a partition, and nothing is read.
    cells: untouched('0 entries removed'),
  },
  'decompress of archives': {
    words: (_source, _destination, faulty) => ['decompress', `${faulty}/`],
    before: 'archives',
    cells: {
      view: [0, BOTH, BOTH, '2 files decompressed'],
      // Of two archives whose content has one name both stay, or all but that which came first.
      folded: [23, NAMESAKES, /upper.*lower|lower.*upper|\.gz=/s, 'both stay'],
      'equal inodes': [0, PACKED, '', '2 several-names'],
      'whole seconds': [0, BOTH, BOTH, '2 files decompressed'],
      'clamped times': [0, BOTH, BOTH, '2 files decompressed'],
      'dropped times': [23, BOTH, PACKED, 'its time was not kept, so it stays'],
      'no chown': [23, BOTH, /^a\.gz=.* sub\/b=89$/s, 'its owner was not kept, so it stays'],
      'no chmod': [23, BOTH, PACKED, 'its mode was not kept, so it stays'],
      'no xattr': [0, BOTH, BOTH, '2 files decompressed'],
      // The content has the fault when it has its name.
      'ends early': [23, /^a\.gz=.* a=1234567 sub\/b=89$/s, '', 'both stay'],
      'goes on': [23, /^a\.gz=.* a=1234567 sub\/b=89$/s, '', 'both stay'],
      hangs: [0, BOTH, '', '2 files decompressed'],
      'nothing new': [23, BOTH, PACKED, 'Required key not available'],
    },
  },
  'decompress -': {
    words: () => ['decompress', '-'],
    input: () => gzipSync('1234567'),
    cells: {
      view: [0, BOTH, BOTH, '1234567'],
      folded: [0, NAMESAKES, '', '1234567'],
      'equal inodes': [0, / sub\/b=7654321$/, '', '1234567'],
      'whole seconds': [0, BOTH, BOTH, '1234567'],
      'clamped times': [0, BOTH, '', '1234567'],
      'dropped times': [0, BOTH, '', '1234567'],
      'no chown': [0, BOTH, '', '1234567'],
      'no chmod': [0, BOTH, '', '1234567'],
      'no xattr': [0, BOTH, '', '1234567'],
      // Its size is not believed: all is read that there is.
      'ends early': [0, / sub\/b=89$/, '', '1234567'],
      'goes on': [0, / sub\/b=89$/, '', '1234567'],
      hangs: [130, / sub\/b=89$/, '', 'standard input had not ended, and nothing was begun'],
      'nothing new': [0, BOTH, '', '1234567'],
    },
  },
  'unpack -': {
    words: (_source, destination) => ['unpack', '-', destination],
    input: (files) => {
      const tree = mkdtempSync(join(base, 'tree-'));
      put(tree, files);
      return execFileSync('tar', ['-C', tree, '--mtime=@1234567890', '-c', ...Object.keys(files)]);
    },
    cells: {
      view: [0, BOTH, BOTH, '2 files copied'],
      folded: [23, NAMESAKES, ONE_OF_EACH, 'takes two names of the source for one'],
      'equal inodes': [0, / sub\/b=7654321$/, TWINS, '2 files copied'],
      'whole seconds': [0, BOTH, BOTH, '2 files copied'],
      'clamped times': [0, BOTH, BOTH, '2 files copied'],
      'dropped times': [23, BOTH, BOTH, 'LOST (times, '],
      'no chown': [0, BOTH, BOTH, '2 files copied'],
      'no chmod': [23, BOTH, BOTH, 'LOST (mode, '],
      'no xattr': [0, BOTH, BOTH, '2 files copied'],
      'ends early': [0, / sub\/b=89$/, BOTH, '2 files copied'],
      'goes on': [0, / sub\/b=89$/, BOTH, '2 files copied'],
      hangs: [130, / sub\/b=89$/, '', 'standard input had not ended, and nothing was begun'],
      'nothing new': [23, BOTH, '', 'Required key not available'],
    },
  },
  move: {
    words: (source, destination) => ['move', `${source}/`, destination],
    cells: MOVED,
  },
  compare: {
    words: comparing(),
    before: 'copy',
    cells: COMPARED,
  },
  'compare --content': {
    words: comparing('--content'),
    before: 'copy',
    cells: COMPARED,
  },
  remove: {
    words: (_source, _destination, faulty) => ['remove', '--yes', faulty],
    before: 'copy',
    cells: REMOVED,
  },
  'remove --workers': {
    words: (_source, _destination, faulty) => ['remove', ...CREW, '--yes', faulty],
    before: 'copy',
    cells: REMOVED,
  },
  hpcp: {
    words: hpcp(),
    cells: HPCP,
  },
  'hpcp --no-owner': {
    words: hpcp('--no-owner'),
    cells: {
      ...HPCP,
      'clamped times': [0, BOTH, BOTH, /note: .*2040-01-01T00:00:00Z became 2033-05-18T03:33:20Z \(at .*\/a\)/],
      'no chown': [0, BOTH, BOTH, 'Done.'],
    },
  },
  'hpcp -rm': {
    words: hpcp('-rm', '-rf'),
    cells: HPCP_MOVED,
  },
  'hpcp -rm --accept-time-loss': {
    words: hpcp('-rm', '-rf', '--accept-time-loss'),
    cells: {
      ...HPCP_MOVED,
      'clamped times': [0, GONE, BOTH, 'Done.'],
      'dropped times': [0, GONE, BOTH, /note: the times were not kept.*\(4 times, first at /],
    },
  },
  'hpcp -rme': {
    words: hpcp('-rme', '-rf'),
    before: 'extra',
    cells: {
      ...HPCP,
      view: [241, `a=1234567 ${E} sub/b=89`, `a=1234567 ${E} sub/b=89`, 'the same directory, seen in another way'],
      folded: [212, NAMESAKES, ONE_OF_EACH_AND_EXTRA, 'Removal skipped: '],
      'equal inodes': [0, TWINS, TWINS, 'Removed 1 of 1 extra'],
      'whole seconds': [0, BOTH, BOTH, 'Removed 1 of 1 extra'],
      hangs: [130, BOTH, /^(?!(.* )?a=).*extra=e/, ': aborting\n'],
      'nothing new': [212, BOTH, E, 'Removal skipped: '],
    },
  },
  'run-mirror': {
    words: (source, destination) => ['run-mirror', '--manifest', '-', source, destination],
    cells: {
      view: [0, BOTH, BOTH, MIRRORED],
      folded: [2, NAMESAKES, ONE_OF_EACH, 'the copy is incomplete, so it was not verified'],
      'equal inodes': [0, TWINS, TWINS, MIRRORED],
      'whole seconds': [0, BOTH, BOTH, 'skipped: 4 unchanged'],
      'clamped times': [0, BOTH, BOTH, /note .*2040-01-01T00:00:00Z became 2033-05-18T03:33:20Z/],
      // The content is verified, whatever else was not kept.
      'dropped times': [2, BOTH, BOTH, /LOST .*the times were not kept[\s\S]*verified: 2 files/],
      'no chown': [2, BOTH, BOTH, /owner.*\/a\n[\s\S]*verified: 2 files/],
      'no chmod': [2, BOTH, BOTH, /mode was not kept.*\/a[\s\S]*verified: 2 files/],
      'no xattr': [2, BOTH, BOTH, /user\.note.*\/a\n[\s\S]*verified: 2 files/],
      'ends early': [2, BOTH, B, 'after 7 bytes, and its size is 10'],
      'goes on': [2, BOTH, B, 'goes on after 4 bytes, which is its size'],
      // It hashes while it copies.
      hangs: [2, BOTH, WITHOUT_A, ': aborting\n'],
      'nothing new': [2, BOTH, '', 'Required key not available'],
    },
  },
  compress_files: {
    words: (_source, _destination, faulty) => ['compress_files', '-r', faulty, '--remove'],
    before: 'copy',
    // No name there ends as it asks for: nothing is read or made.
    cells: untouched('0 files compressed'),
  },
  migrate_compress: {
    words: (source, destination) => [
      ...(['migrate_compress', '--log-dir', join(base, 'migrations')] as const),
      ...['-s', source, '-d', destination],
    ],
    cells: retold(COPIED, ([code, source, destination]) => {
      return [FINAL[code] ?? 1, source, destination, MIGRATED[code] ?? 'root_files: completed_with_errors'];
    }),
  },
  'image pack': {
    words: (source, destination) => {
      // Nothing sees that it would be packed into itself, where the destination is the source in another view.
      const held = existsSync(destination) && readdirSync(destination).length > 0;
      return ['image', 'pack', `${source}/`, join(held ? mkdtempSync(join(base, 'images-')) : destination, 'x.img')];
    },
    disks: true,
    cells: {
      view: [0, BOTH, BOTH, '2 files copied'],
      folded: [0, NAMESAKES, IMAGE, '4 files copied'],
      'equal inodes': [0, TWINS, IMAGE, '2 files copied'],
      'whole seconds': [0, BOTH, BOTH, '2 files copied'],
      'clamped times': [0, BOTH, IMAGE, '2 files copied'],
      'dropped times': [0, BOTH, IMAGE, '2 files copied'],
      'no chown': [0, BOTH, IMAGE, '2 files copied'],
      'no chmod': [0, BOTH, IMAGE, '2 files copied'],
      'no xattr': [0, BOTH, IMAGE, '2 files copied'],
      'ends early': [24, BOTH, IMAGE, 'after 7 bytes, and its size is 10'],
      'goes on': [24, BOTH, IMAGE, 'goes on after 4 bytes, which is its size'],
      hangs: [130, BOTH, `${IMAGE}.partial`, ': aborting\n'],
      'nothing new': [2, BOTH, '', "can't be used"],
    },
  },
  'image unpack': {
    words: (source, destination, faulty, files) => {
      const image = join(mkdtempSync(join(base, 'images-')), IMAGE);
      const tree = source === faulty ? mkdtempSync(join(base, 'tree-')) : source;
      if (source === faulty) put(tree, files);
      if (existsSync(tree)) prepare('image', 'pack', '-q', `${tree}/`, image);
      return ['image', 'unpack', image, destination];
    },
    disks: true,
    cells: {
      ...COPIED,
      'ends early': [0, BOTH, BOTH, '2 files copied'],
      'goes on': [0, BOTH, BOTH, '2 files copied'],
      hangs: [0, BOTH, BOTH, '2 files copied'],
      view: [0, BOTH, BOTH, /skipped: .*4 unchanged/],
      'whole seconds': [0, BOTH, BOTH, /skipped: .*4 unchanged/],
      'no xattr': [23, BOTH, BOTH, 'extended attribute user.note was not kept'],
    },
  },
  'hpcp -diff': {
    words: (source, destination) => {
      return ['hpcp', source, '-diff', join(mkdtempSync(join(base, 'images-')), 'p.img'), '-d', destination];
    },
    disks: true,
    cells: {
      view: [0, BOTH, BOTH, 'Changes: 0 added, 0 modified, 0 deleted'],
      folded: [0, NAMESAKES, '', 'Changes: 6 added, 0 modified, 0 deleted'],
      'equal inodes': [0, TWINS, '', 'Patch image written'],
      'whole seconds': [0, BOTH, BOTH, 'Changes: 0 added, '],
      'clamped times': [0, BOTH, '', 'Patch image written'],
      'dropped times': [0, BOTH, '', 'Patch image written'],
      'no chown': [0, BOTH, '', 'Patch image written'],
      'no chmod': [0, BOTH, '', 'Patch image written'],
      'no xattr': [0, BOTH, '', 'Patch image written'],
      'ends early': [209, BOTH, '', 'after 7 bytes, and its size is 10'],
      'goes on': [209, BOTH, '', 'goes on after 4 bytes, which is its size'],
      hangs: [130, BOTH, '', ': aborting\n'],
      'nothing new': [0, BOTH, '', 'Patch image written'],
    },
  },
  'hpcp -siff': {
    words: (source, destination, faulty, files) => {
      const directory = mkdtempSync(join(base, 'images-'));
      const tree = source === faulty ? mkdtempSync(join(base, 'tree-')) : source;
      if (source === faulty) put(tree, files);
      mkdirSync(join(directory, 'none'));
      const patch = join(directory, 'p.img');
      if (existsSync(tree)) prepare('hpcp', tree, '-diff', patch, '-d', join(directory, 'none'));
      return ['hpcp', '-siff', patch, '-d', destination];
    },
    disks: true,
    cells: {
      view: [0, BOTH, BOTH, 'skipped 3, conflicts 0'],
      // Of two names that are one the first is there when the second comes.
      folded: [245, NAMESAKES, ONE_OF_EACH, 'it has changed since the patch was planned'],
      'equal inodes': [0, TWINS, TWINS, 'added 3, '],
      'whole seconds': [0, BOTH, BOTH, 'skipped 3, conflicts 0'],
      // A patch is exact.
      'clamped times': [246, BOTH, BOTH, 'it is not what the patch makes of it: time'],
      'dropped times': [246, BOTH, BOTH, 'it is not what the patch makes of it: time'],
      'no chown': [246, BOTH, BOTH, 'it is not what the patch makes of it: owner'],
      'no chmod': [246, BOTH, BOTH, 'it is not what the patch makes of it: mode'],
      'no xattr': [246, BOTH, BOTH, 'it is not what the patch makes of it: xattrs'],
      'ends early': [0, BOTH, BOTH, 'added 3, '],
      'goes on': [0, BOTH, BOTH, 'added 3, '],
      hangs: [0, BOTH, BOTH, 'added 3, '],
      'nothing new': [245, BOTH, '', 'Required key not available'],
    },
  },
  move_to_final: {
    words: (source, destination) => ['move_to_final', '--log-dir', join(base, 'logs'), '-s', source, '-d', destination],
    cells: retold(MOVED, ([code, ...rest]) => [FINAL[code] ?? 1, ...rest]),
  },
};

const server = new S3({});

beforeAll(() => server.listen());
afterAll(() => server.close());
const mounts = new Map<string, Promise<Mount | undefined>>();
afterAll(async () => {
  for (const mount of mounts.values()) await (await mount)?.unmount();
  rmSync(base, { recursive: true });
});

/** One file system a fault, with a directory for each row; one for each row where what hangs there stays so. */
function mounted(hidden: string, row: string, { options, stopped }: Fault): Promise<Mount | undefined> {
  const key = stopped ? join(hidden, row) : hidden;
  const mount = mounts.get(key) ?? mountFaulty(hidden, options);
  mounts.set(key, mount);
  return mount;
}

function put(root: string, files: Files): void {
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true });
    writeFileSync(join(root, name), content);
  }
}

/** What is in a directory: `name=content` of its files, and the names of images, and of directories that hold nothing. */
function left(root: string): string {
  const below = (directory: string): string[] =>
    readdirSync(join(root, directory), { withFileTypes: true }).flatMap((entry) => {
      const name = `${directory}${entry.name}`;
      if (name.startsWith(IMAGE)) return [name];
      if (!entry.isDirectory()) return [`${name}=${readFileSync(join(root, name))}`];
      const inside = below(`${name}/`);
      return inside.length === 0 ? [`${name}/`] : inside;
    });
  return existsSync(root) ? below('').sort().join(' ') : GONE;
}

/** Runs a command, its standard input from a file. */
function runFrom(input: string, words: string[], surroundings: Parameters<typeof program>[2]) {
  const script = 'exec "$@" <"$0"';
  return program('sh', ['-c', script, input, process.execPath, executable, ...words], surroundings);
}

/** Stops a command twice when the read that it began hangs. */
async function stopTwice(child: ChildProcess, { hangs }: Mount): Promise<void> {
  onTestFinished(() => void child.kill('SIGKILL'));
  await hangs();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) child.kill(signal);
}

const matches = (text: string | RegExp) =>
  typeof text === 'string' ? text : (expect.stringMatching(text) as unknown as string);

/** What takes disks takes long. */
const LONG = WITHOUT_DISKS === undefined && process.env.BULKHAUL_EXHAUSTIVE === '1';

describe.each(Object.entries(ROWS))('%s', (row, { words, before, input, cells, disks = false }) => {
  it('says what it does in each world', () => expect(Object.keys(cells).sort()).toEqual(Object.keys(FAULTS).sort()));

  it.skipIf(disks && !LONG).for(Object.entries<Fault>(FAULTS))(
    '%s',
    { timeout: 60_000 },
    async ([fault, world], { skip }) => {
      const hidden = join(base, fault);
      mkdirSync(hidden, { recursive: true });
      const mount = await mounted(hidden, row, world);
      if (!mount) return skip();
      const behind = join(hidden, row);
      const faulty = join(mount.point, row);
      const plain = join(base, 'plain', fault, row);
      const source = { source: faulty, destination: plain, same: behind }[world.side];
      const destination = world.side === 'source' ? plain : faulty;
      const real = {
        source: source === faulty ? behind : source,
        destination: destination === faulty ? behind : plain,
      };
      for (const each of Object.values(real)) mkdirSync(each, { recursive: true });
      put(real.source, world.files);
      world.arrange?.(real.source);
      if (world.copied || before === 'copy') {
        if (world.copy) put(real.destination, world.copy);
        else if (world.side !== 'same') execFileSync('cp', ['-a', `${real.source}/.`, real.destination]);
      }
      if (before === 'archives') {
        // What has the fault holds archives, and nothing else.
        const held = world.side === 'source' ? real.source : real.destination;
        if (held !== real.source) execFileSync('cp', ['-a', `${real.source}/.`, held]);
        execFileSync('gzip', ['-r', held]);
      }
      if (before === 'extra') put(real.destination, { extra: 'e' });
      let stdin = '/dev/null';
      if (input) {
        const there = world.side === 'source' ? real.source : mkdtempSync(join(base, 'input-'));
        writeFileSync(join(there, 'a'), input(world.files));
        stdin = join(there === real.source ? source : there, 'a');
      }

      const onStart = world.stopped ? (child: ChildProcess) => void stopTwice(child, mount) : undefined;
      const env = TO_STORES.has(words) ? server.env : {};
      const { code, stdout, stderr } = await runFrom(stdin, words(source, destination, faulty, world.files), {
        onStart,
        env,
      });
      const [wanted, leftInSource, leftInDestination, said] = cells[fault as keyof typeof cells];
      const outcome = { code, source: left(real.source), destination: left(real.destination), said: stdout + stderr };
      expect(outcome).toEqual({
        code: wanted,
        source: matches(leftInSource),
        destination: matches(leftInDestination),
        said: typeof said === 'string' ? expect.stringContaining(said) : matches(said),
      });
    },
  );
});

it('every verb and drop-in has a row', () => {
  const source = (name: string) => new URL(`../src/cli/${name}`, import.meta.url);
  const verbs = readdirSync(source('verbs')).map((file) => file.replace(/\.ts$/, ''));
  const dropIns = readdirSync(source('dropin'), { withFileTypes: true }).filter((entry) => entry.isDirectory());
  // They see the journals of jobs, or begin the job of another verb.
  const ofJobs = ['report', 'resume', 'status', 'worker'];
  // They ask the machine, or tell of the commands.
  const ofNothing = ['completion', 'doctor'];
  const without = [...ofJobs, ...ofNothing];
  const known = new Set(Object.values(ROWS).map(({ words }) => words('s', 'd', 's', {})[0]));
  expect([...known].sort()).toEqual(
    [...verbs, ...dropIns.map(({ name }) => name)].filter((name) => !without.includes(name)).sort(),
  );
});
