/**
 * What the addon is asked: the options of each operation, and the groups that several of them share.
 *
 * One to one with `bindings/node`: the type test holds the keys of both against each other. Paths are bytes.
 */

/** Bytes of a path, as the file system has them. */
export type PathBytes = Buffer;

/** One source argument. */
export interface NativeSource {
  /** Where it is. */
  path: PathBytes;
  /** true: the contents of this directory go into the destination; false: the entry itself does. */
  contents: boolean;
  /** The name that the entry takes in the destination; not with `contents`. Default: the source's own last component. */
  name?: PathBytes;
  /** Follow the argument when it is a symlink to a directory. `contents` always does. */
  follow: boolean;
}

/** One destination directory: entries land in it by name. Made, with its parents, when absent. */
export interface NativeDestination {
  /** Where it is. */
  path: PathBytes;
  /** Follow the last component when it is a symlink to a directory (the argument itself was named by the user). */
  follow: boolean;
}

/** A file that has names, one a line. */
export interface NativeNames {
  /** The file; `/dev/stdin` for standard input. */
  path: PathBytes;
  /** Each name ends with NUL, whatever is in it. */
  nul: boolean;
  /** A directory that it names comes with all that is in it. Default false; where parts are made, always. */
  contents?: boolean;
}

/** What is allowed in a second. */
export interface Limits {
  /** Bytes a second read from the sources, also to compare; two files that are compared byte by byte count as one. What the file system shares instead of copying it is not read. Default 0: no limit. */
  bytes?: number;
  /** Entries a second that are looked at, whatever becomes of them; a fraction will do. Default 0: no limit. */
  entries?: number;
}

/** What a job may take of the machine. */
export interface Resources {
  /** Worker threads at most, 1 to 1024. Default 0: from CPU affinity, cgroup quota, and the devices. */
  jobs?: number;
  /** How fast it may go. Default: as fast as it can. */
  limits?: Limits;
  /** Niceness of the worker threads, -20 to 19; what the system refuses is a note. Default: the caller's. */
  nice?: number;
  /** Order of the workers' disk requests: `idle`, `best-effort[:0-7]`, `realtime[:0-7]`; what the system refuses is a note. Default: the caller's. */
  ionice?: string;
}

/** Rules for names; the first that matches decides, and what none matches is taken. */
export interface NativeFilter {
  /** `rsync`: as its --exclude, relative to the root of the transfer; `fnmatch`: hpcp's patterns, on absolute paths, of which each excludes. */
  style: 'rsync' | 'fnmatch';
  /** In `rsync` style `+ PATTERN` includes, `- PATTERN` and a bare PATTERN exclude, and `!` forgets the rules before it. */
  rules: PathBytes[];
}

/** What of the trees counts. */
export interface Selection {
  /** Rules for names. Default: everything is taken. */
  filter?: NativeFilter;
  /** Other file systems below a source are not entered. Default false. */
  oneFileSystem?: boolean;
}

/** When deleting is too much, so that nothing is deleted. One of the two. */
export interface DeletionLimit {
  /** More entries than this. Default: no limit. */
  maxDelete?: number;
  /** More of a hundred entries that are there, 0 to 100. Default: no limit. */
  maxDeletePercent?: number;
}

/** A manifest that is made in the copying pass. */
export interface NativeCopyManifest extends ManifestForm {
  /** The file that it goes to, whole or not at all. */
  path: PathBytes;
}

/** A file with all content of a source, written and synced. */
export interface NativeGathered {
  /** Its name beside the copy that is to be. */
  name: PathBytes;
  /** Which version of the source it is of: inode, size, times of modification and of change in nanoseconds, with blanks between. */
  version: string;
}

/** Where a file goes that is in none of several destinations. */
export interface NativePlacement {
  /** Number of its inode. */
  inode: number;
  /** Its bytes. */
  size: number;
  /** Bytes that it takes, which no other file may have there. */
  room: number;
  /** Index of the destination. */
  destination: number;
}

/** How archives are made. */
export interface ArchiveForm {
  /** `bgzf`: gzip in blocks, which every reader of gzip takes, and which is read in parallel and from the middle; `gzip`: in one member, for readers that stop after the first; `xz`; `zstd`. Default `bgzf`. */
  format?: ArchiveFormat;
  /** The level, from the fastest to the smallest: bgzf and gzip 1 to 12, xz 0 to 9, zstd 1 to 19. Default 6, of zstd 3. */
  level?: number;
  /** An index (`.gzi`) is written beside each archive, of the format bgzf. Default false. */
  index?: boolean;
  /** Each file is read once more when its archive is proved, from the medium where that can be had, and has to give the same: a bit that flips in its only reading is not seen otherwise. With `verify`, where that is an option. Default false. */
  verifySource?: boolean;
}

