/** `bulkhaul migrate`: options in, one copy in which files become archives, its summary on stderr and its exit code out. */
import { BulkhaulError } from '../../error.js';
import type { MigrateOptions } from '../../ops/migrate.js';
import {
  archiveForm,
  extensionsBefore,
  extensionsOf,
  format,
  index,
  level,
  memory,
  minSize,
  verifySource,
} from '../archives.js';
import { formatOf } from '../digests.js';
import { value } from '../options.js';
import { Command } from '../parser.js';
import { runJob } from '../run.js';
import { CopyingCommand } from '../trees.js';

export class MigrateCommand extends CopyingCommand {
  static override paths = [['migrate']];
  static override usage = Command.Usage({
    description: 'Copy trees and compress files on the way',
    details: `
      Copies each SRC into DEST as \`copy\` does, and makes archives of the files whose names end as \`--ext\` says: in the same
      pass, so that a source is read once, and no uncompressed copy ever lies in DEST. An archive has the name of its file with
      \`.gz\`, \`.xz\` or \`.zst\`, and its owner, mode, times, attributes and ACLs. Files of several names become archives of
      several names. What is compressed already, by its first bytes, is copied as it is. The sources stay as they are.

      An archive that is there is never taken for done by its name: with the time of its file, its content must be as long, and
      its last 64 KiB decompressed the same (\`--hash-size\`); with \`--verify\` or \`--full-hash\` all of it. Otherwise it is made
      anew. Where a source has an entry with the name of an archive, that is a conflict: the entry is copied, and the file is not.
      \`--delete\` spares what has the name of a file or of its archive.

      \`--verify\` reads every result back from the medium, decompresses it by another program than the one that made it, and
      compares it with what the file gave. \`--manifest\` has the content, by the names of the sources, \`--stored-manifest\` the
      files of DEST. What is interrupted goes on when it is run again, inside a file of 32 MiB and more where that was.

      Exit codes: 0 complete, 1 something reads back differently, 2 usage or nothing begun, 3 refused for safety, or --delete
      held back, 23 some entries failed, are missing or in conflict, 24 some vanished or changed meanwhile, 130 interrupted.
    `,
    examples: [
      ['The run of a sequencer, its tables compressed', '$0 migrate --ext tsv --ext clusters --verify run /archive'],
      ['What would be done', '$0 migrate -n --ext tsv run/ /archive/run'],
      ['With an index, for tabix and samtools', '$0 migrate --ext vcf --index calls/ /archive/calls'],
      [
        'With digests of what went in, and of what is there now',
        '$0 migrate --ext tsv --manifest run.b3 --stored-manifest stored.b3 run/ /archive/run',
      ],
      ['As small as it gets', '$0 migrate --format xz --level 9 --ext log logs /archive'],
    ],
  });

  extensions = extensionsBefore('Compress files whose names end so');
  minSize = minSize('Copy smaller files as they are');
  memory = memory();
  format = format();
  level = level();
  index = index();
  verifySource = verifySource('With --verify: read each file twice, whose only reading may be wrong');
  storedManifest = value('--stored-manifest', {
    ...{ group: 'output', value: 'FILE', default: 'none' },
    help: 'Write the digests of the files in DEST as they are stored to FILE, of archives those of the archives. - is standard output',
  });
  manifestFormat = value(
    '--manifest-format',
    {
      ...{ group: 'output', value: 'FORM', default: 'sums' },
      help: 'Form of the manifests: sums (lines of a digest and a path), jsonl, hashdeep, bagit',
    },
    formatOf,
  );

  async execute(): Promise<number> {
    const { settings, context } = this;
    const options = await this.migration();
    const { migrate } = await import('../../ops/migrate.js');
    const report = await runJob((entries) => migrate({ ...options, entries }), settings, context);
    await this.conclude(report);
    return report.exitCode;
  }

  private async migration(): Promise<MigrateOptions> {
    const { manifest, storedManifest, manifestFormat, minSize, memory } = this;
    if (this.maxDelete !== undefined && !this.delete) {
      throw new BulkhaulError('USAGE', '--max-delete goes with --delete');
    }
    if (this.verifySource && !this.verify) throw new BulkhaulError('USAGE', '--verify-source goes with --verify');
    const none = manifest === undefined && storedManifest === undefined;
    if (none && (manifestFormat !== undefined || this.algorithms.length > 0)) {
      throw new BulkhaulError('USAGE', '--manifest-format and --algorithm go with --manifest or --stored-manifest');
    }
    return {
      ...(await this.copying(manifestFormat)),
      ...archiveForm(this),
      ...extensionsOf(this.extensions),
      ...(minSize !== undefined && { minSize }),
      ...(memory !== undefined && { memory }),
      ...(storedManifest !== undefined && {
        storedManifest: this.written('--stored-manifest', storedManifest, manifestFormat),
      }),
    };
  }
}
