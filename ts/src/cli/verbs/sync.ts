/** `bulkhaul sync`: two places in, one of them in an object store mostly; what changed comes over, and an exit code out. */
import type { Readable } from 'node:stream';
import { BulkhaulError } from '../../error.js';
import { display, fromBytes } from '../../names.js';
import type { StoreRequests } from '../../native/options.js';
import type { SyncOptions } from '../../ops/sync.js';
import type { FlagNames } from '../../report/summary.js';
import { choice, flag, limit, number, operands, rules, value, values } from '../options.js';
import { Command } from '../parser.js';
import { runJob, spillDirectory } from '../run.js';
import { TwoStoresCommand } from '../stores.js';
import { contentOf, parseAge, parseCount, parseLasting, parsePercent, parseSize } from '../values.js';

const COMPARE = ['auto', 'size', 'mtime', 'checksum', 'state', 'always'] as const;
const CONFLICT = ['source', 'newer', 'larger', 'destination', 'skip', 'keep-both', 'fail'] as const;
const VERIFY = ['size', 'hash', 'full'] as const;

const FLAGS: FlagNames = { removeExtra: '--delete' };

export class SyncCommand extends TwoStoresCommand {
  static override paths = [['sync']];
  static override usage = Command.Usage({
    description: 'Bring over what changed, also between object stores and this machine',
    details: `
      Brings what is in SRC over to DEST: what DEST does not have, and what it has otherwise. A place is a path or
      \`s3://BUCKET/PREFIX\`, on AWS or any server that speaks as it does (\`--endpoint-url\`). Two paths are copied as by
      \`copy SRC/ DEST\`; with an option that \`copy\` does not know they are synced file by file, with symlinks and empty
      directories. \`sftp://[USER@]HOST[:PORT]/PATH\` is a host that ssh reaches (\`/~/PATH\` from where a login
      begins). \`rclone:REMOTE:PATH\` is whatever the rclone that is installed reaches, which is slower: it is run for each
      entry. \`gs://BUCKET/PREFIX\` goes through Google's XML interface with HMAC keys (GS_ACCESS_KEY_ID,
      GS_SECRET_ACCESS_KEY), and is not tested against Google. \`az://CONTAINER/PREFIX\` is Azure or a server that speaks as it
      does, with the variables of its own tools (AZURE_STORAGE_ACCOUNT, AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN,
      AZURE_STORAGE_CONNECTION_STRING); tested with Azurite, not with Azure.

      Entries are told apart by size and last change, which is kept with each object as rclone keeps it; an object without
      counts as changed when it was written. A listing does not tell it, so that costs a question an entry; \`--state\` costs
      none. An upload is checked by the server where it can do that, and read back where it can't. Names that the other
      side can't carry are errors, never altered. Symlinks and empty directories are counted, and carried with \`--links\` and
      \`--directory-markers\`.

      \`--delete\` is last, and removes nothing when anything failed, a listing broke off, SRC is empty, or past
      \`--max-delete\`.

      Keys: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or a profile of ~/.aws. They are never written
      down. Proxies: HTTPS_PROXY (of http:// servers, HTTP_PROXY), but for the hosts of NO_PROXY.

      Exit codes: 0 complete, 1 what arrived differs, 2 usage or nothing begun, 3 --delete held back, 23 some entries
      failed, are missing or in conflict, 24 some vanished or changed meanwhile, 130 interrupted.
    `,
    examples: [
      ['Upload what changed', '$0 sync photos s3://archive/photos'],
      ['Show what would be done', '$0 sync -n --delete photos s3://archive/photos'],
      [
        'Down again, from a server of your own',
        '$0 sync --endpoint-url http://localhost:7070 s3://archive/photos photos',
      ],
      ['A mirror that is looked after', '$0 sync --delete --max-delete 5% photos s3://archive/photos'],
      ['Each night, by what is remembered', '$0 sync --state photos.state photos s3://archive/photos'],
      ['Two months of a data set', "$0 sync --partition 'year=2026,month>=5,month<=6' s3://lake/events events"],
      ['Keep what is replaced or removed', '$0 sync --delete --backup-dir s3://archive/old photos s3://archive/photos'],
      ['The last week, proved', '$0 sync --newer-than 7d --verify full photos s3://archive/photos'],
    ],
  });

