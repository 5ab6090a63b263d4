/**
 * Many calls at once, and calls that are made again: of any function of the caller's.
 *
 * Comes in: a function and what it is called with; goes out: what became of each call, in order. One that fails ends nothing.
 */
import { BulkhaulError, unfit } from './error.js';

/** What became of one call. */
export type Outcome<Item, Value> =
  | {
      /** It returned. */
      readonly ok: true;
      /** What it was called with. */
      readonly item: Item;
      /** What it returned. */
      readonly value: Value;
    }
  | {
      /** It threw, or was not made. */
      readonly ok: false;
      /** What it was called with. */
      readonly item: Item;
      /** What it threw. */
      readonly error: unknown;
    };

/** Options of `runParallel`. */
export interface ParallelOptions {
  /** Calls at once. Default 8. */
  workers?: number;
  /** Is told how many calls have ended, of how many. What it throws first is what is rejected with when all have. Default: nobody is. */
  onProgress?: (done: number, all: number) => void;
  /** Nothing is begun any more when it is aborted; what was not begun has its reason as its error. Default: all is done. */
  signal?: AbortSignal;
}

/**
 * Calls a function with each item, several at once. Resolves with an outcome for each, in the order of the items; it never
 * rejects for one that failed. All calls are made, whatever happens.
 *
 * @example
 * ```js
 * import { runParallel } from 'bulkhaul';
 *
 * const outcomes = await runParallel(async (name) => name.toUpperCase(), ['a', 'b'], { workers: 4 });
 * for (const { ok, item } of outcomes) console.log(item, ok);
 * ```
 */
export async function runParallel<Item, Value>(
  call: (item: Item, index: number) => Value | Promise<Value>,
  data: Iterable<Item>,
  { workers = 8, onProgress, signal }: ParallelOptions = {},
): Promise<Outcome<Item, Value>[]> {
  if (typeof call !== 'function') throw unfit('call', 'a function', call);
  if (!Number.isSafeInteger(workers) || workers < 1) throw unfit('workers', 'a whole number from 1', workers);
  const items = [...data];
  const outcomes: Outcome<Item, Value>[] = new Array(items.length);
  let [next, done] = [0, 0];
  const thrown: unknown[] = [];
  const work = async () => {
    while (next < items.length) {
      const index = next;
      next += 1;
      const item = items[index] as Item;
      try {
        signal?.throwIfAborted();
        outcomes[index] = { ok: true, item, value: await call(item, index) };
      } catch (error) {
        outcomes[index] = { ok: false, item, error };
      }
      done += 1;
      try {
        onProgress?.(done, items.length);
      } catch (error) {
        thrown.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(workers, items.length) }, work));
  if (thrown.length > 0) throw thrown[0];
  return outcomes;
}

/** Options of `withRetry`. */
export interface RetryOptions {
  /** Calls after the first. Default 3. */
  retries?: number;
  /** Each pause is so many times as long as the one before. Default 2. */
  backoff?: number;
  /** Seconds of the first pause. Default 1. */
  first?: number;
  /** How much of each pause, from none (0) to as many seconds again (1), chance adds at most. Default 0.1. */
  jitter?: number;
  /** Whether another call may help. Default: where a store was busy or did not answer, or something changed meanwhile; not for what is missing, wrong or forbidden, nor for what was refused; and for all errors of others. */
  isTransient?: (error: unknown) => boolean;
  /** Is told of each failure that is followed by another call, with the seconds until then. Default: nobody is. */
  onRetry?: (error: unknown, attempt: number, pause: number) => void;
  /** No call is made any more when it is aborted. Default: all are. */
  signal?: AbortSignal;
}

/** What became of a call that was made again where it failed. */
export type Tried<Value> =
  | {
      /** The last call returned. */
      readonly ok: true;
      /** What it returned. */
      readonly value: Value;
      /** The number of calls. */
      readonly attempts: number;
    }
  | {
      /** The last call threw. */
      readonly ok: false;
      /** What it threw. */
      readonly error: unknown;
      /** The number of calls. */
      readonly attempts: number;
    };

/**
 * Calls a function, and again where it fails and that may help, with growing pauses between. Resolves with what became of it;
 * it does not reject. (Requests of a sync are tried again by themselves.)
 *
 * @example
 * ```js
 * import { copy, withRetry } from 'bulkhaul';
 *
 * const { ok, attempts } = await withRetry(() => copy({ sources: 'photos', destination: '/mnt/archive' }).orThrow());
 * console.log(ok, attempts);
 * ```
 */
export async function withRetry<Value>(
  call: (attempt: number) => Value | Promise<Value>,
  options: RetryOptions = {},
): Promise<Tried<Value>> {
  const { retries = 3, backoff = 2, first = 1, jitter = 0.1, isTransient = mayHelp, onRetry, signal } = options;
  if (typeof call !== 'function') throw unfit('call', 'a function', call);
  if (!Number.isSafeInteger(retries) || retries < 0) throw unfit('retries', 'a whole number from 0', retries);
  for (const [key, value] of Object.entries({ backoff, first, jitter })) {
    if (!(value >= 0)) throw unfit(key, 'a number from 0', value);
  }
  for (let attempt = 1; ; attempt += 1) {
    try {
      signal?.throwIfAborted();
      return { ok: true, value: await call(attempt), attempts: attempt };
    } catch (error) {
      if (attempt > retries || signal?.aborted || !isTransient(error)) return { ok: false, error, attempts: attempt };
      const pause = first * backoff ** (attempt - 1) * (1 + jitter * Math.random());
      onRetry?.(error, attempt, pause);
      await rest(pause, signal);
    }
  }
}

/** Errors of whoever wrote the call. */
const LASTING = [TypeError, RangeError, ReferenceError, SyntaxError];
/** Kinds of failures that another time may be none: what was overloaded or broke off, changed meanwhile, or came otherwise. */
const PASSING: readonly string[] = ['unavailable', 'vanished', 'changed', 'mismatch', 'damaged', 'stalled'];

function mayHelp(error: unknown): boolean {
  if (!(error instanceof BulkhaulError)) return !LASTING.some((kind) => error instanceof kind);
  const { report } = error as { report?: { failureKinds: Readonly<Record<string, number>> } };
  const { kind } = (error.cause ?? {}) as { kind?: string };
  switch (error.code) {
    case 'NO_START':
      return true;
    case 'STORE':
      return kind === undefined || PASSING.includes(kind);
    case 'INCOMPLETE':
      return report !== undefined && PASSING.some((kind) => (report.failureKinds[kind] ?? 0) > 0);
    case 'NO_SOURCE':
    case 'NO_DESTINATION':
      return kind !== undefined && PASSING.includes(kind);
    default:
      return false;
  }
}

/** Waits, or until it is aborted. */
function rest(seconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const over = () => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', over);
      resolve();
    };
    const timer = setTimeout(over, seconds * 1000);
    signal?.addEventListener('abort', over);
  });
}
