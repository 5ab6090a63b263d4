/**
 * Azurite, Microsoft's own server that speaks as Azure does, on loopback until the test ends, with one container. `undefined`
 * where `scripts/setup --tests` did not install it, and that is printed.
 */
import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';
import { freePort, scratch } from '../rig.js';

const PROGRAM = fileURLToPath(new URL('../../../.setup/azurite/node_modules/.bin/azurite-blob', import.meta.url));
/** The account that every Azurite has, and its key: no secret. */
const ACCOUNT = 'devstoreaccount1';
const ACCOUNT_KEY = 'Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==';

/** What a client needs to know, as the environment of a command. The container is `container`. */
export async function azurite(): Promise<NodeJS.ProcessEnv | undefined> {
  const port = await freePort();
  // Strict, it refuses the sums that Azure itself checks; so it takes them, and checks nothing.
  const args = ['--silent', '--loose', '--inMemoryPersistence', '--skipApiVersionCheck', '--blobHost', '127.0.0.1'];
  const server = spawn(PROGRAM, [...args, '--blobPort', String(port)], { stdio: 'ignore', cwd: scratch() });
  const gone = new Promise<void>((resolve) => server.on('error', () => resolve()).on('close', () => resolve()));
  onTestFinished(async () => {
    server.kill('SIGKILL');
    await gone;
  });
  let ended = false;
  void gone.then(() => {
    ended = true;
  });
  const endpoint = `http://127.0.0.1:${port}/${ACCOUNT}`;
  const answers = () =>
    fetch(endpoint).then(
      () => true,
      () => false,
    );
  while (!ended && !(await answers())) await sleep(100);
  if (ended) {
    console.log('skip: Azurite is not installed');
    return undefined;
  }
  const headers = { 'x-ms-date': new Date().toUTCString(), 'x-ms-version': '2021-08-06' };
  const named = Object.entries(headers).map(([name, value]) => `${name}:${value}\n`);
  const resource = `/${ACCOUNT}/${ACCOUNT}/container\nrestype:container`;
  const text = `PUT${'\n'.repeat(12)}${named.join('')}${resource}`;
  const signature = createHmac('sha256', Buffer.from(ACCOUNT_KEY, 'base64')).update(text).digest('base64');
  const made = await fetch(`${endpoint}/container?restype=container`, {
    method: 'PUT',
    headers: { ...headers, authorization: `SharedKey ${ACCOUNT}:${signature}` },
  });
  if (made.status !== 201) throw new Error(`no container: ${made.status} ${await made.text()}`);
  return {
    AZURE_STORAGE_CONNECTION_STRING: `DefaultEndpointsProtocol=http;AccountName=${ACCOUNT};AccountKey=${ACCOUNT_KEY};BlobEndpoint=${endpoint};`,
    AZURE_STORAGE_ACCOUNT: '',
    AZURE_STORAGE_KEY: '',
    AZURE_STORAGE_SAS_TOKEN: '',
  };
}