  rules = rules('Leave out what PATTERN matches, on both sides');
  filesFrom = value('--files-from', {
    ...{ group: 'what', value: 'FILE', default: 'all of SRC' },
    help: 'Bring over the names in FILE, one a line, and list nothing; - is standard input',
  });
  deleteFrom = value('--delete-from', {
    ...{ group: 'what', value: 'FILE', default: 'nothing' },
    help: 'Remove the names in FILE from DEST, after that, and if nothing failed',
  });
  nul = flag('-0,--null', {
    group: 'what',
    help: 'Names of --files-from and --delete-from end with NUL, not a newline',
  });
  newerThan = value(
    '--newer-than',
    {
      ...{ group: 'what', value: 'AGE', default: 'any' },
      help: 'Only what changed within this time: 7d, also s, m, h, w; or since a date, 2026-01-31',
    },
    parseAge,
  );
  olderThan = value(
    '--older-than',
    {
      group: 'what',
      value: 'AGE',
      default: 'any',
      help: 'Only what has not changed within this time, or since a date',
    },
    parseAge,
  );
  minSize = value(
    '--min-size',
    { group: 'what', value: 'BYTES', default: 'any', help: 'Only what has so many bytes or more, also with K, M or G' },
    parseSize,
  );
  maxSize = value(
    '--max-size',
    { group: 'what', value: 'BYTES', default: 'any', help: 'Only what has so many bytes or fewer' },
    parseSize,
  );
  partition = value('--partition', {
    ...{ group: 'what', value: 'RULE', default: 'everything' },
    help: 'Only what is in directories KEY=VALUE for which RULE holds: year=2023,month>=06; signs are = != < <= > >=, and 9 is less than 10. What is not is looked at on neither side',
  });
  links = flag('--links', {
    group: 'what',
    help: 'Carry symlinks: in a store each is an object NAME.rclonelink that holds its text, as rclone has them',
  });
  markers = flag('--directory-markers', {
    group: 'what',
    help: 'Carry empty directories: in a store each is an empty object NAME/',
  });
  compare = choice('--compare', COMPARE, {
    ...{ group: 'how', value: 'HOW', default: 'auto' },
    help: 'What tells two entries apart: size; mtime (size and last change); checksum (the contents); state (what the file of --state says that both were); always (nothing: all is copied); auto is state with --state, else mtime',
  });
  conflict = choice('--conflict', CONFLICT, {
    ...{ group: 'how', value: 'RULE', default: 'source' },
    help: 'What becomes of what both sides have otherwise: source, its content comes over; newer and larger, only where it is; destination and skip, nothing; keep-both, its content comes over, and what was there stays as NAME.conflict-TIME; fail, it is an error',
  });
  state = value(
    '--state',
    {
      ...{ group: 'how', value: 'FILE', default: 'none' },
      help: 'Write down in FILE what both sides are, entry by entry, and go by it in the next run: what changed, or is gone, on either side is seen without a question an entry. It belongs to these two places',
    },
    parseLasting,
  );
  delete = flag('--delete', {
    group: 'how',
    help: 'Remove from DEST what SRC does not have, last; nothing where anything failed, SRC is empty, or past --max-delete',
  });
  backup = value('--backup-dir', {
    ...{ group: 'safety', value: 'PLACE', default: 'none' },
    help: 'Keep what is replaced or removed in PLACE, a path or a URL, under its name; where that fails, it stays where it is. Outside of SRC and DEST; what PLACE has under that name is replaced',
  });
  modes = flag('--perms', {
    group: 'how',
    help: 'Set the permissions that a store has kept on local files; otherwise a new file has those of any, and a replaced one keeps its own',
  });
  retries = number('--retries', 0, 100, {
    ...{ group: 'how', value: 'N', default: '3' },
    help: 'Try a request so often again, where that may go better: overload, broken connections, not wrong keys',
  });
  backoff = value(
    '--backoff',
    {
      ...{ group: 'how', value: 'FACTOR', default: '2' },
      help: 'The first pause is half a second, each later one so many times as long; 0 for no pauses',
    },
    parseCount,
  );
  jitter = value(
    '--jitter',
    { group: 'how', value: 'N%', default: '10%', help: 'What chance adds to a pause, at most' },
    parsePercent,
  );
  noSync = flag('--no-sync', {
    group: 'safety',
    help: 'Do not sync local files before they count as finished: after a power cut they may be damaged and look whole',
  });
  verify = choice('--verify', VERIFY, {
    ...{ group: 'safety', value: 'WHAT', default: 'size' },
    help: 'What is proved of what was written: size (and what the server checks); hash (the content, by a sum that the server keeps, else it is read back); full (it is read back)',
  });
  maxDelete = limit('--max-delete', {
    ...{ group: 'safety', value: 'N', default: 'no limit' },
    help: 'With --delete: where more than N entries, or N% of those in DEST, would go, none goes',
  });
  batchSize = number('--batch-size', 1, 1_000_000_000, {
    ...{ group: 'speed', value: 'N', default: 'no batches' },
    help: 'Bring over N contents at a time: the next are begun when these have ended',
  });
  batchPause = value(
    '--batch-pause',
    { group: 'speed', value: 'SECONDS', default: '0', help: 'Wait so long after each batch' },
    parseCount,
  );
  abortStale = value(
    '--abort-stale',
    {
      ...{ group: 'safety', value: 'AGE', default: 'none is' },
      help: 'First give up uploads below DEST and --backup-dir (s3:, gs:) that anybody began so long ago, or before a date, and has not ended; their parts take room, and no listing shows them',
    },
    parseAge,
  );
  chunkSize = value(
    '--chunk-size',
    {
      ...{ group: 'speed', value: 'BYTES', default: '8M' },
      help: 'Bytes of a part of a large object, 5M or more',
    },
    parseSize,
  );
  memory = value(
    '--memory',
    { group: 'speed', value: 'BYTES', default: '64M', help: 'Bytes of all parts in flight together' },
    parseSize,
  );
  headers = values('--header', {
    ...{ group: 'store', value: "'NAME: VALUE'", default: 'the type, by the ending of the name; what SRC keeps' },
    help: 'Keep this with each object that is written: Content-Type, Cache-Control, x-amz-storage-class, x-amz-server-side-encryption, x-amz-meta-NAME, x-ms-access-tier and the like',
  });
  operands = operands('SRC DEST', 2, 2);

