/**
 * Who runs in a row, and with which command line: the yardsticks, ours, and the peers. Pure: what is installed is found
 * by the caller.
 *
 * @typedef {object} Place where a contender works in one run
 * @property {string} source a directory
 * @property {string} destination a directory beside which nothing else is; absent unless the tree is there already
 * @property {string} temporary a directory for a contender's own files
 * @property {number} threads CPUs that this process may use
 * @property {number} batch how many entries of the top a process of xargs takes
 * @property {(program: string) => string} path of a yardstick or a peer
 * @property {string} [endpoint] the server of objects
 *
 * @typedef {object} Contender
 * @property {string} name unique in its row
 * @property {'yardstick' | 'ours' | 'peer'} role
 * @property {string} [program] what must be there for a peer to run: a name in PEERS
 * @property {boolean} [spoils] where a copy is already, it changes times, which others would then put right
 * @property {(place: Place) => string[]} command
 * @property {(place: Place) => string} [keeps] a directory for what it writes down of its work, whose bytes are told
 * @property {(place: Place) => string} [lists] what its lists of parts are called but for a dot and a number: how even they are is told
 * @property {(place: Place) => string[]} [before] what has happened there before the run that is measured
 * @property {(place: Place) => string[]} [after] what takes away what the run has made elsewhere than at the destination
 */
import { basename } from 'node:path';
import { KEYS } from './server.js';

/** A peer's name in a row -> the executable to look for, and how it says its version. */
export const PEERS = {
  cp: { executable: 'cp', version: ['--version'] },
  rsync: { executable: 'rsync', version: ['--version'] },
  tar: { executable: 'tar', version: ['--version'] },
  xargs: { executable: 'xargs', version: ['--version'] },
  rclone: { executable: 'rclone', version: ['version'] },
  fpart: { executable: 'fpart', version: ['-V'] },
  fpsync: { executable: 'fpsync', version: ['-h'] },
  rm: { executable: 'rm', version: ['--version'] },
  rmz: { executable: 'rmz', version: ['--version'] },
  xcp: { executable: 'xcp', version: ['--version'] },
  cpz: { executable: 'cpz', version: ['--version'] },
  b3sum: { executable: 'b3sum', version: ['--version'] },
  gzip: { executable: 'gzip', version: ['--version'] },
  pigz: { executable: 'pigz', version: ['--version'] },
  bgzip: { executable: 'bgzip', version: ['--version'] },
  crabz: { executable: 'crabz', version: ['--version'] },
  igzip: { executable: 'igzip', version: ['--version'] },
  xz: { executable: 'xz', version: ['--version'] },
  zstd: { executable: 'zstd', version: ['--version'] },
  mksquashfs: { executable: 'mksquashfs', version: ['-version'] },
  dd: { executable: 'dd', version: ['--version'] },
  e2image: { executable: 'e2image', version: ['-V'] },
  partclone: { executable: 'partclone.ext4', version: ['-v'] },
  sha256sum: { executable: 'sha256sum', version: ['--version'] },
  s5cmd: { executable: 's5cmd', version: ['version'] },
  // No contenders: the servers of the rows of stores.
  versitygw: { executable: 'versitygw', version: ['--version'] },
  ceph: { executable: 'radosgw', version: ['--version'] },
  // Usually in a virtual environment: the variable HPCP names the executable.
  hpcp: { executable: 'hpcp', version: ['-V'] },
};

/** @typedef {keyof typeof PEERS} Peer */
/** @typedef {'gzip' | 'pigz' | 'bgzip' | 'crabz' | 'igzip' | 'xz' | 'zstd'} Packer */
/** @typedef {Exclude<Peer, Packer | 'rm' | 'rmz' | 'b3sum' | 'sha256sum' | 'fpart' | 's5cmd' | 'versitygw' | 'ceph' | 'mksquashfs' | 'dd' | 'e2image' | 'partclone'>} Copier */

/**
 * @param {string} mode of floor.c
 * @param {{ name?: string, threads?: number }} [options] `threads`: at least
 * @returns {Contender}
 */
export const floor = (mode, { name = mode, threads = 1 } = {}) => ({
  name,
  role: 'yardstick',
  command: (place) => [
    place.path('floor'),
    mode,
    `${Math.max(threads, place.threads)}`,
    place.source,
    place.destination,
  ],
});

