/**
 * Holds the face of the addon in `ts/src` against the declarations that the build generates from `bindings/node` and
 * `bindings/stores`: `tsc`
 * fails where a key of options, events or reports is on one side only, or a value of ours does not fit theirs. The addon
 * is cast when it is loaded, and every option may be absent, so nothing else would notice.
 *
 * Nothing here is run.
 */
import type * as addon from '../../bindings/node/index.js';
import type * as stores from '../../bindings/stores/index.js';
import type {
  NativeEntryEvent,
  NativeFailure,
  NativeNote,
  NativePart,
  NativeQuestion,
  NativeReport,
  NativeSnapshot,
  NativeVictims,
} from '../src/native/events.js';
import type {
  Limits,
  NativeCompareOptions,
  NativeCompressOptions,
  NativeCopyOptions,
  NativeDecompressOptions,
  NativeFilesOptions,
  NativeListOptions,
  NativeManifestOptions,
  NativePackOptions,
  NativePartitionOptions,
  NativePatchOptions,
  NativePruneOptions,
  NativeRemoveOptions,
  NativeStoreCompareOptions,
  NativeStoreListOptions,
  NativeSyncOptions,
  NativeUnpackOptions,
  NativeVerifyOptions,
} from '../src/native/options.js';
import type {
  Addon,
  Answer,
  FileEntry,
  NativeFileReader,
  NativeFiles,
  NativeFileWriter,
  NativeJob,
  NativeRemoval,
  Probe,
  StoresAddon,
} from '../src/native.js';

/** What stands against what: ours, and what the build declares. */
interface Values {
  CopyOptions: [NativeCopyOptions, addon.CopyOptions];
  ListOptions: [NativeListOptions, addon.ListOptions];
  ManifestOptions: [NativeManifestOptions, addon.ManifestOptions];
  PackOptions: [NativePackOptions, addon.PackOptions];
  PartitionOptions: [NativePartitionOptions, addon.PartitionOptions];
  UnpackOptions: [NativeUnpackOptions, addon.UnpackOptions];
  VerifyOptions: [NativeVerifyOptions, addon.VerifyOptions];
  CompareOptions: [NativeCompareOptions, addon.CompareOptions];
  PatchOptions: [NativePatchOptions, addon.PatchOptions];
  CompressOptions: [NativeCompressOptions, addon.CompressOptions];
  DecompressOptions: [NativeDecompressOptions, addon.DecompressOptions];
  RemoveOptions: [NativeRemoveOptions, addon.RemoveOptions];
  SyncOptions: [NativeSyncOptions, stores.SyncOptions];
  PruneOptions: [NativePruneOptions, stores.PruneOptions];
  FilesOptions: [NativeFilesOptions, stores.FilesOptions];
  FileEntry: [FileEntry, stores.FileEntry];
  StoreCompareOptions: [NativeStoreCompareOptions, stores.StoreCompareOptions];
  StoreListOptions: [NativeStoreListOptions, stores.StoreListOptions];
  Limits: [Limits, addon.Limits];
  Answer: [Answer, addon.Answer];
  Probe: [Probe, addon.Probe];
  Entry: [NativeEntryEvent, addon.Entry];
  Failure: [NativeFailure, addon.Failure];
  Note: [NativeNote, addon.Note];
  Part: [NativePart, addon.Part];
  Question: [NativeQuestion, addon.Question];
  Victims: [NativeVictims, addon.Victims];
  Snapshot: [NativeSnapshot, addon.Snapshot];
  Report: [NativeReport, addon.Report];
}
interface Faces {
  Job: [NativeJob, addon.Job];
  Removal: [NativeRemoval, addon.Removal];
  StoresJob: [NativeJob, stores.Job];
  Files: [NativeFiles, stores.Files];
  FileReader: [NativeFileReader, stores.FileReader];
  FileWriter: [NativeFileWriter, stores.FileWriter];
  stores: [StoresAddon, Omit<typeof stores, 'Job' | 'Files' | 'FileReader' | 'FileWriter' | '__napiBindingTarget'>];
  addon: [Addon, Omit<typeof addon, 'Job' | 'Removal' | '__napiBindingTarget'>];
}

/** The objects in a value: those in a list, and each of several that it may be. */
type Objects<T> = T extends readonly (infer Item)[]
  ? Objects<Item>
  : T extends Buffer | string | number | boolean | undefined
    ? never
    : T;

/** The keys of each of several objects; none of one that counts by any name. */
type Keys<T> = T extends unknown ? (string extends keyof T ? never : keyof T & string) : never;

type Value<T, Key> = T extends unknown ? (Key extends keyof T ? T[Key] : never) : never;

/** Keys that only one of two values has, here or further down, with the way to them. */
type Odd<A, B, Way extends string> = 0 extends 1 & A & B ? never : OddKeys<Objects<A>, Objects<B>, Way>;
type OddKeys<A, B, Way extends string> = string extends keyof B
  ? never
  : {
      [Key in Keys<A> | Keys<B>]: Key extends Keys<A> & Keys<B>
        ? Odd<Value<A, Key>, Value<B, Key>, `${Way}.${Key}`>
        : `${Way}.${Key}`;
    }[Keys<A> | Keys<B>];

type Arguments<Method> = Method extends (...args: infer Given) => unknown ? Given : never;

/** Methods that only one side has, or with arguments of ours that theirs do not take. */
type OddMethods<A, B, Way extends string> = {
  [Key in Keys<A> | Keys<B>]: Arguments<Value<A, Key>> extends Arguments<Value<B, Key>>
    ? Key extends Keys<A> & Keys<B>
      ? never
      : `${Way}.${Key}`
    : `${Way}.${Key}`;
}[Keys<A> | Keys<B>];

type Differences =
  | { [Name in keyof Values]: Odd<Values[Name][0], Values[Name][1], Name> }[keyof Values]
  | { [Name in keyof Faces]: OddMethods<Faces[Name][0], Faces[Name][1], Name> }[keyof Faces];

/** Values of ours that theirs have no place for: of another type, or absent where theirs must be there. */
type Unfit = { [Name in keyof Values]: Values[Name][0] extends Values[Name][1] ? never : Name }[keyof Values];

type None<T extends never> = T;
export type Checked = [None<Differences>, None<Unfit>];
