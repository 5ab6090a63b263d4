/** The flags of hpcp: what they mean now, the echo, and that each is documented. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { echo, FLAGS, originalFlags, parseCall } from '../../../src/cli/dropin/hpcp/flags.js';
import { helpText } from '../../../src/cli/dropin/hpcp/help.js';
import { resources, workers } from '../../../src/cli/dropin/hpcp/settings.js';

/** Every spelling in the help of hpcp 8.96 and 9.79. */
const ORIGINAL =
  `-h --help -s --single_thread -j -m -t --max_workers -b --batch -nb --no_batch --sequential -v --verbose
  -do --directory_only -nds --no_directory_sync -fh --full_hash -hs --hash_size -f -fpj --files_per_job
  -sfl -lfl --source_file_list -fl -tfl --target_file_list -cfl --compare_file_list -dfl --diff_file_list
  -tdfl --tar_diff_file_list -nhfl --no_hash_file_list -rm --remove -rf --remove_force -rme --remove_extra
  -rwloff --do_not_remove_files_while_listing -e --exclude -x --exclude_file -lt --link_tracking
  -nlt --no_link_tracking -V --version -pfl --parallel_file_listing -si --src_image -siff --load_diff_image
  -d -C --dest_path -rds --random_dest_selection -di --dest_image -dis --dest_image_size -diff --get_diff_image
  -fa --force_apply -dd --disk_dump -ddr --dd_resize -nfp --no_fs_param_mirror -L -rl --rate_limit
  -F -frl --file_rate_limit -tfs --target_file_system -ncd --no_create_dir -co --content_only
  -ctl --command_timeout_limit -enes --exit_not_enough_space`.split(/\s+/);

it('has every spelling of the originals, and no other under their rank', () => {
  const spellings = originalFlags().flatMap(({ names }) => names);
  expect([...spellings].sort()).toEqual([...ORIGINAL].sort());
});

it('documents every flag in one row', () => {
  const page = readFileSync(new URL('../../../../docs/dropin.md', import.meta.url), 'utf8');
  const section = page.split('### ').find((text) => text.startsWith('Flags\n')) ?? '';
  const rows = section.split('\n').filter((line) => line.startsWith('| `-'));
  const wanted = Object.values(FLAGS).map(({ names }) => names.map((name) => `\`${name}\``).join(' '));
  const documented = rows.map((row) => row.split('|')[1]?.trim() ?? '');
  expect([...documented].sort()).toEqual([...wanted].sort());
  for (const row of rows)
    expect(
      row
        .split('|')
        .slice(2, 4)
        .every((cell) => cell.trim() !== ''),
    ).toBe(true);
});

describe('the meaning of an abbreviation', () => {
  it.each<[string[], object]>([
    [['--file=3'], { files_per_job: 3 }],
    [['--file_rate', '0'], { file_rate_limit: '0' }],
    [['--no_dir'], { no_directory_sync: true }],
    [['--link'], { link_tracking: true }],
    [['-nl'], { no_link_tracking: true }],
    [['-f', '2'], { files_per_job: 2 }],
    [['-e', 'x', '-enes'], { exclude: ['x'], exit_not_enough_space: true }],
    [['--s', '1'], {}],
    // The common options never stand in the way of an own one, and are there where no own one is meant.
    [['--ex', 'x'], {}],
    [['--dry'], { dry_run: true }],
    [['--jobs', '2'], { jobs: 2 }],
    [['--keep'], { keep_dirlinks: true }],
    [['--sp', 'auto'], { sparse: 'auto' }],
    [['--files-from', 'x'], { files_from: 'x' }],
    [['--full'], { full_hash: true }],
    [['--p'], { parallel_file_listing: true }],
    [['--j', '2'], {}],
  ])('%j', (args, values) => {
    if (Object.keys(values).length > 0) expect(parseCall(args).values).toMatchObject(values);
    else expect(() => parseCall(args)).toThrow(/is ambiguous/);
  });
});

it.each(['-ctl 0', '-dis 0', '-ddr 0'])('%s is the default', (text) => {
  expect(() => parseCall(text.split(' '))).not.toThrow();
});

it.each<[string[], RegExp]>([
  [['--progress', 'x'], /^argument --progress: 'x' is none of auto, tty, plain, json, none$/],
  [['--sync', 'x'], /^argument --sync/],
  [['--sparse', ''], /^argument --sparse/],
  [['--jobs', '0'], /^argument --jobs: 0 is less than 1$/],
  [['-ddr', '1G'], /^argument -ddr\/--dd_resize: it goes with -dd/],
  [['-nfp'], /^argument -nfp\/--no_fs_param_mirror: it goes with -dd/],
  [['--overwrite'], /^argument --overwrite: it goes with -dd/],
  [['-b', '-nb'], /not allowed with/],
  [['--files-from', 'a', '--files-from0', 'b'], /^argument --files-from0: not allowed with/],
  [['-ctl', 'x'], /^argument -ctl\/--command_timeout_limit: 'x' is not a number of seconds$/],
  [['a', '-d', 'b', '--max-delete', '3'], /^argument --max-delete: it goes with -rm or -rme/],
  [['a', '-d', 'b', '-rf', '--max-delete', '3'], /^argument --max-delete: it goes with -rm or -rme/],
  [['a', '-d', 'b', '--accept-time-loss'], /^argument --accept-time-loss: it goes with -rm and -d/],
  [['a', '-rm', '--accept-time-loss'], /^argument --accept-time-loss: it goes with -rm and -d/],
  [['-sfl', '-', '-fl', '-', '-cfl'], /standard input can be read once/],
  [['a', 'b', '-rm', '-rme'], /^argument -rm\/--remove: together with -rme the destination is named with -d/],
])('refuses %j', (args, message) => {
  expect(() => parseCall(args)).toThrow(message);
});

