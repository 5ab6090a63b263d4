/** What a command does when it has ended: commands of the user's, and the file of the metrics. */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseCommand } from '../src/cli/ended.js';
import { metricsText } from '../src/report/metrics.js';
import { jsonLines, program, reported, run, schemaViolations, scratch, snapshot } from './rig.js';

/** A directory with a source, and a program that writes down what it was given. */
function place() {
  const at = scratch();
  mkdirSync(join(at, 'source'));
  writeFileSync(join(at, 'source/one'), 'x');
  const hook = join(at, 'hook');
  writeFileSync(
    hook,
    `#!/bin/sh
cat >'${at}/input'
env | grep '^BULKHAUL_' | sort >'${at}/env'
printf '%s\\n' "$@" >'${at}/args'
echo told
`,
  );
  chmodSync(hook, 0o755);
  const told = (name: string) => readFileSync(join(at, name), 'utf8');
  return { at, hook, told, source: join(at, 'source'), destination: join(at, 'copy') };
}

describe('--on-end', () => {
  it('is run with the summary and the verdict, and no shell reads its words', async () => {
    const { hook, told, source, destination } = place();
    const words = JSON.stringify([hook, '$(id) *', 'two words', '']);
    const { code, stdout, stderr } = await run(['copy', '--on-end', words, source, destination]);
    expect({ code, stdout }).toEqual({ code: 0, stdout: '' });
    expect(stderr).toContain('told');
    expect(told('args')).toBe('$(id) *\ntwo words\n\n');
    expect(jsonLines(told('input'))).toMatchObject([{ type: 'summary', complete: true, exitCode: 0 }]);
    expect(told('env')).toBe(
      'BULKHAUL_EXIT_CODE=0\nBULKHAUL_OPERATION=copy\nBULKHAUL_SENTENCE=complete: 2 entries\nBULKHAUL_VERDICT=complete\n',
    );
  });

  it('is told what the run was refused for, where it failed early', async () => {
    const { at, hook, told, destination } = place();
    const { code } = await run([
      'copy',
      `--on-failure=${hook}`,
      '--log-file',
      join(at, 'no/log'),
      join(at, 'source'),
      destination,
    ]);
    expect(code).toBe(2);
    const [line] = told('input').split('\n');
    expect(schemaViolations(JSON.parse(line ?? ''))).toEqual([]);
    expect(JSON.parse(line ?? '')).toMatchObject({ type: 'error', kind: 'refused', code: 'USAGE' });
    expect(told('env')).toMatch(
      /BULKHAUL_EXIT_CODE=2\n[\s\S]*BULKHAUL_SENTENCE=the log file[\s\S]*BULKHAUL_VERDICT=failed/,
    );
  });

  it('is not run in a dry run, nor --on-failure where all is well', async () => {
    const { at, hook, source, destination } = place();
    expect(await run(['copy', '-n', '--on-end', hook, source, destination])).toMatchObject({ code: 0 });
    expect(await run(['copy', '--on-failure', hook, source, destination])).toMatchObject({ code: 0 });
    expect(existsSync(join(at, 'input'))).toBe(false);
  });

  it('does not change how the run went, when it goes wrong itself', async () => {
    const { source, destination } = place();
    const { code, stderr } = await run(['copy', '--on-end', 'false', source, destination]);
    expect(code).toBe(0);
    expect(stderr).toContain('bulkhaul: --on-end false ended with 1\n');
  });

  it.each([
    ['/nothing/here', 'there is no program /nothing/here'],
    ['/etc/passwd', 'there is no program /etc/passwd'],
    ['no-such-program', 'there is no program no-such-program'],
    ['["a", 1]', 'this is no JSON array of words'],
    ['[]', 'this is no JSON array of words'],
    ['["a"', 'this is no JSON array of words'],
    ['', 'there is no program'],
  ])('%j is refused before anything begins', async (command, why) => {
    const { source, destination } = place();
    const { code, stderr } = await run(['copy', `--on-end=${command}`, source, destination]);
    expect({ code, there: existsSync(destination) }).toEqual({ code: 2, there: false });
    expect(stderr).toContain(`--on-end: ${why}`);
  });

  it.each([
    ['mail', ['mail']],
    ['a b', ['a b']],
    ['["mail", "-s", "x y"]', ['mail', '-s', 'x y']],
  ])('%j is %j', (text, words) => {
    expect(parseCommand(text, '--on-end')).toEqual(words);
  });
});