/** Files that become archives on their way; what is compressed already is copied as it is. */
export interface NativePacking extends ArchiveForm {
  /** What their names end with, of several parts perhaps, in any case. Default: anything. */
  extensions?: PathBytes[];
  /** Files of fewer bytes are copied as they are. Default 0. */
  minSize?: number;
  /** Memory for codecs, in bytes. Default: half of what may be used. */
  memory?: number;
  /** false: where an archive would take the place of something else, that is a conflict, and that stays. Default true: it is replaced. */
  replace?: boolean;
}

export interface NativeCopyOptions extends Resources, Selection, DeletionLimit {
  /** What is copied; where two bring one name the later one wins. */
  sources: NativeSource[];
  /** More than one: each file goes to one of them, in order, the next when one is full. */
  destinations: NativeDestination[];
  /** false: an absent destination is an error (hpcp -ncd). Default true. */
  createDestination?: boolean;
  /** true: a destination below a source is allowed and not descended into (hpcp). Default false: refused. */
  allowNested?: boolean;
  /** Where several sources bring one name, and not all of them a directory, which merge: `last`, that of the last is copied; `first`, that of the first; `fail`, that of the last, and what others have with other content is a failure. Default: `fail`. */
  onCollision?: 'fail' | 'last' | 'first';
  /** A list of names relative to the one source, one a line, or with `nul` each ended by NUL; `/dev/stdin` for standard input. A directory comes by itself, with `contents` with what is in it. Default: all of the source. */
  filesFrom?: NativeNames;
  /** Bytes at the end of a file that are compared before it is skipped; 0: size and time decide. Default 65536. */
  hashSize?: number;
  /** Whole files are compared before they are skipped. Default false. */
  fullHash?: boolean;
  /** Holes in files: `auto` as in the source, `always` also for runs of zeros, `never` none. Default `auto`. */
  sparse?: 'auto' | 'always' | 'never';
  /** What is on disk for sure after a power cut: `none`; `safe` whatever the next run could mistake for finished; `all` everything, before the job ends. A move is always `all`. Default `safe`. */
  sync?: 'none' | 'safe' | 'all';
  /** Nothing is done: events and report say what would be. Default false. */
  dryRun?: boolean;
  /** In the destination a symlink to a directory serves as a directory; otherwise it is a conflict. Default false. */
  keepDirlinks?: boolean;
  /** `all`; `only`: directories and nothing else (hpcp -do); `needed`: parents of files, no metadata (hpcp -nds). Default `all`. */
  directories?: 'all' | 'only' | 'needed';
  /** hpcp -lt: targets of relative links that would dangle are copied too, when they land inside the destination. Default false. */
  linkTracking?: boolean;
  /** hpcp -co: contents only; no mode, owner, times or xattrs. Default false. */
  contentOnly?: boolean;
  /** false: owner and group are not kept (--no-owner). Default true. */
  owner?: boolean;
  /** false: permissions are not kept, nor ACLs, which are part of them (--no-perms). Default true. */
  permissions?: boolean;
  /** false: ACLs are not kept (--no-acls). Default true. */
  acls?: boolean;
  /** false: extended attributes and capabilities are not kept (--no-xattrs). Default true. */
  xattrs?: boolean;
  /** false: times are not kept, so that the next run copies again (--no-times). Default true. */
  times?: boolean;
  /** Owner to set, a numeric id. Default: that of the source. */
  chownUser?: number;
  /** Group to set, a numeric id. Default: that of the source. */
  chownGroup?: number;
  /** rsync's --chmod text, such as `D755,F644` or `u=rwX,go-w`. Default: modes are those of the source. */
  chmod?: string;
  /** Size the sources first and refuse when they don't fit, by bytes or by inodes (hpcp -enes, --require-space). Default false. */
  requireSpace?: boolean;
  /** Read back from the medium and compare with what the source gave, also what the skip test passes over. Default false. */
  verify?: boolean;
  /** Remove from directories of the destination what is in none of the sources that were copied into them. Default false. */
  removeExtra?: boolean;
  /** Remove each source entry whose copy was synced, read back and matched. Default false. */
  removeSources?: boolean;
  /** A move gives an entry its new place by a rename, a directory with all that is in it, where its name there is free and both are on one file system; not with `removeExtra`, `maxDelete`, `confirm`, and what changes metadata. Default false. */
  rename?: boolean;
  /** false: where something else has an entry's name in the destination, that is a conflict, and both stay. Default true: it is replaced. */
  replace?: boolean;
  /** Of these remove also entries with a time that the destination can't keep. Default false: they stay. */
  acceptTimeLoss?: boolean;
  /** Ask by a `question` event before extra entries and sources are removed, once; without a reader the answer is no. Default false. */
  confirm?: boolean;
  /** A file goes to one of several destinations by chance, not to the first with room. Default false. */
  randomDestination?: boolean;
  /** Files, by number of inode and size, that go to a certain one of several destinations, by its index, with the bytes that they take; any other goes to the first that has room beside them. Default: none. */
  placement?: NativePlacement[];
  /** A manifest of what is in the destination then, by paths below it and by what the sources gave: the digests are made while the bytes pass, and what is there already is read for them. Default: none. */
  manifest?: NativeCopyManifest;
  /** The same of what is stored, where files become archives: of those the archive, by its name. With the digests of `manifest`, where there are both. Default: none. */
  storedManifest?: NativeCopyManifest;
  /** Files that become archives on their way, in one destination; not with `removeSources`. Default: none. */
  packing?: NativePacking;
  /** What others have gathered of the one file of `filesFrom`. It becomes the copy; where it can't, the file is copied. Default: none. */
  gathered?: NativeGathered;
  /** Files that the caller has open meanwhile: they stay, and nothing takes their place. Default: none. */
  inUse?: PathBytes[];
  /** A file of the job's own, in which it says what it has proved with `verify`, so that the next run goes on should this one die; it goes with the end. Default: none. */
  finished?: PathBytes;
  /** Such files of others, which have copied parts of the same for this job; they stay. Default: none. */
  finishedElsewhere?: PathBytes[];
  /** Its own stays too: the job is such a part. Default false. */
  keepFinished?: boolean;
  /** Inodes with several links whose copies are kept in memory; past it they go to a file in `spillDirectory`. Default 65536. */
  linksInMemory?: number;
  /** Directory for temporary files without a name, made when they are needed. Default: memory is used instead. */
  spillDirectory?: PathBytes;
  /** Deliver an `entry` event for each entry, in a dry run in the order of their paths. Failures and notes are always delivered. Default false. */
  entryEvents?: boolean;
}

