/** Without -d: what is asked on a terminal, and what happens off one. */
import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { answered, ask, question, Stopped, withoutTerminal } from '../../../src/cli/dropin/hpcp/ask.js';
import { program, scratch } from '../../rig.js';

describe('an answer', () => {
  it.each<[string[], string, string[], string[]]>([
    [['a', 'b', 'c'], '', ['a', 'b'], ['c']],
    [['a', 'b', 'c'], 'l', ['a', 'b'], ['c']],
    [['a', 'b', 'c'], 'L ', ['a', 'b'], ['c']],
    [['a', 'b'], 'y', ['a', 'b'], ['./']],
    [['a', 'b'], '/out', ['a', 'b'], ['/out']],
    [['a'], '', ['a'], ['./']],
    [['a'], 'y', ['a'], ['./']],
    [['a'], 'l', ['a'], ['l']],
    [['a'], 'out/', ['a'], ['out/']],
  ])('%j, %j', (positionals, answer, sources, destinations) => {
    expect(answered(positionals, answer)).toEqual({ sources, destinations });
  });

  it.each(['n', 'N'])('%s stops', (answer) => {
    expect(() => answered(['a', 'b'], answer)).toThrow(Stopped);
  });

  it('is asked for with the names escaped', () => {
    expect(question(['a', 'b\x1b[2J'])).toContain('copy into b\\x1b[2J');
    expect(question(['a'])).not.toContain('last argument');
  });
});

describe('asking', () => {
  const begin = (seconds?: number) => {
    const input = new PassThrough();
    return { input, answer: ask('where? ', input, new PassThrough(), seconds) };
  };

  it('takes a line', async () => {
    const { input, answer } = begin();
    input.write('out\n');
    await expect(answer).resolves.toBe('out');
  });

  it('takes the default when nobody types', async () => {
    await expect(begin(0.01).answer).resolves.toBeUndefined();
  });

  it('waits for somebody who has begun to type', async () => {
    const { input, answer } = begin(0.05);
    input.write('ou');
    setTimeout(() => input.write('t\n'), 150);
    await expect(answer).resolves.toBe('out');
  });

  it('stops at the end of input, and for ^C with the code of an interrupt', async () => {
    const ended = begin();
    ended.input.end();
    await expect(ended.answer).rejects.toMatchObject({ interrupted: false });
    const broken = begin();
    broken.input.write('\x03');
    await expect(broken.answer).rejects.toMatchObject({ interrupted: true });
  });
});

describe('off a terminal', () => {
  it.each<[string[], boolean, [string[], string[]] | RegExp]>([
    [['a', 'b', 'c'], false, [['a', 'b'], ['c']]],
    [['a', 'b'], true, /input waits on standard input/],
    [['a'], false, /no destination is given/],
    [['a'], true, /no destination is given/],
  ])('%j, input waits: %j', (positionals, waits, expected) => {
    const decide = () => withoutTerminal(positionals, () => waits);
    if (expected instanceof RegExp) expect(decide).toThrow(expected);
    else expect(decide()).toEqual({ sources: expected[0], destinations: expected[1] });
  });

  const PROBE = `
    import { inputWaits } from ${JSON.stringify(new URL('../../../dist/cli/dropin/hpcp/ask.js', import.meta.url).href)};
    console.log(inputWaits());
  `;
  const probe = `"${process.execPath}" --input-type=module -e '${PROBE}'`;

  it.each<[string, string]>([
    ['a pipe with bytes', `echo y | { sleep 0.1; ${probe}; }`],
    ['a file', `${probe} < file`],
    ['a file half read', `{ read -r line; ${probe}; } < file`],
  ])('%s waits', async (_, command) => {
    const cwd = scratch();
    writeFileSync(join(cwd, 'file'), 'one\ntwo\n');
    expect(await program('bash', ['-c', command], { cwd })).toMatchObject({ stdout: 'true\n', stderr: '' });
  });

  it.each<[string, string]>([
    ['a closed empty pipe', `true | { sleep 0.1; ${probe}; }`],
    ['an open empty pipe', `sleep 1 | ${probe}`],
    ['a device', `${probe} < /dev/null`],
    ['an endless device', `${probe} < /dev/zero`],
    ['an empty file', `: > empty; ${probe} < empty`],
    ['a file at its end', `{ cat > copy; ${probe}; } < file`],
    ['a closed stdin', `${probe} <&-`],
  ])('%s does not wait', async (_, command) => {
    const cwd = scratch();
    writeFileSync(join(cwd, 'file'), 'one\ntwo\n');
    expect(await program('bash', ['-c', command], { cwd })).toMatchObject({ stdout: 'false\n', stderr: '' });
  });

  it('takes nothing out of a pipe', async () => {
    const { stdout } = await program('bash', ['-c', `printf 'one\\ntwo\\n' | { sleep 0.1; ${probe}; cat; }`]);
    expect(stdout).toBe('true\none\ntwo\n');
  });

  it.each<[string, string]>([
    ['y\n', 'true\n'],
    ['', 'false\n'],
  ])('a socket with %j: %s', async (input, printed) => {
    // Node hands its children sockets.
    const child = spawn(process.execPath, ['--input-type=module', '-e', PROBE], { stdio: ['pipe', 'pipe', 'inherit'] });
    child.stdin.end(input);
    let text = '';
    for await (const chunk of child.stdout) text += chunk;
    expect(text).toBe(printed);
  });
});