/** Each drop-in, and how it is called for a copy of `source` or its like. */
const DROP_INS: readonly (readonly [string, (source: string, destination: string) => string[]])[] = [
  ['hpcp', (source, destination) => [source, destination]],
  ['run-mirror', (source, destination) => [source, destination]],
  ['compress_files', (source) => ['-r', source]],
  ['migrate_compress', (source, destination) => ['-s', source, '-d', destination]],
  ['move_to_final', (source, destination) => ['-s', source, '-d', destination]],
  ['dsync', (source, destination) => ['-n', '1', '--copy-with', 'bulkhaul', source, destination]],
];

describe.each(DROP_INS)('%s', (name, args) => {
  const called = ({ at, source, destination }: ReturnType<typeof place>, ...more: string[]) =>
    run([name, ...more, ...args(source, destination)], {
      cwd: at,
      env: { HOME: at, XDG_STATE_HOME: join(at, 'state') },
    });

  it('runs a command at its end, with the summary of each job', async () => {
    const here = place();
    const { at, hook, told } = here;
    const file = join(at, 'bulkhaul.prom');
    const { code, stderr } = await called(here, '--on-end', hook, '--on-failure', 'false', '--metrics-file', file);
    expect(code, stderr).toBe(0);
    const lines = jsonLines(told('input'));
    expect(lines.length).toBeGreaterThan(0);
    for (const line of lines) expect(line).toMatchObject({ type: 'summary', complete: true, exitCode: 0 });
    expect(told('env')).toContain(`BULKHAUL_OPERATION=${name}\n`);
    expect(told('env')).toContain('BULKHAUL_VERDICT=complete\n');
    expect(readFileSync(file, 'utf8')).toContain(`bulkhaul_exit_code{operation="${name}"} 0\n`);
    expect(stderr).not.toContain('--on-failure');
  });

  it('tells it what it was refused for', async () => {
    const here = place();
    const { at, hook, told } = here;
    const { code } = await called({ ...here, source: join(at, 'missing') }, `--on-failure=${hook}`);
    expect(code).toBeGreaterThan(0);
    expect(jsonLines(told('input')).at(-1)?.complete).not.toBe(true);
    expect(told('env')).toContain(`BULKHAUL_EXIT_CODE=${code}\n`);
    expect(told('env')).toMatch(/BULKHAUL_SENTENCE=.*(missing|source)/);
  });

  it('refuses a command that is not there, and does nothing at the end of a dry run', async () => {
    const here = place();
    const { hook, destination, at } = here;
    const { code, stderr } = await called(here, '--on-end', '/nothing/here');
    expect({ code, there: existsSync(destination) }).toEqual({ code: 2, there: false });
    expect(stderr).toContain(`${name}: error: argument --on-end: there is no program /nothing/here`);
    expect((await called(here, '--serve-control')).stderr).toContain('argument --serve-control: it goes with --serve');
    await called(here, '--dry-run', '--on-end', hook);
    expect(existsSync(join(at, 'input'))).toBe(false);
  });
});

/** What the parser of Prometheus' own library reads of a text: a value by its name and labels. */
const PARSE = `
import json, sys
from prometheus_client.parser import text_string_to_metric_families
samples = [s for f in text_string_to_metric_families(sys.stdin.read()) for s in f.samples]
print(json.dumps({s.name + "".join("," + k + "=" + v for k, v in sorted(s.labels.items())): s.value for s in samples}))
`;

async function parsed(text: string): Promise<Record<string, number> | undefined> {
  const { code, stdout, stderr } = await program('/usr/bin/python3', ['-c', PARSE], { input: text });
  if (stderr.includes('ModuleNotFoundError')) {
    console.log('skip: this needs python3-prometheus-client');
    return undefined;
  }
  expect(code, stderr).toBe(0);
  return JSON.parse(stdout);
}

