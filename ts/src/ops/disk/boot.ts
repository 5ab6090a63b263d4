/**
 * Whether a clone would find itself when it boots: what its files say of disks, against what the clone has.
 *
 * Comes in: the roots of its file systems, and its identities; goes out: sentences about what leads nowhere. Nothing is
 * changed.
 */
import { lstat, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** What a clone can be found by. */
export interface Identities {
  /** Of file systems and swap. */
  uuids: readonly string[];
  labels: readonly string[];
  /** Of partitions. */
  partUuids: readonly string[];
  partLabels: readonly string[];
}

/** A word in a file that means a disk. */
export interface Reference {
  kind: keyof Identities | 'device';
  value: string;
}

/** Files that say what is mounted, unlocked or booted from; also where /boot is a file system of its own. */
const FILES = [
  ...['etc/fstab', 'etc/crypttab', 'etc/kernel/cmdline', 'boot/cmdline.txt', 'cmdline.txt'],
  ...['boot/grub/grub.cfg', 'boot/grub2/grub.cfg', 'grub/grub.cfg', 'grub2/grub.cfg'],
];
/** Directories with a file for each thing that can be booted. */
const ENTRIES = ['boot/loader/entries', 'loader/entries'];

const TAGS: Readonly<Record<keyof Identities, string>> = {
  uuids: 'UUID',
  labels: 'LABEL',
  partUuids: 'PARTUUID',
  partLabels: 'PARTLABEL',
};
const BY_TAG = new Map(Object.entries(TAGS).map(([kind, tag]) => [tag, kind as keyof Identities]));

/** The words of a text that mean a disk; comments are left out. */
export function references(text: string): Reference[] {
  const found = new Map<string, Reference>();
  const add = (kind: Reference['kind'] | undefined, value = '') => {
    if (kind !== undefined) found.set(`${kind} ${value}`, { kind, value });
  };
  for (const line of text.split('\n')) {
    if (/^\s*#/.test(line)) continue;
    for (const [, tag = '', quoted, plain] of line.matchAll(
      /\b(UUID|LABEL|PARTUUID|PARTLABEL)=(?:"([^"]*)"|([^\s"',]+))/g,
    )) {
      add(BY_TAG.get(tag), quoted ?? plain);
    }
    for (const [, tag = '', name = ''] of line.matchAll(
      /\/dev\/disk\/by-(uuid|label|partuuid|partlabel)\/([^\s"',]+)/g,
    )) {
      add(BY_TAG.get(tag.toUpperCase()), unescaped(name));
    }
    // GRUB's search: the identity is its last word.
    const [, searched] = /^\s*search\b.*--fs-uuid\b.*\s([0-9A-Fa-f][0-9A-Fa-f-]*)\s*$/.exec(line) ?? [];
    if (searched !== undefined) add('uuids', searched);
    for (const [name] of line.matchAll(/\/dev\/(?:[shv]d[a-z]+\d*|nvme\d+n\d+(?:p\d+)?|mmcblk\d+(?:p\d+)?)\b/g)) {
      add('device', name);
    }
  }
  return [...found.values()];
}

/** udev writes what is no letter as `\xNN`. */
const unescaped = (name: string) =>
  name.replace(/\\x([0-9a-f]{2})/gi, (_, digits) => String.fromCharCode(Number.parseInt(digits, 16)));

/** What in a text leads nowhere on a clone with these identities: a sentence each. */
export function astray(file: string, text: string, known: Identities): string[] {
  return references(text).flatMap(({ kind, value }) => {
    if (kind === 'device') return [`${file} names ${value}, which may be another disk where the clone is used`];
    if (known[kind].some((one) => one.toLowerCase() === value.toLowerCase())) return [];
    return [`${file} names ${TAGS[kind]}=${value}, and nothing of the clone has it`];
  });
}

/** The same of all files below a root that say what is mounted or booted. */
export async function astrayIn(root: string, known: Identities): Promise<string[]> {
  const files = [...FILES];
  for (const directory of ENTRIES) {
    const names = await readdir(join(root, directory)).catch(() => []);
    files.push(...names.filter((name) => name.endsWith('.conf')).map((name) => join(directory, name)));
  }
  const found: string[] = [];
  for (const file of files) {
    const path = join(root, file);
    // A link may lead out of the clone.
    const there = await lstat(path).catch(() => undefined);
    const text = there?.isFile() ? await readFile(path, 'utf8').catch(() => undefined) : undefined;
    if (text !== undefined) found.push(...astray(`/${file}`, text, known));
  }
  return found;
}