export interface NativeRemoveOptions extends Resources, DeletionLimit {
  /** What to remove; a symlink goes itself. */
  paths: PathBytes[];
  /** Only what a list names below the one path, which stays; what is not there any more is nothing to tell. Default: all of it. */
  filesFrom?: Omit<NativeNames, 'contents'>;
  /** Rules for names: what is excluded stays. `rsync` rules see each path from its last component on. Default: nothing stays. */
  filter?: NativeFilter;
  /** Nothing is removed: events and report say what would be. Default false. */
  dryRun?: boolean;
  /** List everything before anything goes; a listing error then leaves everything. Default false. */
  listFirst?: boolean;
  /** Directories that are not removed and not removed from above, beside `/` and the working directory. Default: none. */
  protected?: PathBytes[];
  /** Directories that are removed though they are protected, and entered though something is mounted there. Default: none. */
  noPreserveRoot?: PathBytes[];
  /** Files that the caller has open meanwhile, or is about to: they are not removed. Default: none. */
  inUse?: PathBytes[];
  /** A path that does not exist is no failure. Default false. */
  ignoreMissing?: boolean;
  /** Directory for temporary files without a name, for what a dry run tells in order. Absent: memory is used. */
  spillDirectory?: PathBytes;
  /** Deliver an `entry` event for each entry, in a dry run in the order of their paths. Default false. */
  entryEvents?: boolean;
}

/** One argument of a list or a comparison. */
export interface NativeTree {
  /** Where it is. */
  path: PathBytes;
  /** It stands for what is in it. A path without a name (`.`, `..`, a slash at the end) always does. */
  contents: boolean;
  /** Follow the argument when it is a symlink to a directory. `contents` always does. */
  follow: boolean;
}

export interface NativeListOptions extends Resources, Selection {
  /** What is listed, in this order. */
  sources: NativeTree[];
  /** false: names only. Default true. */
  hashes?: boolean;
  /** Bytes at the end of a file that are hashed; 0: none. Default 65536. */
  hashSize?: number;
  /** Whole files are hashed. Default false. */
  fullHash?: boolean;
  /** Lines end with NUL and are names only, not escaped. Default false. */
  nul?: boolean;
  /** The file that the list goes to, whole or not at all. Default: only events. */
  output?: PathBytes;
  /** A file of the job's own, in which it says what it has hashed of more than 64 KiB each, so that the next run goes on should this one die; it goes with the end. Default: none. */
  finished?: PathBytes;
  /** Directory for temporary files without a name, for lists that memory does not hold. Default: memory is used. */
  spillDirectory?: PathBytes;
  /** An `entry` event for each entry, in the order of the list. Default false. */
  entryEvents?: boolean;
}

/** How a digest is made. */
export type Algorithm = 'blake3' | 'sha256' | 'sha512' | 'md5' | 'crc32c' | 'xxh3';

/** How a manifest is written. */
export type ManifestFormat = 'sums' | 'jsonl' | 'hashdeep' | 'bagit';

