/**
 * Who may work on a part of a run, and whose work counts.
 *
 * Comes in: what is known of a part; goes out: the steps of an attempt at it, which somebody else performs on the run
 * directory, one at a time. Each step is atomic there, and between two of them anything may happen: this process stands still
 * for a day, or dies. Whatever happens, a part that somebody worked on to the end has one state, which never changes, and no
 * part is left that nobody may take.
 *
 * An attempt begins with its lease, a file of its number that only one can make; who makes one of a higher number has taken
 * the part over. Whoever was thought lost and is not finds that before it tells. If it looked just before the part was taken,
 * its state may still be the one that counts: there is only one, and both attempts copied the same source.
 *
 * Clocks are not compared: a worker counts its own beats, and who watches it counts the looks at which there were no more.
 */

/** What an attempt asks of the run directory, and for its work. */
export type Step<Outcome> =
  /** Make the lease. Answers whether it was made: otherwise it was there. */
  | { do: 'lease'; part: number; attempt: number }
  /** Answers whether there is such a lease. */
  | { do: 'leased'; part: number; attempt: number }
  /** Answers whether the part has its state. */
  | { do: 'settled'; part: number }
  /** Answers what came of the work; undefined: it did not come to its end. */
  | { do: 'work'; part: number; attempt: number }
  /** Give the part its state, whole and on disk. Answers whether it was the first to. */
  | { do: 'settle'; part: number; attempt: number; outcome: Outcome }
  /** Say that nobody works by this lease any more. */
  | { do: 'release'; part: number; attempt: number };

/**
 * How an attempt ended.
 * - `settled`: its work is the state of the part.
 * - `taken`: somebody else was faster with the lease.
 * - `late`: the part had its state already, or got one meanwhile.
 * - `lost`: somebody took it over, and it tells nothing.
 * - `released`: it did not come to its end, and said so.
 */
export type Ending = 'settled' | 'taken' | 'late' | 'lost' | 'released';

/** The steps of an attempt. */
export function* attempt<Outcome>(part: number, number: number): Generator<Step<Outcome>, Ending, unknown> {
  if (!(yield { do: 'lease', part, attempt: number })) return 'taken';
  // It may have got its state between the look and the lease.
  if (yield { do: 'settled', part }) return yield* released(part, number, 'late');
  const outcome = (yield { do: 'work', part, attempt: number }) as Outcome | undefined;
  if (outcome === undefined) return yield* released(part, number, 'released');
  if (yield { do: 'leased', part, attempt: number + 1 }) return 'lost';
  return (yield { do: 'settle', part, attempt: number, outcome }) ? 'settled' : 'late';
}

function* released(part: number, number: number, ending: Ending): Generator<Step<never>, Ending, unknown> {
  yield { do: 'release', part, attempt: number };
  return ending;
}

/** What the run directory says of a part. */
export interface Standing {
  /** The highest attempt with a lease; 0: none. */
  attempt: number;
  /** Nobody works by that lease any more. */
  released: boolean;
  /** It has its state. */
  settled: boolean;
}

/** The attempt that may begin now; undefined: none may. `lost`: whoever has the lease was not heard of for too long. */
export function nextAttempt({ attempt, released, settled }: Standing, lost = false): number | undefined {
  return settled || !(attempt === 0 || released || lost) ? undefined : attempt + 1;
}

/** Whether a part may be begun: a file that others are ranges of comes when all of these have their states. */
export function isReady(
  part: { ranges?: readonly [first: number, last: number] } | undefined,
  settled: (part: number) => boolean,
): boolean {
  const [first, last] = part?.ranges ?? [1, 0];
  for (let range = first; range <= last; range += 1) if (!settled(range)) return false;
  return true;
}

/** Watches workers by their beats. */
export class Watch {
  readonly #seen = new Map<string, { beats: number | undefined; looks: number }>();

  /** `looks`: so many in a row without a beat make a worker lost. Whoever looks waits between two for as long as a beat takes. */
  constructor(readonly looks: number) {}

  /** One look. Answers whether it is lost. */
  look(worker: string, beats: number | undefined): boolean {
    const before = this.#seen.get(worker);
    const looks = before !== undefined && before.beats === beats ? before.looks + 1 : 0;
    this.#seen.set(worker, { beats, looks });
    return looks >= this.looks;
  }
}

/** Parts that a worker takes from the shares of others before it looks again. */
const AT_A_LOOK = 8;

/**
 * Which of the free parts a worker tries, of which the largest come first: those of its own share, so that workers meet only
 * when they have done theirs, and then a few of what is left of the others'.
 */
export function choose<Part extends readonly [number, number]>(
  free: readonly Part[],
  index: number,
  workers: number,
): Part[] {
  const own = free.filter(([part]) => (part - 1) % workers === index % workers);
  return own.length > 0 ? own : free.slice(0, AT_A_LOOK);
}

/** Seconds of the first rest of a worker that finds nothing to do. */
const FIRST_REST = 0.25;
/** Open parts for each worker that looks often whether one becomes free, and the least number of such workers. */
const WATCHED = 4;
const WATCHERS = 2;

/**
 * Seconds that a worker rests which has found nothing to do, after a rest of `before`: each time twice as long, up to a beat.
 * Of those that are more than can be of use, up to as long as it takes to know that somebody is lost: a thousand that look
 * again and again at the last few parts would cost more than the parts.
 */
export function restAfter(
  before: number,
  { beat, looks, workers }: { beat: number; looks: number; workers: number },
  { index, open }: { index: number; open: number },
): number {
  const longest = index % workers < Math.max(WATCHERS, open / WATCHED) ? beat : beat * looks;
  return Math.min(before === 0 ? FIRST_REST : before * 2, longest);
}
