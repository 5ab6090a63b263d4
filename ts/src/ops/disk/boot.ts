/**
 * Whether a clone would find itself when it boots: what its files say of disks, against what the clone has.
 *
 * Comes in: the roots of its file systems, and its identities; goes out: sentences about what leads nowhere. Or what
 * they say is rewritten, for a clone with identities of its own.
 */
import { constants } from 'node:fs';
import { lstat, open, readdir, readFile } from 'node:fs/promises';
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
  ...['etc/fstab', 'etc/crypttab', 'etc/kernel/cmdline', 'etc/default/grub', 'etc/initramfs-tools/conf.d/resume'],
  // Raspberry Pi, Armbian, U-Boot and syslinux; with /boot or a part of it on the file system that is looked at.
  ...['boot/firmware/', 'boot/firmware/current/', 'boot/', 'current/', ''].map((where) => `${where}cmdline.txt`),
  ...['boot/', ''].flatMap((where) =>
    ['armbianEnv.txt', 'extlinux/extlinux.conf', 'syslinux/syslinux.cfg'].map((name) => where + name),
  ),
  ...['boot/grub/grub.cfg', 'boot/grub2/grub.cfg', 'grub/grub.cfg', 'grub2/grub.cfg'],
];
/** Directories with a file for each thing that can be booted. */
const ENTRIES = ['boot/loader/entries', 'loader/entries'];
/** Directories with one for each boot loader. */
const LOADERS = ['EFI', 'efi/EFI', 'boot/efi/EFI'];

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
    // GRUB's search: the identity is its last word, or the first.
    const [, last, first] =
      /^\s*search\b(?:.*--fs-uuid\b.*\s([0-9A-Fa-f][0-9A-Fa-f-]*)\s*$|\.fs_uuid\s+([0-9A-Fa-f-]+)\s)/.exec(line) ?? [];
    const searched = last ?? first;
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

/** The files below a root that say what is mounted or booted, with what they hold. */
async function texts(root: string): Promise<[file: string, text: string][]> {
  const files = [...FILES];
  for (const [directory, end] of [...ENTRIES.map((each) => [each, '.conf']), ...LOADERS.map((each) => [each, ''])]) {
    const names = await readdir(join(root, directory ?? '')).catch(() => []);
    const own = names.filter((name) => name.endsWith(end ?? ''));
    files.push(...own.map((name) => join(directory ?? '', name, end === '' ? 'grub.cfg' : '')));
  }
  const found: [string, string][] = [];
  for (const file of files) {
    const path = join(root, file);
    // A link may lead out of the clone.
    const there = await lstat(path).catch(() => undefined);
    const text = there?.isFile() ? await readFile(path, 'latin1').catch(() => undefined) : undefined;
    if (text !== undefined) found.push([file, text]);
  }
  return found;
}

/** The same of all files below a root that say what is mounted or booted. */
export async function astrayIn(root: string, known: Identities): Promise<string[]> {
  return (await texts(root)).flatMap(([file, text]) => astray(`/${file}`, text, known));
}

/** Where a firmware that knows nothing of a disk looks for something to start, on its system partition. */
const FALLBACK = [/^efi$/i, /^boot$/i, /^boot\w+\.efi$/i];

/** Whether a system partition for UEFI has a loader there. */
export async function hasFallbackLoader(root: string): Promise<boolean> {
  let at: string | undefined = root;
  for (const name of FALLBACK) {
    const names: string[] = await readdir(at).catch(() => []);
    const found = names.find((each) => name.test(each));
    if (found === undefined) return false;
    at = join(at, found);
  }
  return true;
}

/** A text with other identities, by those that it has, in lower case. */
export function rewritten(text: string, renamed: ReadonlyMap<string, string>): string {
  return text.replace(/(?<![0-9A-Za-z-])[0-9A-Fa-f]{4,}(?:-[0-9A-Fa-f]+)+(?![0-9A-Za-z-])/g, (id) => {
    const other = renamed.get(id.toLowerCase());
    if (other === undefined) return id;
    return id === id.toLowerCase() ? other.toLowerCase() : other;
  });
}

/** Rewrites these files below a root; answers which were other before, and which may not be written to (chattr). */
export async function rewriteIn(
  root: string,
  renamed: ReadonlyMap<string, string>,
): Promise<{ changed: string[]; kept: string[] }> {
  const [changed, kept]: [string[], string[]] = [[], []];
  for (const [file, text] of await texts(root)) {
    const now = rewritten(text, renamed);
    if (now === text) continue;
    const how = constants.O_WRONLY | constants.O_NOFOLLOW;
    const handle = await open(join(root, file), how).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EPERM') throw error;
    });
    (handle ? changed : kept).push(`/${file}`);
    try {
      await handle?.truncate(0);
      await handle?.write(now, 0, 'latin1');
      await handle?.sync();
    } finally {
      await handle?.close();
    }
  }
  return { changed, kept };
}