describe('workers', () => {
  it.each<[string[], number, number | undefined]>([
    [[], 8, undefined],
    [['-j', '3'], 8, 3],
    [['-m0'], 2, 1],
    [['-t', '0'], 1, 1],
    [['-t', '0'], 3, 2],
    [['-t', '0'], 5, 2],
    [['-t', '0'], 7, 4],
    [['-j', '-1'], 2, 2],
    [['-j', '-3'], 2, 6],
    [['-j', '5000'], 2, 1024],
    [['-s'], 8, 1],
    [['-s', '-j', '4'], 8, 1],
    [['--jobs', '5', '-j', '4'], 8, 5],
  ])('%j on %d CPUs: %s', (args, cpus, threads) => {
    expect(workers(parseCall(args).values, cpus)).toBe(threads);
  });
});

describe('the echo', () => {
  it.each<[string[], string]>([
    [[], '> hpcp'],
    [['s', '-d', 'o'], "> hpcp 's' --dest_path='o'"],
    [
      ['-d', 'o', 's', '-v', '-j', '-1', '-e', 'x'],
      "> hpcp 's' --max_workers='-1' --verbose='True' --exclude='x' --dest_path='o'",
    ],
    [['s', '-d', 'a', '-d', 'b'], "> hpcp 's' --dest_path='a' --dest_path='b'"],
    [['s', '-hs', '65536', '-f', '1'], "> hpcp 's'"],
    [['s', '-hs', '0'], "> hpcp 's' --hash_size='0'"],
    [['s', '-nb', '--dry-run'], "> hpcp 's' --no_batch='True' --dry-run='True'"],
    [["it's", 'a\nb\x1b'], String.raw`> hpcp 'it'\''s' 'a\nb\x1b'`],
  ])('%j', (args, line) => {
    expect(echo(parseCall(args))).toBe(line);
  });
});

it.each([50, 80, 120])('has a help that fits %d columns', (width) => {
  for (const line of helpText(width).split('\n')) expect(line.length, line).toBeLessThanOrEqual(width);
});

it('has a help that names every flag', () => {
  const help = helpText(80);
  for (const { names } of Object.values(FLAGS)) for (const name of names) expect(help).toContain(` ${name}`);
  expect(help).toMatchSnapshot();
});

describe('limits and priorities', () => {
  it.each<[string, object]>([
    ['', {}],
    ['-L 0 -F 0', { bytes: 0, entries: 0 }],
    ['-L 1000', { bytes: 1000 }],
    ['-L 1K', { bytes: 1000 }],
    ['-L 1Ki', { bytes: 1024 }],
    ['-L 1.5MiB', { bytes: 1_572_864 }],
    ['-L .5gb', { bytes: 500_000_000 }],
    ['-L 2T', { bytes: 2e12 }],
    ['-L 1Pi', { bytes: 1024 ** 5 }],
    ['-L 7B', { bytes: 7 }],
    ['-F 10', { entries: 10 }],
    ['-F 0.5', { entries: 0.5 }],
    ['-F 2k', { entries: 2000 }],
    // The common options win over the original's.
    ['-L 1K --bwlimit 1', { bytes: 1024 }],
    ['-F 7 --iops-limit 8', { entries: 8 }],
  ])('%s', (text, limits) => {
    const { values } = parseCall(['a', '-d', 'b', ...text.split(' ').filter((word) => word !== '')]);
    expect(resources(values).limits).toEqual(limits);
  });

  it.each(['-L x', '-L 1X', '-L -1', '-L 1i', '-L 1Kib2', '-L 1e3', '-L=', '-F 1,5', '-F inf', '-F nan'])(
    '%s is no limit, and not none',
    (text) => {
      const { values } = parseCall(['a', '-d', 'b', ...text.split(' ')]);
      expect(() => resources(values)).toThrow(/^argument -[LF]: '.*' is no rate/);
    },
  );

  it('takes priorities as they are', () => {
    const { values } = parseCall(['a', '-d', 'b', '--nice', '-5', '--ionice', 'idle', '-j', '3']);
    expect(resources(values)).toEqual({ limits: {}, jobs: 3, nice: -5, ionice: 'idle' });
  });
});