/** What a manifest says, and how. */
export interface ManifestForm {
  /** The digests of each file; `sums` and `bagit` have one, hashdeep knows `md5` and `sha256`. Default: `blake3`; of `hashdeep` both of its own, of `bagit` `sha512`. */
  algorithms?: Algorithm[];
  /** `sums`: lines as b3sum, sha256sum and md5sum take them; `jsonl`: an object a line, with all that is known of entries of all kinds; `hashdeep`; `bagit`: the lines of a bag's manifest. Default `sums`. */
  format?: ManifestFormat;
  /** Lines of `sums` end with NUL, and names are as they are. Default false. */
  nul?: boolean;
}

export interface NativeManifestOptions extends Resources, Selection, ManifestForm {
  /** What it is of; for the addon of stores one URL. */
  sources: NativeTree[];
  /** Only what a list names below the one source: one name a line, or with `nul` each ended by NUL. Default: all of the sources. */
  filesFrom?: Omit<NativeNames, 'contents'>;
  /** The file that the manifest goes to, whole or not at all. Default: only events. */
  output?: PathBytes;
  /** The manifest that `output` is already, of the form `jsonl`, tells what is read: `changed`, files with another size, time of modification or time of change; `full`, all. What has other content with the same size and time of modification is an error (`behind-mtime`, or where the time of change is the same too `bit-rot`), and keeps its entry. Default: all is made anew. */
  update?: 'changed' | 'full';
  /** Files and directories that the caller uses meanwhile: they are left out. Default: none. */
  inUse?: PathBytes[];
  /** A file of the job's own, in which it says what it has read, so that the next run goes on should this one die; it goes with the end. Default: none. */
  finished?: PathBytes;
  /** Such files of others, which have read parts of the same for this job; they stay. Default: none. */
  finishedElsewhere?: PathBytes[];
  /** Its own stays too: the job is such a part. Default false. */
  keepFinished?: boolean;
  /** Directory for temporary files without a name, for manifests that memory does not hold. Default: memory is used. */
  spillDirectory?: PathBytes;
  /** An `entry` event for each entry, in the order of the manifest. Default false. */
  entryEvents?: boolean;
}

/** For whom lists of parts are: names as they are, `rsync --from0 --files-from`, `rclone --files-from-raw`, `tar --no-recursion -T`, or JSON lines. */
export type PartFormat = 'names' | 'rsync' | 'rclone' | 'tar' | 'jsonl';

export interface NativePartitionOptions extends Resources, Selection {
  /** What is divided: one source that stands for its contents, or any number that have names of their own. */
  sources: NativeTree[];
  /** Only what a list names, relative to the one source, which stands for its contents: one name a line, or with `nul` each ended by NUL; `/dev/stdin` for standard input. A directory is taken with all that is in it; `contents: false` is refused. Default: all of the sources. */
  filesFrom?: NativeNames;
  /** Into how many parts, 1 to 1000000; fewer where there are fewer entries. Default: as many as the limits of a part need, of which there is one then. */
  parts?: number;
  /** Entries that a part may hold. Default: any number. */
  maxEntries?: number;
  /** Bytes of files that a part may hold; a file of more has a part of its own, and is to be split. Default: any number. */
  maxBytes?: number;
  /** Parts are handed on while the walk goes on, with `maxEntries` or `maxBytes`; which entry is in which part is then another matter each time. Default false. */
  live?: boolean;
  /** What an entry costs beside its bytes, in bytes, up to 2^40. Default 65536. */
  entryCost?: number;
  /** For whom the lists are. Default `names`. */
  format?: PartFormat;
  /** Names end with NUL; those for rsync always do. Not with `rclone` and `jsonl`. Default false. */
  nul?: boolean;
  /** Each list goes into a file of this path, a dot and the number of the part, whole or not at all. Default: parts are only told. */
  template?: PathBytes;
  /** All lists go into this file: lines of number, bytes and name, or JSON. Default: parts are only told. */
  output?: PathBytes;
  /** Lists that are there by names of the template are removed before the first of this run is written. Default false: they are refused. */
  replace?: boolean;
  /** Nothing is written: events and report say what the parts would be. Default false. */
  dryRun?: boolean;
  /** Directory for temporary files without a name, for what memory does not hold. Default: memory is used. */
  spillDirectory?: PathBytes;
}

/** How shards are compressed. */
export type ShardCompression = 'none' | 'zstd' | 'bgzf';

export interface NativePackOptions extends Resources, Selection {
  /** What is packed: one source that stands for its contents, or any number that have names of their own. */
  sources: NativeTree[];
  /** The directory that the shards go to; made where it is not there. One that has shards gets further ones with what is new or has changed. */
  destination: PathBytes;
  /** Bytes of content and headers in a shard at most, 1 or more; a larger file has a shard of its own. Default 10 GiB. */
  shardSize?: number;
  /** How shards are compressed: `zstd` (.tar.zst), `bgzf` (.tar.gz), both in pieces that are read alone. Default `none`. */
  compression?: ShardCompression;
  /** The level of that. Default: 3 of zstd, 6 of bgzf. */
  level?: number;
  /** Nothing is written: events and report say what the shards would be. Default false. */
  dryRun?: boolean;
  /** Files and directories that the caller uses meanwhile: they are left out. Default: none. */
  inUse?: PathBytes[];
  /** Directory for temporary files without a name, for what memory does not hold. Default: memory is used. */
  spillDirectory?: PathBytes;
  /** An `entry` event for each entry, in the order of packing. Default false. */
  entryEvents?: boolean;
}

