/**
 * A command that is killed at one of its requests. What came to its servers until then is done, that request included, and of
 * what was on its way nothing: so each number is one state that a killed run leaves.
 */
import type { ChildProcess } from 'node:child_process';
import { type Run, run } from '../rig.js';
import type { Ask, Fault, S3 } from './s3.js';

/**
 * Runs a command, and kills it at request number `at` of all that these servers get; answers whether it ended before. `plan`:
 * what goes wrong beside.
 */
export async function killedAt(
  at: number,
  servers: readonly S3[],
  args: readonly string[],
  plan: (ask: Ask) => Fault | undefined = () => undefined,
): Promise<Run & { ended: boolean }> {
  let [child, left] = [undefined as ChildProcess | undefined, at];
  for (const server of servers) {
    server.plan = (ask) => {
      left -= 1;
      if (left < 0) return 'reset';
      if (left === 0) {
        child?.kill('SIGKILL');
        for (const each of servers) each.cut();
      }
      return plan(ask);
    };
  }
  const onStart = (started: ChildProcess) => {
    child = started;
  };
  const ran = await run(args, { env: servers[0]?.env, onStart });
  for (const server of servers) server.plan = () => undefined;
  return { ...ran, ended: left > 0 };
}
