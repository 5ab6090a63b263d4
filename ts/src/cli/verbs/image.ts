/** `bulkhaul image`: disks and images, looked at, checked, cloned; and trees packed into images and out of them. */
import { stat } from 'node:fs/promises';
import { BulkhaulError } from '../../error.js';
import type { Report } from '../../events.js';
import { display, toBytes } from '../../names.js';
import { noneOf } from '../../nearest.js';
import { errand } from '../../ops/errand.js';
import {
  emptyLostAndFound,
  IMAGE_FILE_SYSTEMS,
  type Image,
  imageFileSystem,
  imageSize,
  makeImage,
  shownIn,
} from '../../ops/image.js';
import type { Inspected } from '../../ops/inspect.js';
import type { MappedCopyOptions } from '../../ops/mapping.js';
import {
  compareWithImage,
  isReadOnly,
  makeImageOf,
  packTree,
  READ_ONLY_FILE_SYSTEMS,
  type TreeImage,
} from '../../ops/treeimage.js';
import { openSet } from '../../ops/volumes.js';
import { ExitCode } from '../../verdict.js';
import { answer } from '../answer.js';
import { VerbCommand } from '../base.js';
import { askConsent } from '../consent.js';
import { choice, flag, operands, value, values } from '../options.js';
import { Command } from '../parser.js';
import { runJob, spillDirectory } from '../run.js';
import { parseSize, refuseElsewhere } from '../values.js';
import { version } from '../version.js';

const ACTIONS = ['inspect', 'check', 'clone', 'pack', 'unpack'] as const;
const COPYING = ['clone', 'pack', 'unpack'];

export class ImageCommand extends VerbCommand {
  static override readonly idle = {
    '--stall-timeout': 'programs that make and check file systems tell nothing of how far they are',
  };
  static override paths = [['image']];
  static override usage = Command.Usage({
    description: 'Look at disks and images, check and clone them, pack trees into images',
    details: `
      \`image inspect PATH…\` tells what is on a disk or in an image: its table, its partitions, their file systems, labels
      and identities, and how full they are. \`image check PATH…\` has each file system checked as well, by its own program,
      which repairs nothing. Neither writes anything.

      \`image clone SRC DST\` clones a disk or an image, partition by partition: into DST, a new image, or onto DST, a disk.
      File systems (ext2 to ext4, XFS, btrfs without subvolumes) are made anew with the parameters of the source's, and
      their files are copied; swap is made; everything else is copied as it is, FAT, NTFS and btrfs without what they do not
      use. All is looked at first: the source as destination, whatever leads there, a disk that is in use, too little room, a
      damaged table are refused, and \`-n\` prints the plan. Each partition is read back from the medium and compared; the
      identity of the source comes last. Until then an image is \`DST.partial\`. A clone that was interrupted goes on with the
      same command.

      \`image pack SRC… IMAGE\` copies trees into an image, by the rules of \`copy\`: \`SRC\` by its name, of \`SRC/\` what is in it.
      A new image is one file system, measured so that all of it fits; it is \`IMAGE.partial\` until it is whole. One that is
      there gets what has changed. \`image unpack IMAGE DEST\` copies what is in an image into DEST; of several file systems
      each into \`DEST/pN\`, by the numbers of their partitions.

      \`--image-fs squashfs\` and \`erofs\` make an image that is only read, of one DIR/, by mksquashfs or mkfs.erofs: it is read
      back and compared with DIR before it has its name. squashfs keeps times in whole seconds, and no ACLs: where there are
      some, it is refused.

      This needs root, loop devices, libblkid, libmount and libfdisk. Without root \`pack\` makes an ext4 of one DIR/, by mke2fs:
      times are in whole seconds then, and nothing is read back.

      Exit codes: 0 complete, 1 something is damaged or reads back differently, 2 usage or nothing begun, 3 refused, because
      something would be lost, 23 it failed or PATH does not exist, 24 the source changed meanwhile, 130 interrupted.
    `,
    examples: [
      ['What is on a disk', '$0 image inspect /dev/sda'],
      ['For a program to read', '$0 image inspect --json disk.img'],
      ['Whether its file systems are sound', '$0 image check disk.img'],
      ['What a clone would do', '$0 image clone -n /dev/sda /mnt/backup/sda.img'],
      ['The largest partition gets smaller', '$0 image clone --size 20G /dev/sda /mnt/backup/sda.img'],
      ['Onto another disk', '$0 image clone sda.img /dev/sdb'],
      ['A tree as an image', '$0 image pack photos photos.img'],
      ['And out of it again', '$0 image unpack photos.img /mnt/photos'],
      ['An image that is only read, and smaller', '$0 image pack --image-fs squashfs photos/ photos.squashfs'],
    ],
  });

