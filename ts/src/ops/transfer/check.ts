/**
 * Whether hosts can take part, before anything is begun.
 *
 * Comes in: hosts, the tool, the source and the destination; goes out: what keeps each of them from it, if anything does. A
 * host where a file system is not mounted would lose its parts, or fill its own disk: the source has to show an entry that
 * it has here, and the destination a file that the first host has made there, which goes again.
 */
import { ask, LOST } from './ssh.js';

/** Hosts that are asked at once. */
const AT_ONCE = 16;

const LOOK = [
  'command -v "$1" >/dev/null || exit 10',
  '[ -d "$2" ] || exit 11',
  '[ -z "$3" ] || [ -e "$2/$3" ] || [ -L "$2/$3" ] || exit 12',
  '[ -z "$4" ] || [ -r "$4" ] || exit 13',
].join('; ');

/** What hosts are asked about. */
export interface Question {
  program: string;
  source: string;
  /** An entry that the source has. Absent: it has none. */
  entry?: string | undefined;
  /** A file that has to be readable. Absent: none. */
  config?: string | undefined;
}

/** Why a host can't be used, by the name of the host; those that can be have none. */
export type Faults = Map<string, string>;

/** Hosts that the tool is to run on. */
export async function checkSources(hosts: readonly string[], question: Question): Promise<Faults> {
  const { program, source, entry = '', config = '' } = question;
  const words = ['sh', '-c', LOOK, 'sh', program, source, entry, config] as const;
  const causes: Record<number, string> = {
    10: `there is no ${program}`,
    11: `${source} is no directory there`,
    12: `${source} has no ${entry} there: it is another directory, or not mounted`,
    13: `${config} can't be read there`,
  };
  return each(hosts, async (host) => {
    const { code, stderr } = await ask(host, words);
    return code === 0 ? undefined : causeOf(code, stderr, causes);
  });
}

const HAS = 'command -v "$1" >/dev/null || exit 10';
const MAKE = [HAS, 'mkdir -p -- "$2" || exit 11', '( set -C; : >"$2/$3" ) || exit 12'].join('; ');
const SEE = [HAS, '[ -e "$2/$3" ] || exit 13'].join('; ');

/** Hosts that see the destination, which is made where it is not there; with `dryRun` only the program is looked for. */
export async function checkDestinations(
  hosts: readonly string[],
  { program, destination, witness, dryRun }: { program: string; destination: string; witness: string; dryRun: boolean },
): Promise<Faults> {
  const look = async (host: string, script: string, other = '') => {
    const { code, stderr } = await ask(host, ['sh', '-c', script, 'sh', program, destination, witness]);
    const causes = {
      10: `there is no ${program}`,
      11: `${destination} can't be made there`,
      12: `${destination} can't be written there`,
      13: `${destination} is not the same directory there as on ${other}: it may not be mounted`,
    };
    return code === 0 ? undefined : causeOf(code, stderr, causes);
  };
  if (dryRun) return each(hosts, (host) => look(host, HAS));
  const faults: Faults = new Map();
  const others = [...new Set(hosts)];
  for (let first = others.shift(); first !== undefined; first = others.shift()) {
    const maker = first;
    const fault = await look(maker, MAKE);
    if (fault !== undefined) {
      faults.set(maker, fault);
      continue;
    }
    try {
      for (const [host, why] of await each(others, (host) => look(host, SEE, maker))) faults.set(host, why);
    } finally {
      await ask(maker, ['rm', '-f', '--', `${destination.replace(/\/*$/, '/')}${witness}`]);
    }
    break;
  }
  return faults;
}

function causeOf(code: number | undefined, stderr: string, causes: Record<number, string>): string {
  const said = stderr.trim().split('\n').at(-1) ?? '';
  if (code === LOST) return `it can't be reached${said === '' ? '' : `: ${said}`}`;
  const known = code === undefined ? undefined : causes[code];
  return known ?? (said || `the check ended with ${code}`);
}

async function each(hosts: readonly string[], look: (host: string) => Promise<string | undefined>): Promise<Faults> {
  const faults: Faults = new Map();
  const names = [...new Set(hosts)];
  const work = async () => {
    for (let name = names.shift(); name !== undefined; name = names.shift()) {
      const fault = await look(name);
      if (fault !== undefined) faults.set(name, fault);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return new Map([...faults].sort(([one], [other]) => hosts.indexOf(one) - hosts.indexOf(other)));
}
