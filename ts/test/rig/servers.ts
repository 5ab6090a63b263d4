/** The servers of objects that `scripts/bench` starts too: JavaScript without declarations, of which the tests use this. */
import { fileURLToPath } from 'node:url';

const FILE = fileURLToPath(new URL('../../../scripts/bench.d/server.js', import.meta.url));

interface Served {
  readonly endpoint: string;
  readonly close: () => Promise<void>;
}

interface Keys {
  AWS_ACCESS_KEY_ID: string;
  AWS_SECRET_ACCESS_KEY: string;
}

interface Servers {
  readonly CEPH: readonly string[];
  ceph(directory: string, given: { keys: Keys }): Promise<Served>;
  versitygw(directory: string, given: { program: string; keys: Keys }): Promise<Served>;
}

export const servers = (): Promise<Servers> => import(FILE);