/**
 * @param {'rw' | 'copy_file_range'} mode of bigfloor.c
 * @returns {Contender}
 */
export const bigfloor = (mode) => ({
  name: `bigfloor ${mode}`,
  role: 'yardstick',
  command: ({ path, threads, source, destination }) => [path('bigfloor'), mode, `${threads}`, '4', source, destination],
});

/** The bound of a removal. @type {Contender} */
export const floorRemove = {
  name: 'remove',
  role: 'yardstick',
  command: ({ path, threads, destination }) => [path('floor'), 'remove', `${threads}`, destination],
};

/**
 * Ours, removing the destination.
 * @param {string} name
 * @param {readonly string[]} command
 * @returns {Contender}
 */
export const remover = (name, command) => ({
  name,
  role: 'ours',
  command: ({ path, destination }) => [process.execPath, path('bulkhaul'), ...command, destination],
});

/**
 * Who lists the source and its copy, or compares them.
 * @param {string} name
 * @param {(place: Place) => string[]} command after `bulkhaul`
 * @returns {Contender}
 */
export const reader = (name, command) => ({
  name,
  role: 'ours',
  command: (place) => [process.execPath, place.path('bulkhaul'), ...command(place)],
});

/** How others list the source and its copy, with sizes or hashes. @type {Contender[]} */
export const LISTERS = [
  {
    name: 'find -printf',
    role: 'peer',
    command: ({ source, destination, temporary }) =>
      shell('exec find "$1" "$2" -printf "%p %s\\n" >"$3/list"', source, destination, temporary),
  },
  {
    name: 'hpcp -fl',
    role: 'peer',
    program: 'hpcp',
    command: ({ path, source, destination, temporary }) => [
      ...[path('hpcp'), source, destination],
      ...['-fl', `${temporary}/list`],
    ],
  },
];

/** Ours divides the source into 64 parts. @type {Contender} */
export const divided = {
  ...reader('bulkhaul partition -n 64', ({ source, temporary }) => [
    ...['partition', '--quiet', '-n', '64', '--replace', '-o', `${temporary}/part`, source],
  ]),
  lists: ({ temporary }) => `${temporary}/part`,
};

/** How another does it. @type {Contender} */
export const fpart = {
  name: 'fpart -n 64 -zzz',
  role: 'peer',
  program: 'fpart',
  command: ({ path, source, temporary }) => [path('fpart'), '-n', '64', '-zzz', '-o', `${temporary}/fpart`, source],
  lists: ({ temporary }) => `${temporary}/fpart`,
};

/** How others compare the source with its copy. @type {Contender[]} */
export const COMPARERS = [
  {
    name: 'rsync -n --checksum',
    role: 'peer',
    program: 'rsync',
    command: ({ path, source, destination }) => [path('rsync'), '-an', '--checksum', `${source}/`, destination],
  },
  {
    name: 'hpcp -cfl',
    role: 'peer',
    program: 'hpcp',
    command: ({ path, source, destination }) => [path('hpcp'), source, '-d', destination, '-cfl'],
  },
];

/** How others remove the destination. @type {Contender[]} */
export const REMOVERS = [
  { name: 'rm -rf', program: 'rm', command: ({ path, destination }) => [path('rm'), '-rf', destination] },
  {
    name: 'xargs -P rm',
    program: 'xargs',
    command: ({ path, destination, threads, batch }) =>
      shell(
        'find "$1" -mindepth 1 -maxdepth 1 -print0 | "$2" -0 -P "$3" -n "$4" rm -rf && rmdir "$1"',
        ...[destination, path('xargs'), `${threads}`, `${batch * 50}`],
      ),
  },
  { name: 'rmz', program: 'rmz', command: ({ path, destination }) => [path('rmz'), destination] },
  {
    name: 'rsync --delete',
    program: 'rsync',
    command: ({ path, destination, temporary }) =>
      shell(
        'mkdir -p "$1/nothing" && "$3" -a --delete "$1/nothing/" "$2/" && rmdir "$2"',
        ...[temporary, destination, path('rsync')],
      ),
  },
].map((contender) => ({ ...contender, role: /** @type {const} */ ('peer') }));

