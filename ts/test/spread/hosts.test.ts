/** Workers on other hosts, of which some die, are cut off, or see nothing. */
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { RunDirectory } from '../../src/ops/spread/directory.js';
import { hostsOf } from '../rig/hosts.js';
import { bigTree, EXHAUSTIVE, entriesOf, planOf, same, summaryOf, tree } from '../rig/spread.js';
import { type Run, run, scratch } from '../rig.js';

// Each of them starts many processes, which take their time on a small shared machine.
vi.setConfig({ testTimeout: 120_000 });

/** The worker on a host that has a part; undefined: none has. */
function workerAt(room: RunDirectory, host: string | undefined): string | undefined {
  const names = existsSync(join(room.path, 'workers')) ? [...room.workers().keys()] : [];
  return names.find((name) => {
    const beat = room.beatOf(name);
    return beat?.host === host && (beat?.part ?? 0) > 0;
  });
}

describe('copy --hosts', () => {
  it('has workers on hosts that see the same, leaves out the others, and says why', async () => {
    const [source, destination, directory] = [tree(), join(scratch(), 'copy'), join(scratch(), 'run')];
    mkdirSync(destination);
    const there = await hostsOf(3, (number) => (number === 3 ? `mount -t tmpfs none ${destination}` : 'true'));
    if (!there) return;
    const { hosts, nowhere, env, program } = there;
    const [one, two, three] = hosts.map(({ name }) => name);
    const file = join(scratch(), 'hosts');
    writeFileSync(file, `# all of them\n${one}\n\n${two}  # twice\n${nowhere}\n${three}\n`);
    const words = ['--hosts', file, '--host-program', program, '--run-dir', directory, '--parts', '6'];
    const done = await run(['copy', '--json', ...words, `${source}/`, destination], { env });
    const { complete, notes } = summaryOf(done);
    expect([done.code, complete]).toEqual([0, true]);
    expect(notes.map(({ message }: { message: string }) => message).sort()).toEqual([
      expect.stringMatching(`host ${three} is left out: ${destination} is not the same directory there`),
      expect.stringMatching(`host ${nowhere} is left out: it can't be reached`),
    ]);
    const room = new RunDirectory(directory);
    const at = new Set(room.settled().map((part) => room.state(part).host));
    expect([one, two]).toEqual(expect.arrayContaining([...at]));
    same(source, destination);
  });

  it('goes on where a host dies: nothing is lost, nothing counts twice', async () => {
    const [source, destination, directory] = [tree(), join(scratch(), 'copy'), join(scratch(), 'run')];
    const there = await hostsOf(2);
    if (!there) return;
    const { hosts, env, program } = there;
    const words = [
      '--hosts',
      hosts.map(({ name }) => name).join(','),
      '--host-program',
      program,
      '--run-dir',
      directory,
    ];
    const slow = ['--parts', '6', '--patience', '2', '--iops-limit', '1'];
    const running = run(['copy', '--json', ...words, ...slow, `${source}/`, destination], { env });
    const room = new RunDirectory(directory);
    const atWork = () =>
      existsSync(join(directory, 'workers')) &&
      [...room.workers().keys()].some((name) => {
        const beat = room.beatOf(name);
        return beat?.host === hosts[0]?.name && (beat?.part ?? 0) > 0;
      });
    while (!atWork()) await sleep(20);
    hosts[0]?.kill();
    room.setPace({});
    const done = await running;
    const { complete, accounted, outcomes, notes } = summaryOf(done);
    expect([done.code, complete, accounted]).toEqual([0, true, true]);
    const said = notes.map(({ message }: { message: string }) => message);
    // What it was at may lie there in the end, under a name of its own.
    const left = 'an unfinished entry of another host is left alone';
    expect(said.filter((message: string) => message !== left)).toEqual([
      expect.stringContaining(`on ${hosts[0]?.name} is lost`),
    ]);
    const all = Object.values(outcomes as Record<string, number>).reduce((sum, each) => sum + each, 0);
    expect(all).toBe(entriesOf(source));
    same(source, destination);
  });

  it.runIf(EXHAUSTIVE)('goes on where a host is cut off, and harms nothing when it is back', async () => {
    const [source, destination, directory] = [tree(), join(scratch(), 'copy'), join(scratch(), 'run')];
    const there = await hostsOf(2);
    if (!there) return;
    const { hosts, env, program } = there;
    const names = hosts.map(({ name }) => name).join(',');
    const words = ['--hosts', names, '--host-program', program, '--run-dir', directory];
    const slow = ['--parts', '6', '--patience', '2', '--iops-limit', '2'];
    const running = run(['copy', '--json', ...words, ...slow, `${source}/`, destination], { env });
    const room = new RunDirectory(directory);
    let at: { worker: string; part: number } | undefined;
    const atWork = () => {
      const all = existsSync(join(directory, 'workers')) ? [...room.workers().keys()] : [];
      for (const worker of all) {
        const beat = room.beatOf(worker);
        if (beat?.host === hosts[0]?.name && beat?.part) return { worker, part: beat.part };
      }
      return undefined;
    };
    for (at = atWork(); at === undefined; at = atWork()) await sleep(20);
    hosts[0]?.cut();
    room.setPace({});
    // What it has now, which may be another part than a moment ago, goes to the other.
    const mine = () => {
      for (const [part, { attempt, settled }] of room.standings())
        if (!settled && room.holder(part, attempt) === at?.worker) return [part, attempt] as const;
      return undefined;
    };
    const had = mine();
    const over = running.then(() => true);
    while (had && !existsSync(join(directory, 'leases', `${had[0]}.${had[1] + 1}`)))
      if (await Promise.race([sleep(50), over])) break;
    hosts[0]?.mend();
    const done = await running;
    const { complete, accounted, outcomes } = summaryOf(done);
    expect([done.code, complete, accounted]).toEqual([0, true, true]);
    const all = Object.values(outcomes as Record<string, number>).reduce((sum, each) => sum + each, 0);
    expect(all).toBe(entriesOf(source));
    same(source, destination);
  });

  it.runIf(EXHAUSTIVE)('leaves to others what a host has no room for', async () => {
    const [source, destination, directory] = [tree(), join(scratch(), 'copy'), join(scratch(), 'run')];
    mkdirSync(join(destination, 'b/c'), { recursive: true });
    // There is no room for any file there.
    const full = `mount -t tmpfs -o size=4k,nr_inodes=1 none ${destination}/b/c`;
    const there = await hostsOf(2, (number) => (number === 1 ? full : 'true'));
    if (!there) return;
    const { hosts, env, program } = there;
    const [one, two] = hosts.map(({ name }) => name);
    const words = ['--hosts', `${one},${two}`, '--host-program', program, '--run-dir', directory, '--parts', '12'];
    const done = await run(['copy', '--json', ...words, '--patience', '2', `${source}/`, destination], { env });
    const { complete, accounted } = summaryOf(done);
    expect([done.code, complete, accounted]).toEqual([0, true, true]);
    const room = new RunDirectory(directory);
    const lists = room
      .settled()
      .map((part) => [room.state(part).host, readFileSync(room.list(part), 'latin1')] as const);
    const of = lists
      .filter(([, list]) => list.split('\0').some((name) => name.startsWith('b/c/')))
      .map(([host]) => host);
    expect(new Set(of)).toEqual(new Set([two]));
    same(source, destination);
  });

  it('leaves to others what a host cannot compress', async () => {
    const [source, directory] = [join(scratch(), 'source'), join(scratch(), 'run')];
    mkdirSync(join(source, 'd'), { recursive: true });
    for (let file = 0; file < 6; file += 1) writeFileSync(join(source, 'd', `f${file}`), `${file}`.repeat(5000));
    const still = `mount --bind ${source}/d ${source}/d && mount -o remount,bind,ro ${source}/d`;
    const there = await hostsOf(2, (number) => (number === 1 ? still : 'true'));
    if (!there) return;
    const { hosts, env, program } = there;
    const [one, two] = hosts.map(({ name }) => name);
    const words = ['--hosts', `${one},${two}`, '--host-program', program, '--run-dir', directory, '--parts', '6'];
    const done = await run(['compress', '--json', ...words, source], { env });
    expect([done.code, summaryOf(done).outcomes.copied]).toEqual([0, 6]);
    const room = new RunDirectory(directory);
    expect(new Set(room.settled().map((part) => room.state(part).host))).toEqual(new Set([two]));
    expect(readdirSync(join(source, 'd')).sort()).toEqual([0, 1, 2, 3, 4, 5].map((file) => `f${file}.gz`));
  });

  it('has no worker where nothing can be written', async () => {
    const [source, destination] = [tree(), scratch()];
    const still = `mount --bind ${destination} ${destination} && mount -o remount,bind,ro ${destination}`;
    const there = await hostsOf(2, (number) => (number === 1 ? still : 'true'));
    if (!there) return;
    const { hosts, env, program } = there;
    const names = hosts.map(({ name }) => name);
    const words = ['--hosts', names.join(','), '--host-program', program, '--state-dir', scratch()];
    const done = await run(['copy', '--json', ...words, `${source}/`, destination], { env });
    const { complete, notes } = summaryOf(done);
    expect([done.code, complete]).toEqual([0, true]);
    expect(notes.map(({ message }: { message: string }) => message)).toEqual([
      `host ${names[0]} is left out: nothing can be written to ${destination} there: open: read-only file system`,
    ]);
    same(source, destination);
  });

  it('does not begin where no host can take part', async () => {
    const [source, state] = [tree(), scratch()];
    const words = ['copy', '--hosts', 'user@host.invalid', '--state-dir', state, `${source}/`, join(scratch(), 'copy')];
    const { code, stderr } = await run(words);
    expect([code, stderr]).toEqual([
      2,
      expect.stringContaining("no host can have a worker (user@host.invalid: it can't be reached"),
    ]);
    expect((await run(['copy', '--hosts=-oProxyCommand=id', 'a', 'b'])).stderr).toContain('not the name of a host');
    expect((await run(['copy', '--host-program', 'x', 'a', 'b'])).stderr).toContain(
      '--host-program goes with --workers',
    );
  });
});

