/**
 * The trees that are copied: what they are, how large they become at a scale, and which generator makes them. Pure.
 *
 * @typedef {{ kind: 'tree', directories: number, files: number, most: number }} Tree `files` of 0 to `most` bytes in each
 * @typedef {{ kind: 'flat', files: number, most: number }} Flat
 * @typedef {{ kind: 'deep', chains: number, depth: number, files: number, most: number }} Deep
 * @typedef {{ kind: 'big', files: number, mebibytes: number }} Big
 * @typedef {{ kind: 'tables', files: number, mebibytes: number }} Tables text of tables in one directory; `mebibytes` in all
 * @typedef {{ kind: 'real' }} Real a tree of this machine
 * @typedef {Tree | Flat | Deep | Big | Tables | Real} Data
 */

const KIB = 1024;
const MIB = KIB * KIB;

/** @param {number} value @param {number} scale */
const times = (value, scale) => Math.max(1, Math.round(value * scale));

/**
 * Fewer (or more) entries of the same kind and size; big files keep their number and change their size.
 * @param {Data} data
 * @param {number} scale above 0
 * @returns {Data}
 */
export function scaled(data, scale) {
  switch (data.kind) {
    case 'tree':
      return { ...data, directories: times(data.directories, scale) };
    case 'flat':
      return { ...data, files: times(data.files, scale) };
    case 'deep':
      return { ...data, chains: times(data.chains, scale) };
    case 'big':
      return { ...data, mebibytes: times(data.mebibytes, scale) };
    case 'tables':
      return { ...data, files: times(data.files, scale), mebibytes: times(data.mebibytes, scale) };
    case 'real':
      return data;
  }
}

/**
 * The generator and its arguments around the directory to make.
 * @param {Exclude<Data, Real>} data
 * @param {string} directory
 * @returns {[generator: string, ...string[]]}
 */
export function generator(data, directory) {
  switch (data.kind) {
    case 'tree':
      return ['gen', directory, `${data.directories}`, `${data.files}`, `${data.most}`];
    case 'flat':
      return ['genflat', directory, `${data.files}`, `${data.most}`];
    case 'deep':
      return ['gendeep', directory, `${data.chains}`, `${data.depth}`, `${data.files}`, `${data.most}`];
    case 'big':
      return ['genbig', directory, `${data.files}`, `${data.mebibytes}`];
    case 'tables':
      return ['gentsv', directory, `${data.files}`, `${data.mebibytes}`];
  }
}

/**
 * About how many entries and how many bytes of storage one copy takes.
 * @param {Exclude<Data, Real>} data
 */
export function room(data) {
  switch (data.kind) {
    case 'tree': {
      const files = data.directories * data.files;
      return entriesRoom(files, data.directories, (files * data.most) / 2);
    }
    case 'flat':
      return entriesRoom(data.files, 1, (data.files * data.most) / 2);
    case 'deep': {
      const directories = data.chains * data.depth;
      return entriesRoom(directories * data.files, directories, (directories * data.files * data.most) / 2);
    }
    case 'big':
      return entriesRoom(data.files, 1, data.files * data.mebibytes * MIB);
    case 'tables':
      // An archive beside each, too.
      return entriesRoom(2 * data.files, 1, 1.5 * data.mebibytes * MIB);
  }
}

/**
 * The same for entries that were counted: an inode and a name take 1 KiB, content is rounded up to pages.
 * @param {number} files
 * @param {number} directories
 * @param {number} bytes in all files
 */
export function entriesRoom(files, directories, bytes) {
  const entries = files + directories;
  return {
    entries,
    bytes: Math.ceil(bytes + (bytes === 0 ? 0 : files * 2 * KIB) + directories * 4 * KIB + entries * KIB),
  };
}

/** @param {Data} data for people */
export function describe(data) {
  const count = (/** @type {number} */ value) => value.toLocaleString('en-US');
  const size = (/** @type {number} */ bytes) =>
    bytes === 0 ? '0 bytes' : `0-${bytes >= KIB ? `${bytes / KIB} KiB` : `${bytes} bytes`}`;
  switch (data.kind) {
    case 'tree':
      return `${count(data.directories * data.files)} files of ${size(data.most)} in ${count(data.directories)} directories`;
    case 'flat':
      return `${count(data.files)} files of ${size(data.most)} in one directory`;
    case 'deep':
      return `${count(data.chains * data.depth * data.files)} files of ${size(data.most)}, ${data.chains} chains ${data.depth} directories deep`;
    case 'big':
      return `${data.files} x ${count(data.mebibytes)} MiB`;
    case 'tables':
      return `${count(data.mebibytes)} MiB of TSV in ${data.files === 1 ? 'one file' : `${count(data.files)} files`}`;
    case 'real':
      return 'a real tree';
  }
}