/** The least that a command of Node.js takes. @type {Contender} */
export const emptyNode = { name: 'node -e 0', role: 'yardstick', command: () => [process.execPath, '-e', '0'] };

/**
 * `bulkhaul copy` with options.
 * @param {string} name
 * @param {readonly string[]} [options]
 * @returns {Contender}
 */
export const copy = (name, options = []) => ({
  name,
  role: 'ours',
  command: ({ path, source, destination }) => [
    ...[process.execPath, path('bulkhaul'), 'copy', '--quiet'],
    ...[...options, `${source}/`, destination],
  ],
});

/** A copy whose journal is looked at. @type {Contender} */
export const journaled = {
  name: 'bulkhaul copy',
  role: 'ours',
  command: ({ path, source, destination, temporary }) => [
    ...[process.execPath, path('bulkhaul'), 'copy', '--quiet', '--state-dir', `${temporary}/state`],
    ...[`${source}/`, destination],
  ],
  keeps: ({ temporary }) => `${temporary}/state`,
};

/** A copy that makes the manifest in the same pass. @type {Contender} */
export const noting = {
  name: 'bulkhaul copy --manifest',
  role: 'ours',
  command: ({ path, source, destination, temporary }) => [
    ...[process.execPath, path('bulkhaul'), 'copy', '--quiet', '--manifest', `${temporary}/manifest`],
    ...[`${source}/`, destination],
  ],
};

/** The second run of a `bulkhaul copy` that was killed when half of its bytes were written. @type {Contender} */
export const resumed = {
  ...copy('bulkhaul copy, killed at half'),
  before: ({ path, source, destination }) =>
    shell(
      'half=$(($(du -sb "$3" | cut -f1) / 2)); "$1" "$2" copy --quiet "$3/" "$4" & pid=$!; ' +
        'while written=$(sed -n "s/^wchar: //p" "/proc/$pid/io" 2>/dev/null) && [ "${written:-$half}" -lt "$half" ]; do :; done; ' +
        'kill -9 "$pid" 2>/dev/null; wait "$pid"; true',
      ...[process.execPath, path('bulkhaul'), source, destination],
    ),
};

/**
 * `bulkhaul copy` by several processes; its run is in a directory of its own.
 * @param {string} name
 * @param {readonly string[]} options
 * @returns {Contender}
 */
export const spread = (name, options) => ({
  ...copy(name),
  command: ({ path, source, destination, temporary }) =>
    shell(
      'node=$1 main=$2 from=$3 to=$4 run=$5/run; shift 5; rm -rf "$run"; ' +
        'exec "$node" "$main" copy --quiet --no-journal --run-dir "$run" "$@" "$from/" "$to"',
      ...[process.execPath, path('bulkhaul'), source, destination, temporary, ...options],
    ),
});

/** `bulkhaul copy` that somebody watches: status lines into a file, as often as a terminal has them. @type {Contender} */
export const watched = {
  name: 'bulkhaul copy, watched',
  role: 'ours',
  command: ({ path, source, destination, temporary }) =>
    shell(
      'BULKHAUL_PROGRESS_INTERVAL=0.25 exec "$1" "$2" copy --progress plain "$3/" "$4" 2>"$5/progress"',
      ...[process.execPath, path('bulkhaul'), source, destination, temporary],
    ),
};

/**
 * The drop-in `hpcp` with options.
 * @param {string} name
 * @param {readonly string[]} [options]
 * @returns {Contender}
 */
export const dropin = (name, options = []) => ({
  name,
  role: 'ours',
  command: ({ path, source, destination }) => [
    ...[process.execPath, path('bulkhaul'), 'hpcp', '--quiet', '--progress', 'none'],
    ...[...options, source, '-d', destination],
  ],
});

/**
 * `bulkhaul` with arguments that touch no tree.
 * @param {...string} options
 * @returns {Contender}
 */
export const bare = (...options) => ({
  name: `bulkhaul ${options.join(' ')}`,
  role: 'ours',
  command: ({ path }) => [process.execPath, path('bulkhaul'), ...options],
});

/**
 * A shell's word for it, with source, destination and more as its positional parameters.
 * @param {string} script
 * @param {...string} parameters
 */
