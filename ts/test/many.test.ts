/**
 * A million keys: on either side or both, remembered, removed, retained, compared, listed. Memory does not grow with them. For
 * `scripts/test --exhaustive`; a million in a source are in `sync.test.ts`.
 */
import { createWriteStream, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { describe, expect, it } from 'vitest';
import { s3 } from './rig/s3.js';
import { EXHAUSTIVE } from './rig/spread.js';
import { run, scratch } from './rig.js';

const MANY = 1_000_000;
/** KiB that a command may have resident at most. */
const MOST = 256 * 1024;
const NAME = (index: number) => String(index).padStart(7, '0');
const HOOK = "process.on('exit',()=>process._rawDebug('peak',process.resourceUsage().maxRSS))";

/** Runs a command within the memory that it may have; its report. */
async function within(env: NodeJS.ProcessEnv, ...args: string[]): Promise<Record<string, Record<string, number>>> {
  const hooked = { ...env, NODE_OPTIONS: `--import "data:text/javascript,${encodeURIComponent(HOOK)}"` };
  const { code, stdout, stderr } = await run([...args, '--json', '-q', '-j4'], { env: hooked });
  expect(code, stderr).toBe(args[0] === 'compare' ? 1 : 0);
  const peak = Number(/peak (\d+)/.exec(stderr)?.[1]);
  expect(peak).toBeLessThan(MOST);
  console.log(`${args.slice(0, 3).join(' ')}: ${Math.ceil(peak / 1024)} MiB`);
  return JSON.parse(stdout.trim().split('\n').at(-1) ?? '{}');
}

describe.runIf(EXHAUSTIVE)('a million keys', () => {
  it.each([['-n'], []])('are extra in a destination', { timeout: 600_000 }, async (...dry) => {
    const server = await s3({ many: MANY });
    const source = join(scratch(), 'source');
    mkdirSync(source);
    writeFileSync(join(source, 'only'), 'x');
    const { outcomes } = await within(server.env, 'sync', ...dry, '--delete', source, 's3://b/many');
    expect([outcomes?.copied, outcomes?.removed]).toEqual([1, MANY]);
    expect(server.removed).toBe(dry.length === 0 ? MANY : 0);
  });

  it('are the same on both sides', { timeout: 600_000 }, async () => {
    const [there, here] = [await s3({ many: MANY }), await s3({ many: MANY })];
    const places = ['--source-endpoint-url', there.endpoint, 's3://b/many', 's3://b/many'];
    const { outcomes } = await within(here.env, 'sync', '--compare', 'size', '--delete', ...places);
    expect([outcomes?.skipped, outcomes?.copied, outcomes?.removed]).toEqual([MANY, 0, 0]);
  });

  it('are remembered', { timeout: 600_000 }, async () => {
    const [there, here] = [await s3({ many: MANY }), await s3({ many: MANY })];
    const state = join(scratch(), 'state');
    const encoded = (server: { endpoint: string }) =>
      `${server.endpoint}/b/many/`.replace(/[^0-9A-Za-z]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`);
    const lines = function* () {
      yield `bulkhaul sync state 1\t${encoded(there)}\t${encoded(here)}\n`;
      // As runs write them: by no order.
      for (let index = 0; index < MANY; index += 1) yield `${NAME((index * 7919) % MANY)}\t0\tex\t0\tex\n`;
    };
    await pipeline(Readable.from(lines()), createWriteStream(state));
    const bytes = statSync(state).size;
    const places = ['--source-endpoint-url', there.endpoint, 's3://b/many', 's3://b/many'];
    const { outcomes } = await within(here.env, 'sync', '--state', state, '--delete', ...places);
    expect([outcomes?.skipped, outcomes?.copied, statSync(state).size]).toEqual([MANY, 0, bytes]);
    expect(here.asked.filter((ask) => !ask.startsWith('GET /b/?'))).toEqual([]);
  });

  it.each([['-n'], []])('are in partitions, of which half stay', { timeout: 600_000 }, async (...dry) => {
    const server = await s3({ many: MANY, named: (index) => `d=${NAME(index).replace(/(...)$/, '/$1')}` });
    const rule = ['--key', 'd', '--keep', '500'];
    const { outcomes } = await within(server.env, 'retain', ...dry, ...rule, 's3://b/many');
    expect([outcomes?.removed, outcomes?.skipped]).toEqual([MANY / 2, MANY / 2]);
    expect(server.removed).toBe(dry.length === 0 ? MANY / 2 : 0);
  });

  it('are in half as many partitions', { timeout: 600_000 }, async () => {
    const server = await s3({ many: MANY, named: (index) => `d=${NAME(Math.floor(index / 2))}/${index % 2}` });
    const { outcomes } = await within(server.env, 'retain', '-n', '--key', 'd', '--keep', '10', 's3://b/many');
    expect([outcomes?.removed, outcomes?.skipped]).toEqual([MANY - 20, 20]);
  });

  it('are compared', { timeout: 600_000 }, async () => {
    const [there, here] = [await s3({ many: MANY }), await s3({ many: MANY, named: (index) => NAME(index + 1) })];
    const list = join(scratch(), 'list');
    const places = ['--source-endpoint-url', there.endpoint, 's3://b/many', 's3://b/many'];
    const { differences } = await within(here.env, 'compare', '-o', list, ...places);
    expect(differences).toMatchObject({ left: 1, right: 1, changed: 0 });
  });

  it('are listed', { timeout: 600_000 }, async () => {
    const [server, list] = [await s3({ many: MANY }), join(scratch(), 'list')];
    await within(server.env, 'list', '-o', list, 's3://b/many');
    expect(statSync(list).size).toBe(MANY * (NAME(0).length + 1));
  });
});