export interface NativeUnpackOptions extends Resources {
  /** A directory of shards, or a tar file, which may be compressed. */
  source: PathBytes;
  /** The directory that entries go to; made where it is not there. Default: none; only the task `unpack` has one. */
  destination?: PathBytes;
  /** `unpack`; `list`, an event for each entry; `verify`: all is read, and compared with the sums of shards and entries. Default `unpack`. */
  task?: 'unpack' | 'list' | 'verify';
  /** Only these paths, a directory with what is in it; `*`, `?` and `[` as in rsync's patterns. Default: all. */
  only?: PathBytes[];
  /** Archives in one file, one behind the other, are taken for one. Default false: another one behind the end is a failure. */
  ignoreZeros?: boolean;
  /** false: owner and group are not restored. Default true. */
  owner?: boolean;
  /** Nothing is written: events and report say what would be. Default false. */
  dryRun?: boolean;
  /** Directory for temporary files without a name, for what memory does not hold, and for the content of compressed archives where nothing is written. Default: memory is used, and the working directory. */
  spillDirectory?: PathBytes;
  /** An `entry` event for each entry. Default false. */
  entryEvents?: boolean;
}

export interface NativeVerifyOptions extends Resources {
  /** Manifests, all of which hold; a directory stands for those below it, which their names tell. */
  manifests: PathBytes[];
  /** Where the paths in them begin, for the addon of stores a URL; of those below a directory, where it itself is taken to be. Default: each where its manifest lies. */
  directory?: PathBytes;
  /** Rules for names, in `rsync` style, about paths below the directory: what is excluded is neither verified nor extra. Default: everything is taken. */
  filter?: NativeFilter;
  /** What the digests are of. Default: the manifests tell. */
  algorithm?: Algorithm;
  /** Nothing but these paths below the directory. Default: all. */
  only?: PathBytes[];
  /** What no manifest names is an error. Default true. */
  extra?: boolean;
  /** Names, kinds and sizes only; no content is read. Default false. */
  quick?: boolean;
  /** Content is read of one of so many parts of the files only, from 0: which one a file is in its path alone tells, so that all parts together are all files. Default: all. */
  sample?: {
    /** The number of the part, from 0. */
    part: number;
    /** How many parts there are. */
    parts: number;
  };
  /** Files and directories that the caller uses meanwhile: they are not extra. Default: none. */
  inUse?: PathBytes[];
  /** A file of the job's own, in which it says what it has proved, so that the next run goes on should this one die; it goes with the end. Default: none. */
  finished?: PathBytes;
  /** Such files of others, which have read parts of the same for this job; they stay. Default: none. */
  finishedElsewhere?: PathBytes[];
  /** Its own stays too: the job is such a part. Default false. */
  keepFinished?: boolean;
  /** Directory for temporary files without a name, for what memory does not hold. Default: memory is used. */
  spillDirectory?: PathBytes;
  /** An `entry` event for each entry, in the order of their paths. Default false. */
  entryEvents?: boolean;
}

/** Which files are packed or unpacked, and what holds for both. */
export interface NativeFiles extends Resources, Selection {
  /** Files and trees; a symlink is not followed. */
  sources: NativeTree[];
  /** A list of names relative to the one source, one a line, or with `nul` each ended by NUL; `/dev/stdin` for standard input. With `contents` a directory that it names brings what is in it. Default: all of the sources. */
  filesFrom?: NativeNames;
  /** What names end with, of several parts perhaps, in any case, the suffix of an archive left out. Default: anything. */
  extensions?: PathBytes[];
  /** Files of fewer bytes are left alone. Default 0. */
  minSize?: number;
  /** What a file was made of stays. Default false. */
  keep?: boolean;
  /** false: owner and group need not be kept. Default true. */
  owner?: boolean;
  /** Files and directories that the caller uses meanwhile: they are left out. Default: none. */
  inUse?: PathBytes[];
  /** Memory for codecs, in bytes. Default: half of what may be used. */
  memory?: number;
  /** Nothing is written, and nothing goes: events and report say what would. Default false. */
  dryRun?: boolean;
  /** Directory for temporary files without a name, for what a dry run tells in order. Absent: memory is used. */
  spillDirectory?: PathBytes;
  /** Deliver an `entry` event for each entry, in a dry run in the order of their paths. Default false. */
  entryEvents?: boolean;
}

/** The form of an archive. */
export type ArchiveFormat = 'bgzf' | 'gzip' | 'xz' | 'zstd';