const shell = (script, ...parameters) => ['sh', '-c', script, 'sh', ...parameters];

/** How a peer copies the contents of the source into the destination. @type {Record<Copier, (place: Place) => string[]>} */
const COMMANDS = {
  cp: ({ path, source, destination }) => [path('cp'), '-a', source, destination],
  rsync: ({ path, source, destination }) => [path('rsync'), '-a', `${source}/`, destination],
  tar: ({ path, source, destination }) =>
    shell('mkdir "$2" && "$3" -C "$1" -cf - . | "$3" -C "$2" -xpf -', source, destination, path('tar')),
  xargs: ({ path, source, destination, threads, batch }) =>
    shell(
      'mkdir "$2" && cd "$1" && find . -mindepth 1 -maxdepth 1 -print0 | "$3" -0 -P "$4" -n "$5" cp -a -t "$2"',
      ...[source, destination, path('xargs'), `${threads}`, `${batch}`],
    ),
  rclone: ({ path, source, destination }) => [
    ...[path('rclone'), 'copy', '--config', '', '--quiet', '--metadata', '--links', '--create-empty-src-dirs'],
    ...[source, destination],
  ],
  fpsync: ({ path, source, destination, threads, temporary }) => [
    ...[path('fpsync'), '-n', `${threads}`, '-f', '2000', '-t', temporary, `${source}/`, `${destination}/`],
  ],
  xcp: ({ path, source, destination }) => [path('xcp'), '--recursive', source, destination],
  cpz: ({ path, source, destination }) => [path('cpz'), source, destination],
  hpcp: ({ path, source, destination }) => [path('hpcp'), source, '-d', destination],
};

/** What people know a peer by. @type {Partial<Record<Copier, string>>} */
const NAMES = { cp: 'cp -a', rsync: 'rsync -a', tar: 'tar | tar', xargs: 'xargs -P cp -a', rclone: 'rclone copy' };

/**
 * @param {Copier} program
 * @param {...string} options further ones, after the program
 * @returns {Contender}
 */
export const peer = (program, ...options) => ({
  name: [NAMES[program] ?? program, ...options].join(' '),
  role: 'peer',
  program,
  // The original sets times that it found equal again, rounded to floats.
  spoils: program === 'hpcp',
  command: (place) => {
    const [executable = program, ...rest] = COMMANDS[program](place);
    return [executable, ...options, ...rest];
  },
});

/** What a contender asks the path of, for the command of another checkout. */
export const OTHER_CHECKOUT = 'bulkhaul of another checkout';

/**
 * One of ours, as another checkout built it.
 * @param {Contender} contender
 * @returns {Contender}
 */
export const elsewhere = (contender) => ({
  name: `${contender.name} of the other checkout`,
  role: 'peer',
  command: (place) =>
    contender.command({ ...place, path: (program) => place.path(program === 'bulkhaul' ? OTHER_CHECKOUT : program) }),
});

/**
 * The contender, and `sync -f` of the destination after it: durable is compared with durable.
 * @param {Contender} contender
 * @returns {Contender}
 */
export const synced = (contender) => ({
  ...contender,
  name: `${contender.name}, sync -f`,
  command: (place) => shell('d=$1; shift; "$@" && exec sync -f "$d"', place.destination, ...contender.command(place)),
});

/** A copy that is read back by hand: durable, the caches dropped, the digests of both trees compared. @type {Contender} */
export const copiedAndSummed = {
  name: 'cp -a, sync -f, b3sum of both',
  role: 'peer',
  program: 'b3sum',
  command: ({ path, source, destination, temporary }) =>
    shell(
      `sums() (cd "$1" && find . -type f -print0 | sort -z | xargs -0 "$2")
      cp -a "$1" "$2" && sync -f "$2" && echo 1 > /proc/sys/vm/drop_caches &&
      sums "$1" "$4" > "$3/source" && sums "$2" "$4" > "$3/destination" && cmp "$3/source" "$3/destination"`,
      ...[source, destination, temporary, path('b3sum')],
    ),
};

/** The source read, and nothing made of it. @type {Contender} */
export const readOnce = {
  name: 'read',
  role: 'yardstick',
  command: ({ path, threads, source }) => [path('floor'), 'read', `${threads}`, source],
};