describe('--metrics-file', () => {
  it('says how the run ended', async () => {
    const { at, source, destination } = place();
    const file = join(at, 'bulkhaul.prom');
    expect(await run(['copy', '--verify', '--metrics-file', file, source, destination])).toMatchObject({ code: 0 });
    expect(readdirSync(at).filter((name) => name.includes('prom'))).toEqual(['bulkhaul.prom']);
    const values = await parsed(readFileSync(file, 'utf8'));
    if (!values) return;
    expect(values).toMatchObject({
      'bulkhaul_running,operation=copy': 0,
      'bulkhaul_exit_code,operation=copy': 0,
      'bulkhaul_bytes_copied,operation=copy': 1,
      'bulkhaul_bytes_verified,operation=copy': 1,
      'bulkhaul_entries_found,operation=copy': 2,
      'bulkhaul_failures,operation=copy': 0,
      'bulkhaul_outcomes,operation=copy,outcome=copied': 1,
    });
  });

  it('says so too where the run failed early, and where entries failed', async () => {
    const { at, destination } = place();
    const file = join(at, 'bulkhaul.prom');
    await run(['copy', '--metrics-file', file, '--log-file', join(at, 'no/log'), join(at, 'source'), destination]);
    expect(readFileSync(file, 'utf8')).toContain('bulkhaul_exit_code{operation="copy"} 2\n');
    await run(['copy', '--metrics-file', file, join(at, 'source'), join(at, 'missing'), destination]);
    const text = readFileSync(file, 'utf8');
    expect(text).toContain('bulkhaul_exit_code{operation="copy"} 23\n');
    expect(text).toContain('bulkhaul_failures{operation="copy"} 1\n');
  });

  it('has what is known while the run is at work', async () => {
    const values = await parsed(
      metricsText({ operation: 'copy', now: 5, snapshot: snapshot({ foundFiles: 3, doneEntries: 2, copiedBytes: 7 }) }),
    );
    if (!values) return;
    expect(values).toMatchObject({
      'bulkhaul_running,operation=copy': 1,
      'bulkhaul_updated_timestamp_seconds,operation=copy': 5,
      'bulkhaul_entries_found,operation=copy': 3,
      'bulkhaul_entries_done,operation=copy': 2,
      'bulkhaul_bytes_copied,operation=copy': 7,
    });
    expect(Object.keys(values).some((name) => /exit_code|end_timestamp/.test(name))).toBe(false);
    expect(metricsText({ operation: 'copy', now: 5, report: reported(), exitCode: 0 })).not.toContain('entries_done');
  });

  it('is refused before anything begins where it can not be written', async () => {
    const { at, source, destination } = place();
    const { code, stderr } = await run(['copy', '--metrics-file', join(at, 'no/file.prom'), source, destination]);
    expect({ code, there: existsSync(destination) }).toEqual({ code: 2, there: false });
    expect(stderr).toContain('--metrics-file: ');
  });

  it('takes the place of no FIFO, and of no symlink', async () => {
    const { at, source, destination } = place();
    const [node, link] = [join(at, 'node'), join(at, 'link')];
    execFileSync('mkfifo', [node]);
    const refused = await run(['copy', '--metrics-file', node, source, destination]);
    expect([refused.code, refused.stderr]).toEqual([2, expect.stringContaining(`${node} is no regular file`)]);
    expect([lstatSync(node).isFIFO(), existsSync(destination)]).toEqual([true, false]);
    writeFileSync(join(at, 'real.prom'), 'old', { mode: 0o640 });
    symlinkSync('real.prom', link);
    expect(await run(['copy', '--metrics-file', link, source, destination])).toMatchObject({ code: 0 });
    expect([lstatSync(link).isSymbolicLink(), statSync(link).mode & 0o777]).toEqual([true, 0o640]);
    expect(readFileSync(join(at, 'real.prom'), 'utf8')).toContain('bulkhaul_exit_code');
    expect(readdirSync(at).sort()).toEqual(['copy', 'hook', 'link', 'node', 'real.prom', 'source']);
  });
});