export interface NativeCompressOptions extends ArchiveForm {
  /** Of what. */
  files: NativeFiles;
  /** Files become archives also where these are not smaller. Default false. */
  force?: boolean;
}

export interface NativeDecompressOptions {
  /** Of what. */
  files: NativeFiles;
  /** Archives are read to their end, and nothing is written. Default false. */
  test?: boolean;
  /** The stream that the content of the one archive goes to, such as `/dev/stdout`; the archive stays. Default: content is put beside its archive. */
  output?: PathBytes;
  /** Zeros become holes. Default false. */
  sparse?: boolean;
}

/** Trees, or a list that was written before. */
export type NativeSide =
  | {
      /** Trees, whose names together are those of the side. */
      trees: NativeTree[];
    }
  | {
      /** Where the list is. */
      list: PathBytes;
      /** The list holds names only. Default: it tells itself. */
      names?: boolean;
    };

export interface NativeCompareOptions extends Resources, Selection {
  /** What is, or was. */
  left: NativeSide;
  /** What it is compared with. */
  right: NativeSide;
  /** The name of a side that is one entry, or a list of one, does not matter. Default true. */
  align?: boolean;
  /** Files: `tail` by a hash of their ends, `whole` byte by byte, `nothing` by size only. Default `tail`. */
  content?: 'nothing' | 'tail' | 'whole';
  /** Bytes at the end of a file that are compared with `tail`; 0: none. Default 65536. */
  hashSize?: number;
  /** Of two trees also modes, owners and times. Default false. */
  metadata?: boolean;
  /** With `metadata`: times of directories too. Default true. */
  directoryTimes?: boolean;
  /** With `metadata`: of times only whole seconds count, because one side keeps no more. Default false. */
  wholeSeconds?: boolean;
  /** With `metadata`: extended attributes too. Default false. */
  xattrs?: boolean;
  /** Of two trees: FIFOs, sockets and devices too. Default true. */
  specials?: boolean;
  /** The file that says how to turn the left side into the right one. Default: none. */
  output?: PathBytes;
  /** Of `output`: `both` names that the right side has, then those of the left one with `-` and NUL; `tar`: the first, for tar -T; `changes`: the list of hpcp 9.79, which turns the right side into the left one, with `xattrs` also in what it says. Default `both`. */
  form?: 'both' | 'tar' | 'changes';
  /** A file of the job's own, in which it says what it has read of more than 64 KiB each, so that the next run goes on should this one die; it goes with the end. Default: none. */
  finished?: PathBytes;
  /** Directory for temporary files without a name, for what memory does not hold. Default: memory is used. */
  spillDirectory?: PathBytes;
  /** An `entry` event for each difference. Default false. */
  entryEvents?: boolean;
}

/** An application of a patch. */
export interface NativePatchOptions extends Resources {
  /** The change list, as hpcp 9.79 has it. */
  changes: PathBytes;
  /** The directories that have what it brings, at its paths: one for each volume. */
  payloads: PathBytes[];
  /** The directory that is to become another. */
  target: PathBytes;
  /** What the list is hashed with. Default `xxh64`. */
  hash?: 'xxh64' | 'blake2b';
  /** Bytes at the end of a file that are hashed. Default: all. */
  hashSize?: number;
  /** Conflicts are overruled. Default false. */
  force?: boolean;
  /** Nothing is done: events and report say what would be. Default false. */
  dryRun?: boolean;
  /** The file of the change list that leads back, written before anything changes: then a question of `undo` comes, and it is complete. Default: none. */
  undo?: PathBytes;
  /** Where there are conflicts a question is asked, and a yes overrules them. Default false. */
  confirm?: boolean;
  /** What is on disk before the job ends. Default `safe`. */
  sync?: 'none' | 'safe' | 'all';
  /** Directory for temporary files without a name, for what memory does not hold. Default: memory is used. */
  spillDirectory?: PathBytes;
  /** An `entry` event for each row. Default false. */
  entryEvents?: boolean;
}

/** How the store of a URL is reached. */
export interface StoreAccess {
  /** `http://HOST[:PORT]` or `https://HOST[:PORT]`. Default: that of AWS. */
  endpoint?: string;
  /** Region of the signature. Default `us-east-1`. */
  region?: string;
  /** Access key, with `secret`; of Azure the account. Default: requests are not signed. */
  key?: string;
  /** Its secret; of Azure the key of the account. Default: none. */
  secret?: string;
  /** Session token; of Azure a shared access signature. Default: none. */
  token?: string;
  /** true: the bucket is in the path of the URL; false: in the name of the host. Default: true where there is an endpoint. */
  pathStyle?: boolean;
  /** Certificates (PEM) of authorities that are trusted beside those of the system. Default: none. */
  authorities?: Buffer;
  /** `http://[USER:PASSWORD@]HOST:PORT`, whom requests go through. Default: they go to the server. */
  proxy?: string;
  /** Hosts that are asked without it, as `NO_PROXY` names them. Default: none. */
  direct?: string;
}