/** Every file of a tree handed to `"$@"`. */
const EACH = 'find . -type f -print0 | sort -z | xargs -0';

/** How others hash the source. @type {Contender[]} */
export const SUMMERS = [
  { name: 'b3sum', program: 'b3sum', script: `${EACH} "$3"` },
  { name: 'b3sum --num-threads 1', program: 'b3sum', script: `${EACH} "$3" --num-threads 1` },
  { name: 'xargs -P b3sum', program: 'b3sum', script: `${EACH} -P "$4" -n "$5" "$3" --num-threads 1` },
  { name: 'sha256sum', program: 'sha256sum', script: `${EACH} "$3"` },
  { name: 'xargs -P sha256sum', program: 'sha256sum', script: `${EACH} -P "$4" -n "$5" "$3"` },
].map(({ name, program, script }) => ({
  name,
  program,
  role: /** @type {const} */ ('peer'),
  command: ({ path, source, temporary, threads, batch }) =>
    shell(
      `cd "$1" && ${script} > "$2/sums"`,
      ...[source, temporary, path(program), `${threads}`, `${batch * 50}`],
    ),
}));

/** A copy, and then the digests of its source. @type {Contender} */
export const copiedThenSummed = {
  name: 'cp -a, b3sum of the source',
  role: 'peer',
  program: 'b3sum',
  command: ({ path, source, destination, temporary }) =>
    shell(
      `cp -a "$1" "$2" && cd "$1" && ${EACH} "$4" > "$3/sums"`,
      ...[source, destination, temporary, path('b3sum')],
    ),
};

/** What is packed anew in each run. @param {Place} place */
const unpacked = ({ temporary }) => ['rm', '-rf', `${temporary}/packed`];

/**
 * `bulkhaul pack` with options: shards, indexes and sums, synced and read back.
 * @param {string} name
 * @param {readonly string[]} [options]
 * @returns {Contender}
 */
export const packed = (name, options = []) => ({
  name,
  role: 'ours',
  before: unpacked,
  command: ({ path, source, temporary }) => [
    ...[process.execPath, path('bulkhaul'), 'pack', '--quiet', '--no-journal', ...options],
    ...[`${source}/`, `${temporary}/packed`],
  ],
});

/** Who packs the source into one file: with the sums of entries and of the file, or without any. @type {Contender[]} */
export const PACKERS = [
  {
    name: 'tar, b3sum of entries and tar',
    program: 'b3sum',
    script: `"$3" -C "$1" -cf "$2/packed/tar" . && (cd "$1" && ${EACH} "$4" > "$2/packed/sums") && "$4" "$2/packed/tar" > "$2/packed/sum"`,
  },
  { name: 'tar', program: 'tar', script: '"$3" -C "$1" -cf "$2/packed/tar" .' },
  { name: 'tar | zstd -T0', program: 'zstd', script: '"$3" -C "$1" -cf - . | "$4" -q -T0 -o "$2/packed/zst"' },
  { name: 'mksquashfs', program: 'mksquashfs', script: '"$4" "$1" "$2/packed/squashfs" -quiet -no-progress' },
].map(({ name, program, script }) => ({
  name,
  program,
  role: /** @type {const} */ ('peer'),
  before: unpacked,
  command: ({ path, source, temporary }) =>
    shell(`mkdir "$2/packed" && ${script}`, source, temporary, path('tar'), path(program)),
}));

/**
 * A disk with one ext4 that has the source in 3/8 of its size, made once; and no clone of it. `$1` is the source, `$2` the
 * temporary directory.
 */
const DISK = `
  rm -rf "$2"/clone.img*
  [ ! -e "$2/disk.img" ] || exit 0
  size=$(du -sk "$1" | cut -f 1)
  truncate -s $((size * 8 / 3 + 65536))K "$2/disk.part"
  echo 'start=2048' | sfdisk -q --label gpt "$2/disk.part"
  mke2fs -q -t ext4 -E offset=1048576 -d "$1" "$2/disk.part" $((size * 8 / 3 + 62464))K
  mv "$2/disk.part" "$2/disk.img"`;