  sizes = values('--size', {
    ...{ group: 'how', value: 'SIZE', default: 'those of the source' },
    help: 'Of a clone: the size of the largest partition, with K, M, G or T; given again, of the next one, the greatest for the largest',
  });
  total = value(
    '--total',
    {
      ...{ group: 'how', value: 'SIZE', default: 'as much as is needed' },
      help: 'The size of a new image, of a clone or of what is packed',
    },
    parseSize,
  );
  imageFs = choice('--image-fs', ['auto', ...IMAGE_FILE_SYSTEMS, ...READ_ONLY_FILE_SYSTEMS], {
    ...{ group: 'how', value: 'TYPE', default: 'auto' },
    help: 'File system of a new image that is packed: auto is xfs above 300 MiB where it can be made, else ext4',
  });
  defaults = flag('--mkfs-defaults', {
    group: 'how',
    help: 'Of a clone: file systems as mkfs makes them, not with the parameters of the source',
  });
  newIdentity = flag('--new-identity', {
    group: 'how',
    help: 'Of a clone: new ids for the disk, its partitions and file systems; fstab, crypttab and boot loaders are rewritten',
  });
  overwrite = flag('--overwrite', {
    group: 'safety',
    help: 'Of a clone: do not ask before what DST holds is overwritten',
  });
  operands = operands('ACTION PATH…', 2, Number.POSITIVE_INFINITY, ACTIONS);

  async execute(): Promise<number> {
    const [action = '', ...paths] = this.operands;
    refuseElsewhere(`image ${action}`, paths);
    this.#refuseIdle(action);
    if (action === 'inspect' || action === 'check') return this.#inspect(paths, action === 'check');
    if (action === 'clone') return this.#kept('clone', paths, () => this.#clone(paths));
    if (action === 'pack') return this.#kept('image', paths, () => this.#pack(paths));
    if (action === 'unpack') return this.#kept('image', paths, () => this.#unpack(paths));
    throw new BulkhaulError('USAGE', noneOf(display(action), ACTIONS));
  }

