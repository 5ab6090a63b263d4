/**
 * A job that the engine has no part in.
 *
 * Comes in: what is to be done, as a function that keeps the books; goes out: a running `Job`, which is told to stop and
 * is reported as any other.
 */
import type { NativeReport, NativeSnapshot } from '../native/events.js';
import type { NativeJob } from '../native.js';
import { Job, NOTHING_YET } from './job.js';
import { Ledger, total } from './transfer/ledger.js';

/** Does the work: books what is found and what becomes of it, and ends early when `signal` is aborted. */
export type Errand = (ledger: Ledger, signal: AbortSignal) => Promise<void>;

/** Begins it. `dryRun`: it does nothing, and the books have what would be done. */
export function errand(run: Errand, dryRun = false): Job {
  return new Job(async () => ({ native: new Running(run, dryRun) }), undefined, undefined, dryRun);
}

class Running implements NativeJob {
  readonly #ledger = new Ledger(undefined);
  readonly #stop = new AbortController();
  #begun = 0;
  #elapsed: number | undefined;

  constructor(
    readonly errand: Errand,
    readonly dryRun: boolean,
  ) {}

  async run(): Promise<NativeReport> {
    this.#begun = performance.now();
    try {
      await this.errand(this.#ledger, this.#stop.signal);
    } catch (error) {
      // What it was at was ended with it.
      if (!this.#stop.signal.aborted) throw error;
    } finally {
      this.#elapsed = this.#seconds();
      this.#ledger.events.end();
    }
    const how = { interrupted: this.#stop.signal.aborted, workers: 1, elapsed: this.#elapsed, dryRun: this.dryRun };
    return this.#ledger.report(how);
  }

  #seconds(): number {
    return this.#begun === 0 ? 0 : (performance.now() - this.#begun) / 1000;
  }

  nextEvents() {
    return this.#ledger.events.next();
  }

  cancel(): void {
    this.#stop.abort();
  }

  setLimits(): void {}

  setStallTimeout(): void {}

  answer(): void {}

  peek(): NativeSnapshot {
    return this.snapshot();
  }

  snapshot(): NativeSnapshot {
    const { outcomes, found, foundBytes, errors } = this.#ledger;
    return {
      ...NOTHING_YET,
      phase: this.#elapsed === undefined ? 'preflight' : 'done',
      foundFiles: found.file,
      foundBytes,
      foundDirectories: found.directory,
      foundLinks: found.symlink,
      doneEntries: total(outcomes),
      errors,
      workers: 1,
      workedEntries: total(outcomes),
      ...(this.#stop.signal.aborted && { stopping: { files: 0, bytes: 0 } }),
      elapsed: this.#elapsed ?? this.#seconds(),
    };
  }
}