const diskMade = (/** @type {Place} */ { source, temporary }) => shell(DISK, source, temporary);
/** Its table on a clone of its size, and both partitions as devices. */
const TABLE =
  'cd "$2"; truncate -r disk.img clone.img; sfdisk -d disk.img | sfdisk -q --wipe-partitions never clone.img > /dev/null';
const LOOPS =
  'set -e; trap \'losetup -d $from $to\' EXIT; from=$(losetup -rf --show -o 1M disk.img); to=$(losetup -f --show -o 1M --sizelimit $(($(stat -c %s clone.img) - 2097152)) clone.img)';

/**
 * hpcp takes a device for each partition, and a kernel may know no GPT: partx makes them then, when a disk is attached and
 * when sgdisk had the kernel look.
 */
const PARTITIONS = String.raw`
  for each in losetup sgdisk; do
    program=$(command -v $each)
    cat > "$2/$each.sh" <<END
#!/bin/sh
out=\$($program "\$@")
code=\$?
echo "\$out"
for last; do :; done
case $each in losetup) last=\$out ;; esac
case \$last in /dev/loop*) partx -a \$last > /dev/null 2>&1 ;; esac
exit \$code
END
    chmod +x "$2/$each.sh"
  done
  export LOSETUP_PATH="$2/losetup.sh" SGDISK_PATH="$2/sgdisk.sh"`;

/** Who clones that disk into an image, synced. @type {Contender[]} */
export const CLONERS = [
  {
    name: 'mkfs and cp -a',
    program: 'cp',
    script: `${TABLE}; ${LOOPS}; mkdir from to; mke2fs -q -t ext4 $to; mount -o ro $from from; mount $to to; cp -a from/. to; umount from to; rmdir from to; sync clone.img`,
  },
  { name: 'dd', program: 'dd', script: 'cd "$2"; dd if=disk.img of=clone.img bs=4M conv=sparse,fsync status=none' },
  {
    name: 'e2image -ra',
    program: 'e2image',
    // It cuts the clone to what it writes.
    script: `cd "$2"; e2image -ra -o 1048576 -O 1048576 disk.img clone.img > /dev/null 2>&1; ${TABLE} && sync clone.img`,
  },
  {
    name: 'partclone.ext4 -b',
    program: 'partclone',
    script: `${TABLE}; ${LOOPS}; partclone.ext4 -q -b -L log -s $from -o $to; sync clone.img`,
  },
  { name: 'hpcp -dd', program: 'hpcp', script: `${PARTITIONS}
  cd "$2"; "$3" -b -dd -si disk.img -di clone.img` },
].map(({ name, program, script }) => ({
  name,
  program: /** @type {Peer} */ (program),
  role: /** @type {const} */ ('peer'),
  before: diskMade,
  command: ({ path, source, temporary }) => shell(script, source, temporary, path(program)),
}));

/** `bulkhaul image clone`, proved. @type {Contender} */
export const cloned = {
  name: 'bulkhaul image clone',
  role: 'ours',
  before: diskMade,
  command: ({ path, temporary }) => [
    ...[process.execPath, path('bulkhaul'), 'image', 'clone', '--quiet'],
    ...[`${temporary}/disk.img`, `${temporary}/clone.img`],
  ],
};

/** Shows that the clone has the source. @param {Place} place */
export const isCloned = ({ path, source, temporary }) =>
  shell(
    '"$3" "$4" image unpack --quiet "$2/clone.img" "$2/clone" && diff -rq --no-dereference -x lost+found "$1" "$2/clone/p1"; code=$?; rm -rf "$2/clone"; exit $code',
    ...[source, temporary, process.execPath, path('bulkhaul')],
  );

/** A manifest of the source, made before the run that is measured. @param {Place} place */
const summed = ({ path, source, temporary }) => [
  ...[process.execPath, path('bulkhaul'), 'manifest', '--quiet', '--output', `${temporary}/manifest`, `${source}/`],
];

/** Who verifies the source by its manifest. @type {Contender[]} */
export const VERIFIERS = [
  {
    name: 'bulkhaul verify',
    role: 'ours',
    before: summed,
    command: ({ path, source, temporary }) => [
      ...[process.execPath, path('bulkhaul'), 'verify', '--quiet', '--in', source, `${temporary}/manifest`],
    ],
  },
  {
    name: 'b3sum --check',
    role: 'peer',
    program: 'b3sum',
    before: summed,
    command: ({ path, source, temporary }) =>
      shell('cd "$1" && exec "$3" --check --quiet "$2/manifest"', source, temporary, path('b3sum')),
  },
];