  /** Does it with a journal. */
  async #kept(operation: 'clone' | 'image', paths: readonly string[], deed: () => Promise<number>): Promise<number> {
    const { dryRun, quiet, context } = this;
    const { journal } = dryRun ? {} : this.journaled;
    const { recorded } = await import('../recorded.js');
    const work = { operation, sources: paths.slice(0, -1), destinations: paths.slice(-1), quiet: quiet || this.json };
    return recorded(work, journal, context, async (watched) => {
      Object.assign(context, watched);
      return { exitCode: await deed() };
    });
  }

  /** Throws `USAGE` for an option that only other actions mind. */
  #refuseIdle(action: string): void {
    const { bwlimit, iopsLimit, nice, ionice, jobs } = this;
    const copying = Object.entries({
      '--bwlimit': bwlimit,
      '--iops-limit': iopsLimit,
      '--nice': nice,
      '--ionice': ionice,
    });
    const minded: [option: string, given: boolean, by: readonly string[]][] = [
      ['--size', this.sizes.length > 0, ['clone']],
      ['--mkfs-defaults', this.defaults, ['clone']],
      ['--new-identity', this.newIdentity, ['clone']],
      ['--overwrite', this.overwrite, ['clone']],
      ['--total', this.total !== undefined, ['clone', 'pack']],
      ['--image-fs', this.imageFs !== 'auto', ['pack']],
      ['--dry-run', this.dryRun, COPYING],
      ['--verbose', this.verbose, COPYING],
      ['--jobs', jobs !== undefined, COPYING],
      ['--journal', this.journal !== undefined, COPYING],
      ['--keep-jobs', this.keepJobs !== undefined, COPYING],
      ['--state-dir', this.stateDir !== undefined, COPYING],
      ...copying.map(([option, given]): [string, boolean, readonly string[]] => [option, given !== undefined, COPYING]),
    ];
    const idle = minded.find(([, given, by]) => given && !by.includes(action));
    if (idle === undefined || !ACTIONS.some((known) => known === action)) return;
    const [option, , by] = idle;
    throw new BulkhaulError('USAGE', `image ${action} has no use for ${option}: it is for image ${by.join(', ')}`);
  }

  async #inspect(paths: readonly string[], check: boolean): Promise<number> {
    const { json, quiet, context } = this;
    const { inspectDisks } = await import('../../ops/inspect.js');
    const { inspectedLine, inspectedText, isDamaged } = await import('../../report/image.js');
    const tell = async (found: Inspected) => {
      if (quiet && (json || (check && !isDamaged(found)))) return;
      await answer(context.stdout, json ? inspectedLine(found, version()) : inspectedText(found));
    };
    // What is damaged is told with what there is.
    const settings = { ...this.settings, ownFailures: !json };
    const report = await runJob(() => inspectDisks(paths, check, tell), settings, context);
    if (!json && !(quiet && report.complete)) {
      const { verdictSummary } = await import('../../report/summary.js');
      context.stderr.write(verdictSummary(report));
    }
    return report.exitCode;
  }

  async #clone(paths: readonly string[]): Promise<number> {
    const [source, destination, ...more] = paths;
    if (source === undefined || destination === undefined || more.length > 0) {
      throw new BulkhaulError('USAGE', 'image clone takes a source and a destination');
    }
    const { settings, context, total } = this;
    const { planClone } = await import('../../ops/clone/plan.js');
    const plan = await planClone({
      ...{ source, destination, total },
      sizes: this.sizes.map((text) => parseSize(text, '--size')),
      mirror: !this.defaults,
      newIdentity: this.newIdentity,
      dryRun: this.dryRun,
    });
    try {
      const { planLine, planLines } = await import('../../report/clone.js');
      const lines = `${planLines(plan).join('\n')}\n`;
      const { clone } = await import('../../ops/clone.js');
      const options = { ...this.resources, spillDirectory: spillDirectory(context.env) };
      if (this.dryRun) {
        if (!settings.quiet) await answer(context.stdout, this.json ? planLine(plan) : lines);
        const report = await runJob(() => clone(plan, options), settings, context);
        if (!settings.json && !settings.quiet) {
          const { verdictSummary } = await import('../../report/summary.js');
          context.stderr.write(verdictSummary(report));
        }
        return report.exitCode;
      }
      if (!settings.quiet && !settings.json) context.stderr.write(lines);
      const { holds } = plan.destination;
      if (holds !== undefined && !this.overwrite) {
        const question = `${display(destination)} holds ${display(holds)}, and all of it would be lost. Overwrite it? (y/n) `;
        const said = await askConsent(question, context);
        if (said === 'interrupted') return ExitCode.interrupted;
        if (said !== 'yes')
          throw new BulkhaulError('SAFETY', 'nobody agreed: nothing was written (--overwrite answers)');
      }
      const report = await runJob((entries) => clone(plan, { ...options, entries }), settings, context);
      if (!settings.json && !(settings.quiet && report.complete)) {
        const { summaryText } = await import('../../report/summary.js');
        context.stderr.write(summaryText(report));
      }
      return report.exitCode;
    } finally {
      await plan.close();
    }
  }

  /** Trees into an image. */
  async #pack(paths: readonly string[]): Promise<number> {
    const [path = '', sources] = [paths.at(-1), paths.slice(0, -1)];
    if (sources.length === 0) throw new BulkhaulError('USAGE', 'image pack takes sources and an image');
    const { mapGiven } = await import('../../ops/mapping.js');
    const into = (directory: string) => mapGiven([...sources], `${directory}/`);
    const [inside] = await shownIn(sources, path, !this.dryRun);
    if (inside !== undefined) {
      throw new BulkhaulError(
        'SAFETY',
        `the image ${display(path)} would lie in what is packed, as ${display(inside)}; nothing was done`,
      );
    }
    const there = await stat(toBytes(path)).catch(() => undefined);
    if (there) {
      // What is only looked at is not mounted for writing, which would replay its journal.
      const images = await openSet(path, !this.dryRun);
      try {
        const roots = images.map(({ largest }) => largest);
        const fixed = roots.find(({ type }) => isReadOnly(type));
        if (fixed) {
          const why = `it is ${fixed.type}, which is never written to again`;
          throw new BulkhaulError('USAGE', `the image ${display(fixed.name)} can't be brought up to date: ${why}`);
        }
        const { sources: from } = await into(path);
        return await this.#copy({
          sources: from,
          destinations: roots.map((root) => ({ path: root.directory, follow: true })),
          aliases: roots.map((root) => ({ path: root.directory, name: `${root.name}:` })),
        });
      } finally {
        for (const image of images) await image.close();
      }
    }
    const { imageFs, total } = this;
    const [source = ''] = sources;
    if (isReadOnly(imageFs)) {
      if (sources.length > 1 || !source.endsWith('/')) {
        throw new BulkhaulError('USAGE', `into ${imageFs} one directory is packed, with a slash at its end`);
      }
      if (total !== undefined) {
        throw new BulkhaulError('USAGE', `--total: ${imageFs} is as large as what is in it`);
      }
    }
    // Nothing has this name: what is measured goes nowhere.
    const { copyMapped } = await import('../../ops/copy.js');
    const nowhere = await into(path);
    if (isReadOnly(imageFs) && this.dryRun) return this.#copy(nowhere);
    const measure = () => copyMapped({ ...this.resources, ...nowhere, dryRun: true });
    const measured = await runJob(measure, { ...this.settings, aside: 'measuring' }, this.context);
    if (measured.interrupted) return this.#stopped();
    const { allocatedBytes, found } = measured;
    const entries = Object.values(found).reduce((sum, many) => sum + many, 0);
    if (isReadOnly(imageFs)) return this.#packTree(source, path, { type: imageFs, size: 0, entries }, measured);
    const content = { bytes: allocatedBytes, entries, directories: found.directory };
    const type = imageFs === 'auto' ? await imageFileSystem(content) : imageFs;
    const need = imageSize(content, type);
    if (total !== undefined && total < need) {
      throw new BulkhaulError('NO_SPACE', `--total: ${need} bytes are needed, and ${total} are given`);
    }
    if (this.dryRun) return this.#copy(nowhere);
    const size = Math.floor((total ?? need) / 4096) * 4096;
    if (process.geteuid?.() !== 0) {
      if (sources.length > 1 || !source.endsWith('/') || type !== 'ext4') {
        throw new BulkhaulError('USAGE', 'without root one directory is packed, with a slash at its end, into ext4');
      }
      return this.#packTree(source, path, { type, size, entries }, measured);
    }
    const made = await makeImage(path, size, type, entries);
    const { directory } = made.image.largest;
    let whole = false;
    try {
      const aliases = [{ path: directory, name: `${path}:` }];
      const code = await this.#copy({ ...(await into(directory)), aliases });
      whole = code !== ExitCode.interrupted;
      return code;
    } finally {
      if (whole) await made.publish();
      else await made.image.close();
    }
  }

  /** Nothing is there of what was to be made. */
  #stopped(): number {
    if (!this.json)
      this.context.stderr.write('INTERRUPTED: nothing was made; the same command begins anew (exit 130)\n');
    return ExitCode.interrupted;
  }

  /** One directory, by the program that makes the file system; with root it is read back. */
  async #packTree(source: string, path: string, tree: TreeImage, measured: Report): Promise<number> {
    const { settings, context } = this;
    if (process.geteuid?.() !== 0) {
      const { summaryText } = await import('../../report/summary.js');
      const report = await runJob(() => packTree(source, path, tree, measured), settings, context);
      if (!settings.json && !(settings.quiet && report.complete)) context.stderr.write(summaryText(report, false));
      return report.exitCode;
    }
    let code: number | undefined;
    const watch = async (make: (signal: AbortSignal) => Promise<void>) => {
      const making = () => errand((_, signal) => make(signal));
      return !(await runJob(making, { ...settings, aside: 'packing' }, context)).interrupted;
    };
    const made = await makeImageOf(source, path, tree, watch, async (image) => {
      code = await this.#prove(source, image, tree);
      return code === ExitCode.complete;
    });
    if (code === undefined) return this.#stopped();
    if (!made) {
      const why =
        code === ExitCode.interrupted ? 'it was not compared to its end' : `it is another than ${display(source)}`;
      context.stderr.write(`bulkhaul: ${display(path)} was not made: ${why}\n`);
    }
    return code;
  }

  /** Compares what is in an image with what it was made of, and tells each difference. */
  async #prove(source: string, image: Image, { type }: TreeImage): Promise<number> {
    const { settings, context } = this;
    const options = { ...this.resources, wholeSeconds: type === 'squashfs' };
    const report = await runJob(
      () => compareWithImage(source, image.largest, { ...options, spillDirectory: spillDirectory(context.env) }),
      { ...settings, verbose: true },
      context,
    );
    if (!settings.json && !(settings.quiet && report.complete)) {
      const { compareSummary } = await import('../../report/summary.js');
      context.stderr.write(compareSummary(report, 'names, kinds, sizes, whole contents, metadata and attributes'));
    }
    return report.exitCode;
  }

  /** What is in an image. */
  async #unpack(paths: readonly string[]): Promise<number> {
    const [path, destination, ...more] = paths;
    if (path === undefined || destination === undefined || more.length > 0) {
      throw new BulkhaulError('USAGE', 'image unpack takes an image and a destination');
    }
    const images = await openSet(path, false);
    try {
      const unmounted = images.flatMap((image) => image.unmounted);
      const roots = images.flatMap((image) => image.roots);
      const failed = unmounted.filter(({ kind }) => kind === 'failed');
      const [first] = failed;
      if (first) throw new BulkhaulError('USAGE', `${display(first.name)} can't be mounted: ${first.why}`);
      if (roots.length === 0) throw new BulkhaulError('USAGE', `${display(path)} has no file system`);
      for (const { name, why } of unmounted) {
        if (!this.quiet) this.context.stderr.write(`bulkhaul: note: ${display(name)} is left out: ${display(why)}\n`);
      }
      const codes: number[] = [];
      for (const root of roots) {
        const into = root.partition === undefined ? destination : `${destination}/p${root.partition.number}`;
        const rules = (await emptyLostAndFound(root)) ? ['/lost+found'] : [];
        codes.push(
          await this.#copy({
            sources: [{ path: root.directory, contents: true, follow: true }],
            destinations: [{ path: into, follow: true }],
            ...(rules.length > 0 && { filter: { style: 'rsync', rules } }),
            aliases: [{ path: root.directory, name: `${root.name}:` }],
          }),
        );
        if (codes.includes(ExitCode.interrupted)) break;
      }
      return Math.max(...codes);
    } finally {
      for (const image of images) await image.close();
    }
  }

  /** Copies, and tells of it. */
  async #copy(options: Pick<MappedCopyOptions, 'sources' | 'destinations' | 'filter' | 'aliases'>): Promise<number> {
    const { settings, context } = this;
    const { copyMapped } = await import('../../ops/copy.js');
    const more = { ...this.resources, ...this.inUse, dryRun: this.dryRun, spillDirectory: spillDirectory(context.env) };
    const report = await runJob(
      (entries) => copyMapped({ ...options, ...more, sync: 'all', entries }),
      settings,
      context,
    );
    if (!settings.json && !(settings.quiet && report.complete)) {
      const { summaryText } = await import('../../report/summary.js');
      context.stderr.write(summaryText(report));
    }
    return report.exitCode;
  }
}