/** Headers that are kept with objects, by their names. */
export type ObjectHeaders = Readonly<Record<string, string>>;

/** How requests to a store go. */
export interface StoreRequests {
  /** Bytes of the parts in flight together. Default 64 MiB, or one part. */
  memory?: number;
  /** Bytes of a part, 5 MiB or more; of an object that would have more than 10,000 of them, more. Default 8 MiB. */
  chunkSize?: number;
  /** Tries of a request after the first, for what may go better another time. Default 3. */
  retries?: number;
  /** The first pause is half a second, each later one so many times as long; 0: no pauses. Default 2. */
  backoff?: number;
  /** How much of each pause, from none (0) to as many seconds again (1), chance adds at most. Default 0.1. */
  jitter?: number;
}

export interface NativeSyncOptions extends Resources, DeletionLimit {
  /** `s3://BUCKET/PREFIX`, `file:///PATH` or a path: what is in it. */
  source: PathBytes;
  /** The same. */
  destination: PathBytes;
  /** How the store of the source is reached. Default: as AWS is, without a signature. */
  sourceAccess?: StoreAccess;
  /** How the store of the destination is reached. Default: the same. */
  destinationAccess?: StoreAccess;
  /** How the store of `backup` is reached. Default: as AWS is, without a signature. */
  backupAccess?: StoreAccess;
  /** What is said of each object that is written, by names of headers: `content-type`, `cache-control`, `x-amz-storage-class`, `x-amz-meta-NAME`. Default: the type, by the ending of the name, and what the object that it is a copy of has. */
  headers?: ObjectHeaders;
  /** How requests go. Default: as `StoreRequests` has it. */
  requests?: StoreRequests;
  /** How two entries of one key are told apart: by `size`; `mtime`, size and last change; `checksum`; `state`, what the state file says that both were; `always`: each is copied. Default: `state` where there is such a file, else `mtime`. */
  compare?: 'size' | 'mtime' | 'checksum' | 'state' | 'always';
  /** What becomes of what both sides have otherwise: `source`, its content comes over; `newer` and `larger`, where it is; `destination` and `skip`, nothing; `keep-both`, the source's content comes over, and what was there stays beside it under a name with the time of its last change; `fail`, it is an error. Default `source`. */
  conflict?: 'source' | 'newer' | 'larger' | 'destination' | 'skip' | 'keep-both' | 'fail';
  /** What is proved of what was written: `size`, and what the store itself checks; `hash`, its content, by a sum that the store vouches for or by reading it back; `full`, by reading it back. Default `size`. */
  verify?: 'size' | 'hash' | 'full';
  /** Rules for names: what they exclude is looked at on neither side. Default: everything is taken. */
  filter?: NativeFilter;
  /** Only what changed at or after this moment, in seconds since 1970. Default: whenever. */
  newerThan?: number;
  /** Only what changed at or before this moment, in seconds since 1970. Default: whenever. */
  olderThan?: number;
  /** Only what has so many bytes or more. Default: any. */
  minSize?: number;
  /** Only what has so many bytes or fewer. Default: any. */
  maxSize?: number;
  /** Only what is in partitions (`KEY=VALUE` between slashes) for which this holds: `year=2023,month>=06`; what is not is looked at on neither side. Default: everything. */
  partition?: string;
  /** Keys that were named, relative to both places: what is brought over, with the key that it has there (`to`) where that is another, and what is removed from the destination after that; nothing is listed then. Default: all that is there. */
  names?: {
    /** What is brought over. */
    taken: {
      /** Its key in the source. */
      key: PathBytes;
      /** Its key in the destination. Default: the same. */
      to?: PathBytes;
    }[];
    /** Keys of what is removed from the destination then. */
    removed: PathBytes[];
  };
  /** Remove from the destination what the source does not have, last. Default false. */
  removeExtra?: boolean;
  /** `s3://BUCKET/PREFIX` or a path, reached as the destination is: what is replaced or removed there is kept here first. Default: it is not kept. */
  backup?: PathBytes;
  /** Contents of so many files go over at a time: the next are begun when these have ended. Default: as they come. */
  batchSize?: number;
  /** Seconds of a pause after each such batch. Default 0. */
  batchPause?: number;
  /** Symlinks are carried: in a store as objects with `.rclonelink` behind their names. Default: `syncDir` carries them between two paths; else they are counted. */
  links?: boolean;
  /** Empty directories are carried: in a store as empty objects with a slash behind their names. Default: `syncDir` carries them between two paths; else they are counted. */
  markers?: boolean;
  /** A file in which is written down what both sides were; it belongs to these two places. Default: none. */
  state?: PathBytes;
  /** A file in which uploads in parts are written down: the next run goes on with those that it names. Default: none. */
  uploads?: PathBytes;
  /** Uploads below the destination, and below `backup`, that began before this moment, in seconds since 1970, and have not ended are given up. Default: none. */
  abortStale?: number;
  /** Nothing is done: events and report say what would be. Default false. */
  dryRun?: boolean;
  /** Modes that a store has kept are set on local files. Default false: a new file has those of any, and a replaced one keeps its own. */
  modes?: boolean;
  /** Local files are synced before they count as finished. Default true. */
  sync?: boolean;
  /** Directory for temporary files without a name, for what memory does not hold. Default: memory is used. */
  spillDirectory?: PathBytes;
  /** Deliver an `entry` event for each entry, in a dry run in the order of their paths. Default false. */
  entryEvents?: boolean;
}