describe('a run directory that hosts do not see', () => {
  /** Hosts of which the first sees no run directory; `blind`: so many of the first ones. */
  const begun = async (source: string, many: number, blind: number, ...more: string[]) => {
    const [destination, directory] = [join(scratch(), 'copy'), join(scratch(), 'run')];
    mkdirSync(directory);
    const there = await hostsOf(many, (number) => (number <= blind ? `mount -t tmpfs none ${directory}` : 'true'));
    if (!there) return undefined;
    const { hosts, env, program } = there;
    const words = ['--hosts', hosts.map(({ name }) => name).join(','), '--host-program', program];
    const running = run(['copy', '--json', ...words, '--run-dir', directory, ...more, `${source}/`, destination], {
      env,
    });
    return { hosts, env, program, words, source, destination, directory, running, room: new RunDirectory(directory) };
  };
  const judged = (done: Run, source: string, destination: string) => {
    const { complete, accounted, outcomes, notes } = summaryOf(done);
    const all = Object.values(outcomes as Record<string, number>).reduce((sum, each) => sum + each, 0);
    expect([done.code, complete, accounted, all]).toEqual([0, true, true, entriesOf(source)]);
    same(source, destination);
    return notes.map(({ message }: { message: string }) => message) as string[];
  };
  const carriedTo = (host = '') => `host ${host} does not see the run directory: it is carried by the connection`;

  it('is carried by their connections: parts and ranges are copied as where it is seen', async () => {
    const going = await begun(bigTree(), 2, 2, '--parts', '6');
    if (!going) return;
    const { hosts, source, destination, directory, room, running } = going;
    const said = judged(await running, source, destination);
    expect(said.sort()).toEqual(hosts.map(({ name }) => carriedTo(name)).sort());
    const plan = planOf(directory);
    expect(plan.parts.some(({ range }) => range !== undefined)).toBe(true);
    expect(room.settled().length).toBe(plan.parts.length);
    // Nobody else has worked on it, and nothing but the run is in its directory.
    const at = new Set(room.settled().map((part) => room.state(part).host));
    expect(hosts.map(({ name }) => name)).toEqual(expect.arrayContaining([...at]));
  });

  it('holds what was read back, where anything was', async () => {
    const source = scratch();
    for (const name of ['a', 'b']) writeFileSync(join(source, name), name);
    for (const name of ['a', 'b', '.']) utimesSync(join(source, name), 1e9, 1e9);
    for (const name of ['empty', 'none']) writeFileSync(join(source, name), '');
    const going = await begun(source, 1, 1, '--parts', '4', '--verify', '--delete');
    if (!going) return;
    const done = await going.running;
    judged(done, source, going.destination);
    // What its workers have read back nobody has read back again.
    expect([summaryOf(done).verifiedFiles, readdirSync(join(going.directory, 'found')).length]).toEqual([4, 2]);
  });

  it('holds what a manifest has read, and what a compression has made', async () => {
    const [source, directory] = [tree(), join(scratch(), 'run')];
    mkdirSync(directory);
    const there = await hostsOf(1, () => `mount -t tmpfs none ${directory}`);
    if (!there) return;
    const { hosts, env, program } = there;
    const [host] = hosts.map(({ name }) => name);
    const words = ['--hosts', `${host},${host}`, '--host-program', program, '--run-dir', directory, '--json'];
    const [one, two] = [join(scratch(), 'one'), join(scratch(), 'two')];
    const alone = await run(['manifest', '-o', one, `${source}/`]);
    const listed = await run(['manifest', ...words, '-o', two, `${source}/`], { env });
    expect([listed.code, readFileSync(two, 'latin1')]).toEqual([alone.code, readFileSync(one, 'latin1')]);
    // What the workers have read nobody has read again.
    const logs = readdirSync(join(directory, 'found'));
    expect(logs.length).toBeGreaterThan(0);
    for (const name of logs) expect(statSync(join(directory, 'found', name)).size).toBeGreaterThan(0);
    const files = Number(execFileSync('sh', ['-c', 'find "$1" -type f -links 1 -printf x | wc -c', 'sh', source]));
    const packed = await run(['compress', ...words, '--force', source], { env });
    expect([packed.code, summaryOf(packed).outcomes.copied]).toEqual([0, files]);
  });

  it('goes on where a host dies, beside one that sees it', async () => {
    const going = await begun(tree(), 2, 1, '--parts', '6', '--patience', '4', '--iops-limit', '1');
    if (!going) return;
    const { hosts, source, destination, room, running } = going;
    const [first] = hosts;
    while (!workerAt(room, first?.name)) await sleep(20);
    first?.kill();
    room.setPace({});
    const said = judged(await running, source, destination);
    expect(said).toEqual(
      expect.arrayContaining([carriedTo(first?.name), expect.stringContaining(`on ${first?.name} is lost`)]),
    );
  });

  it('is lost to who is cut off, who ends without being told', async () => {
    const going = await begun(tree(), 2, 1, '--parts', '6', '--patience', '4', '--iops-limit', '1');
    if (!going) return;
    const { hosts, source, destination, room, running } = going;
    const [first] = hosts;
    while (!workerAt(room, first?.name)) await sleep(20);
    first?.unplug();
    // With what it may do a second it would be at its part for long.
    while ((first?.workers() ?? 0) > 0) await sleep(50);
    room.setPace({});
    judged(await running, source, destination);
  });
});