/** Every file of a tree, where names are no matter of time, handed to `"$@"`. */
const ALL = 'cd "$1" && find . -type f -print0 | xargs -0 -r';

/**
 * Ours on the destination, in place.
 * @param {string} name
 * @param {...string} command after `bulkhaul`, before the destination
 * @returns {Contender}
 */
export const replacer = (name, ...command) => ({
  name,
  role: 'ours',
  command: ({ path, destination }) => [process.execPath, path('bulkhaul'), ...command, '--quiet', destination],
});

/**
 * A peer on every file of the destination, in place: on one after the other, or on as many at a time as there are CPUs.
 * @param {Packer} program
 * @param {string} options `THREADS` is how many CPUs there are
 * @param {{ together?: boolean, files?: number }} [how] `together`: it is left to the peer to use them all; `files`: so many
 *   to one run of it
 * @returns {Contender}
 */
export const packer = (program, options, { together = false, files = 16 } = {}) => ({
  name: `${together ? '' : 'xargs -P '}${program} ${options}`,
  role: 'peer',
  program,
  command: ({ path, destination, threads }) =>
    shell(
      `${ALL} ${together ? '-n 1' : `-P "$3" -n ${files}`} "$2" ${options.replace('THREADS', '"$3"')}`,
      ...[destination, path(program), `${threads}`],
    ),
});

/**
 * The contender, on archives that were made of the destination before the run that is measured.
 * @param {Contender} maker
 * @param {Contender} contender
 * @param {string} [name]
 * @returns {Contender}
 */
export const unpacks = (maker, contender, name = contender.name) => ({
  ...contender,
  name,
  before: (place) => maker.command(place),
});

/** `bulkhaul migrate`, which copies and compresses in one pass, and proves. @type {Contender} */
export const migrated = {
  name: 'bulkhaul migrate --verify',
  role: 'ours',
  command: ({ path, source, destination }) => [
    ...[process.execPath, path('bulkhaul'), 'migrate', '--quiet', '--verify', '--ext', 'tsv', '--'],
    ...[`${source}/`, destination],
  ],
};

/** What migrate_compress.py does with its files: rsync, then pigz, with a checking read before and after. @type {Contender} */
export const pipeline = {
  name: 'rsync, pigz, checking reads',
  role: 'peer',
  program: 'pigz',
  command: ({ path, source, destination, threads }) =>
    shell(
      `rsync -av --partial --checksum --human-readable --itemize-changes "$1/" "$2/" > /dev/null &&
      cd "$2" && find . -type f -print0 | PIGZ_PROGRAM=$3 xargs -0 -r -P "$4" -n 16 sh -c 'for file; do
        sum=$(sha256sum < "$file") && "$PIGZ_PROGRAM" -6 -p 4 -k "$file" &&
        [ "$("$PIGZ_PROGRAM" -dc "$file.gz" | sha256sum)" = "$sum" ] && rm "$file" || exit 255; done' sh`,
      ...[source, destination, path('pigz'), `${Math.max(1, Math.floor(threads / 2))}`],
    ),
};

/**
 * What is in the archives of the destination is the source, as the tool of their format says.
 * @param {Place} place
 */
export const holdsSource = ({ source, destination }) =>
  shell(
    `cd "$2" && plain=$(find . -type f ! -name '*.gz' ! -name '*.xz' ! -name '*.zst') && [ -z "$plain" ] || {
      echo "no archives: $plain" >&2; exit 1; }
    for kind in gz:gzip xz:xz zst:zstd; do
      find . -name "*.\${kind%%:*}" -print0 | xargs -0 -r "\${kind##*:}" -d -q || exit; done; find . -name '*.zst' -delete; exec diff -rq "$1" "$2"`,
    ...[source, destination],
  );

/** The destination is the source. @param {Place} place */
export const isSource = ({ source, destination }) => ['diff', '-rq', source, destination];