export interface NativeStoreCompareOptions extends Resources {
  /** A URL or a path: what is, or was. One of the two places at least is a URL. */
  left: PathBytes;
  /** The same: what it is compared with. */
  right: PathBytes;
  /** How the store of the left side is reached. Default: as AWS is, without a signature. */
  leftAccess?: StoreAccess;
  /** How the store of the right side is reached. Default: the same. */
  rightAccess?: StoreAccess;
  /** How requests go. Default: as `StoreRequests` has it. */
  requests?: StoreRequests;
  /** Files of one size: `tail` by their ends, `whole` by all that is in them, which is read on both sides, `nothing` not. Default `nothing`. */
  content?: 'nothing' | 'tail' | 'whole';
  /** Bytes at the end of a file that are compared with `tail`. Default 65536. */
  hashSize?: number;
  /** Also modes, owners and times, as far as both sides keep them. Default false. */
  metadata?: boolean;
  /** Symlinks are compared by their texts, with the objects `NAME.rclonelink` that hold those in a store. Default false. */
  links?: boolean;
  /** Of a path: other file systems are not entered. Default false. */
  oneFileSystem?: boolean;
  /** The file that says how to turn the left side into the right one. Default: none. */
  output?: PathBytes;
  /** Of `output`: `both` names that the right side has, then those of the left one with `-` and NUL; `tar`: the first, for tar -T, where the right side is a path. Default `both`. */
  form?: 'both' | 'tar' | 'changes';
  /** Rules for names, in `rsync` style: what they exclude is looked at on neither side. Default: everything is taken. */
  filter?: NativeFilter;
  /** Directory for temporary files without a name, for what memory does not hold. Default: memory is used. */
  spillDirectory?: PathBytes;
  /** Deliver an `entry` event for each difference. Default false. */
  entryEvents?: boolean;
}

export interface NativeStoreListOptions extends Omit<Resources, 'jobs'> {
  /** The URL. */
  place: PathBytes;
  /** How its store is reached. Default: as AWS is, without a signature. */
  access?: StoreAccess;
  /** How requests go. Default: as `StoreRequests` has it. */
  requests?: StoreRequests;
  /** Rules for names, in `rsync` style: what they exclude is not listed. Default: everything is. */
  filter?: NativeFilter;
  /** Keys end with NUL, as they are. Default false. */
  nul?: boolean;
  /** The file that the list goes to, whole or not at all. Default: only events. */
  output?: PathBytes;
  /** An `entry` event for each entry. Default false. */
  entryEvents?: boolean;
}

export interface NativePruneOptions extends Resources, DeletionLimit {
  /** `s3://BUCKET/PREFIX`, `file:///PATH` or a path: what is in it. */
  place: PathBytes;
  /** How its store is reached. Default: as AWS is, without a signature. */
  access?: StoreAccess;
  /** How requests go. Default: as `StoreRequests` has it. */
  requests?: StoreRequests;
  /** Partitions (`KEY=VALUE` between slashes) are ordered by the values of these keys, named from the outside in. With `keep`. Default: everything is removed. */
  keys?: string[];
  /** The number of the last partitions that stay, of each group. Default: everything is removed. */
  keep?: number;
  /** A group is what has one path up to this key's partition, and the order goes by all partitions below it. Default: what has one path above the first of `keys`. */
  within?: string;
  /** Nothing is done: events and report say what would be. Default false. */
  dryRun?: boolean;
  /** Directory for temporary files without a name, for what memory does not hold. Default: memory is used. */
  spillDirectory?: PathBytes;
  /** Deliver an `entry` event for each partition, or for each entry where everything is removed. Default false. */
  entryEvents?: boolean;
}

export interface NativeFilesOptions {
  /** `s3://BUCKET/PREFIX`, `file:///PATH` or a path. */
  place: PathBytes;
  /** How its store is reached. Default: as AWS is, without a signature. */
  access?: StoreAccess;
  /** What is said of each object that is written: see `NativeSyncOptions`. Default: the type, by the ending of the name. */
  headers?: ObjectHeaders;
  /** How requests go. Default: as `StoreRequests` has it. */
  requests?: StoreRequests;
}
