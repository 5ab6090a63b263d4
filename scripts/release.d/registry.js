/**
 * An npm registry on loopback, as a program: registry.js DIRECTORY FILE serves the package tarballs of a directory and
 * nothing else, and writes its address into FILE.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { run } from './run.js';

const [directory = '', file = ''] = process.argv.slice(2);
/** By name: what npm asks for. @type {Map<string, { name: string, manifest: object, version: string, tarball: string, integrity: string }>} */
const packages = new Map();
for (const tarball of readdirSync(directory).filter((name) => name.endsWith('.tgz'))) {
  const manifest = JSON.parse(run('tar', ['-xzOf', join(directory, tarball), 'package/package.json']));
  const sum = createHash('sha512')
    .update(readFileSync(join(directory, tarball)))
    .digest('base64');
  const { name, version } = manifest;
  packages.set(name, { name, manifest, version, tarball, integrity: `sha512-${sum}` });
}

const server = createServer(({ url = '' }, response) => {
  const name = decodeURIComponent(url.slice(1));
  const found = packages.get(name);
  if (found !== undefined) {
    const { manifest, version, tarball, integrity } = found;
    const dist = { tarball: `${address()}-/${tarball}`, integrity };
    response.setHeader('content-type', 'application/json');
    const versions = { [version]: { ...manifest, dist } };
    response.end(JSON.stringify({ name, 'dist-tags': { latest: version }, versions }));
  } else if ([...packages.values()].some(({ tarball }) => name === `-/${tarball}`)) {
    response.end(readFileSync(join(directory, name.slice(2))));
  } else response.writeHead(404).end('{}');
});

const address = () => {
  const at = server.address();
  return typeof at === 'object' && at !== null ? `http://127.0.0.1:${at.port}/` : '';
};

server.listen(0, '127.0.0.1', () => {
  writeFileSync(`${file}.new`, address());
  renameSync(`${file}.new`, file);
});