  async execute(): Promise<number> {
    const { settings, context } = this;
    const [source = '', destination = ''] = this.operands;
    this.refuseHosts('sync', this.operands);
    if (this.maxDelete !== undefined && !this.delete)
      throw new BulkhaulError('USAGE', '--max-delete goes with --delete');
    if (this.batchPause !== undefined && this.batchSize === undefined)
      throw new BulkhaulError('USAGE', '--batch-pause goes with --batch-size');
    const names = await this.named();
    const { newerThan, olderThan, minSize, maxSize, compare, state, maxDelete } = this;
    const { partition, backup, batchSize, batchPause, abortStale } = this;
    const sourceStore = await this.sourceStore();
    const options: SyncOptions = {
      source,
      destination,
      conflict: this.conflict,
      verify: this.verify,
      modes: this.modes,
      sync: !this.noSync,
      ...(names ? {} : { exclude: await this.patterns(this.rules), removeExtra: this.delete }),
      dryRun: this.dryRun,
      spillDirectory: spillDirectory(context.env),
      environment: context.env,
      store: this.store,
      ...this.resources,
      ...this.journaled,
      ...this.requested,
      ...(this.headers.length > 0 && { headers: Object.fromEntries(this.headers.map(parseHeader)) }),
      ...(sourceStore && { sourceStore }),
      ...(compare !== 'auto' && { compare }),
      ...(newerThan !== undefined && { newerThan }),
      ...(olderThan !== undefined && { olderThan }),
      ...(minSize !== undefined && { minSize }),
      ...(maxSize !== undefined && { maxSize }),
      ...(partition !== undefined && { partition }),
      ...(this.links && { links: true }),
      ...(this.markers && { markers: true }),
      ...(backup !== undefined && { backup }),
      ...(batchSize !== undefined && { batchSize }),
      ...(batchPause !== undefined && { batchPause }),
      ...(abortStale !== undefined && { abortStale }),
      ...(state !== undefined && { state }),
      ...(maxDelete !== undefined && { maxDelete }),
    };
    const { syncDir, syncFiles } = await import('../../ops/sync.js');
    const report = await runJob(
      (entries) => (names ? syncFiles({ ...options, ...names, entries }) : syncDir({ ...options, entries })),
      { ...settings, flags: FLAGS },
      context,
    );
    if (!settings.json && !(settings.quiet && report.complete)) {
      const { syncSummary } = await import('../../report/summary.js');
      context.stderr.write(syncSummary(report));
    }
    return report.exitCode;
  }

  /** What the lists name; undefined: there is none. */
  private async named(): Promise<{ add: string[]; remove: string[] } | undefined> {
    const { filesFrom, deleteFrom } = this;
    if (filesFrom === undefined && deleteFrom === undefined) return undefined;
    if (this.delete || this.rules.length > 0) {
      throw new BulkhaulError(
        'USAGE',
        '--files-from and --delete-from say what is taken and removed: --delete and rules for names do not go with them',
      );
    }
    const namesIn = async (option: string, file: string | undefined) => {
      if (file === undefined) return [];
      const text = await readNames(this.file(option, file, '/dev/stdin'), this.context.stdin, option);
      return text.split(this.nul ? '\0' : /\r?\n/).filter((name) => name !== '');
    };
    return { add: await namesIn('--files-from', filesFrom), remove: await namesIn('--delete-from', deleteFrom) };
  }

  private get requested(): { requests?: StoreRequests } {
    const { memory, chunkSize, retries, backoff, jitter } = this;
    const given = { memory, chunkSize, retries, backoff, jitter };
    const requests = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
    return Object.keys(requests).length > 0 ? { requests } : {};
  }
}

/** A header as it is written in a message. */
function parseHeader(text: string): [name: string, value: string] {
  const [, name, value] = /^([^:\s]+):\s*(.*?)\s*$/.exec(text) ?? [];
  if (name === undefined || value === undefined) {
    throw new BulkhaulError('USAGE', `--header: ${display(text)} is not 'NAME: VALUE'`);
  }
  return [name, value];
}

/** A list, as it is; a name may hold any byte. */
async function readNames(path: string, stdin: Readable, option: string): Promise<string> {
  if (path === '/dev/stdin') {
    const chunks: Buffer[] = [];
    for await (const chunk of stdin) chunks.push(Buffer.from(chunk));
    return fromBytes(Buffer.concat(chunks));
  }
  return fromBytes(await contentOf(option, path));
}