/** The bucket that stands for a directory, whose name it has. @param {string} directory */
const bucket = (directory) => `s3://${basename(directory)}/`;
/** As rclone calls a place. @param {string} place */
const remote = (place) => place.replace('s3://', 'server:');

/**
 * How each brings a directory into a bucket, or out of it. @typedef {(place: Place, from: string, to: string, requests: number) => string[]} Bringer
 * @type {Record<'bulkhaul sync' | 'bulkhaul sync --state' | 's5cmd' | 'rclone', Bringer>}
 */
const BRINGERS = {
  'bulkhaul sync': ({ path }, from, to, requests) => [
    ...[process.execPath, path('bulkhaul'), 'sync', '--quiet', '--no-journal', '--jobs', `${requests}`, from, to],
  ],
  'bulkhaul sync --state': (place, from, to, requests) => [
    ...BRINGERS['bulkhaul sync'](place, from, to, requests),
    // It belongs to its two places.
    ...['--state', `${place.temporary}/${basename(place.destination)}.state`],
  ],
  s5cmd: ({ path, endpoint }, from, to, requests) => [
    ...[path('s5cmd'), '--endpoint-url', `${endpoint}`, '--numworkers', `${requests}`],
    ...['sync', '--concurrency', `${requests}`],
    ...(from.startsWith('s3://') ? [`${from}*`, `${to}/`] : [`${from}/`, to]),
  ],
  rclone: ({ path }, from, to, requests) => [
    ...[path('rclone'), 'copy', '--config', '', '--quiet', '--transfers', `${requests}`],
    ...['--checkers', `${requests}`, '--s3-upload-concurrency', `${requests}`],
    ...[from, to].map(remote),
  ],
};

/** @param {Place} place @param {string[]} command */
const asking = ({ endpoint }, command) => [
  ...['env', ...Object.entries(KEYS).map(([name, value]) => `${name}=${value}`)],
  ...[`AWS_ENDPOINT_URL=${endpoint}`, 'AWS_REGION=us-east-1', 'AWS_PROFILE=', 'AWS_CA_BUNDLE='],
  ...['RCLONE_CONFIG_SERVER_TYPE=s3', 'RCLONE_CONFIG_SERVER_PROVIDER=Other', 'RCLONE_CONFIG_SERVER_ENV_AUTH=true'],
  ...[`RCLONE_CONFIG_SERVER_ENDPOINT=${endpoint}`, 'RCLONE_CONFIG_SERVER_FORCE_PATH_STYLE=true'],
  ...command,
];

/** By rclone, whoever is measured. @param {Place} place @param {string[]} args */
const judging = (place, args) => asking(place, [place.path('rclone'), '--config', '', '--quiet', ...args]);

/**
 * Who brings a directory into a bucket that is empty (`up`), or has it already (`again`), or out of one that has it (`down`),
 * with so many requests at once.
 * @param {keyof typeof BRINGERS} program
 * @param {'up' | 'again' | 'down'} way
 * @param {number} requests
 * @returns {Contender}
 */
export const bringer = (program, way, requests) => {
  /** @param {Place} place */
  const command = (place) => {
    const { source, destination } = place;
    const [from, to] = way === 'down' ? [bucket(source), destination] : [source, bucket(destination)];
    return asking(place, BRINGERS[program](place, from, to, requests));
  };
  const made = '"$1" --config "" --quiet mkdir "$2" && shift 2 && exec "$@"';
  return {
    name: `${program}, ${requests} requests`,
    ...(program === 's5cmd' || program === 'rclone' ? { role: 'peer', program } : { role: 'ours' }),
    command,
    ...(way === 'down'
      ? {
          // It is there from the second run on, and then a listing shows that.
          before: (place) => judging(place, ['copy', '--size-only', place.source, remote(bucket(place.source))]),
        }
      : {
          before: (place) => {
            const first = way === 'again' ? command(place) : ['true'];
            return asking(place, shell(made, place.path('rclone'), remote(bucket(place.destination)), ...first));
          },
          after: (place) => judging(place, ['purge', remote(bucket(place.destination))]),
        }),
  };
};

/** Shows that the bucket of the destination holds what the source does. @param {Place} place */
export const isInBucket = (place) =>
  judging(place, ['check', '--download', place.source, remote(bucket(place.destination))]);
