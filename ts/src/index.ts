/**
 * The library's face.
 *
 * It is mute: it never prints, reads the environment, or exits, and keeps no state between jobs.
 */
export { BulkhaulError, type ErrorCode } from './error.js';
export type {
  EntryEvent,
  ErrorEvent,
  Event,
  HostStatus,
  JobEvent,
  NoteEvent,
  PartEvent,
  Report,
  Snapshot,
  StatusEvent,
  SummaryEvent,
  Victims,
} from './events.js';
export {
  type FileInfo,
  type FileSystem,
  type FileSystemOptions,
  filesystem,
  type Range,
  type Scope,
} from './filesystem.js';
export { display, fromBytes, type PathLike, toBytes } from './names.js';
export type { Change, EntryKind, Outcome } from './native/events.js';
export type {
  Algorithm,
  ArchiveFormat,
  Limits,
  ManifestFormat,
  PartFormat,
  ShardCompression,
} from './native/options.js';
export type { JournalSettings } from './ops/arguments.js';
export type { PartCommand } from './ops/commands.js';
export {
  type Compared,
  type CompareOptions,
  compare,
  compareMapped,
  type MappedCompareOptions,
} from './ops/compare.js';
export { type CompressOptions, compress } from './ops/compress.js';
export { copy, copyMapped } from './ops/copy.js';
export { type DecompressOptions, decompress } from './ops/decompress.js';
export { type Confirm, type Job, JobError, type Journaled } from './ops/job.js';
export { type ListOptions, list, listedSources, listMapped, type MappedListOptions } from './ops/list.js';
export { type ManifestOptions, manifest } from './ops/manifest.js';
export type { CopyOptions, MappedCopyOptions } from './ops/mapping.js';
export { type MigrateOptions, migrate } from './ops/migrate.js';
export { type MoveOptions, move } from './ops/move.js';
export { type PackOptions, pack } from './ops/pack.js';
export { type PartitionOptions, partition } from './ops/partition.js';
export { Removal, type RemoveOptions, remove } from './ops/remove.js';
export { type RetainOptions, retainPartitions } from './ops/retain.js';
export { type SpreadOptions, spread } from './ops/spread.js';
export {
  compareStores,
  incrementalSync,
  listStore,
  type NamePair,
  type StoreCompareOptions,
  type StoreListOptions,
  type SyncFilesOptions,
  type SyncOptions,
  syncDir,
  syncFiles,
} from './ops/sync.js';
export { type UnpackOptions, unpack } from './ops/unpack.js';
export { type VerifyOptions, verify } from './ops/verify.js';
export { copyPairs, type Pair, type PairOptions, type PairOutcome } from './pairs.js';
export {
  type Outcome as CallOutcome,
  type ParallelOptions,
  type RetryOptions,
  runParallel,
  type Tried,
  withRetry,
} from './parallel.js';
export {
  type JobState,
  type JobSummary,
  type JournalRecord,
  jobs,
  journalOf,
  type ResumeOptions,
  resume,
} from './resume.js';
export type { Credentials, StoreSettings } from './stores/access.js';
export { partitionsOf } from './stores/partitions.js';
export { type Validation, validateTransfer } from './validate.js';
export { ExitCode, type Verdict } from './verdict.js';
