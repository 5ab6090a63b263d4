/** Which of the platform packages is this process's: what Node.js says of itself in, their names out. */

/** What the names of the engine's packages begin with. */
export const ENGINE = '@bulkhaul/engine';

/** What this Node.js is built for. */
export function libcOfNode(): 'gnu' | 'musl' {
  const { header } = process.report.getReport() as { header?: { glibcVersionRuntime?: string } };
  return header?.glibcVersionRuntime === undefined ? 'musl' : 'gnu';
}

/** The package of a part for this process. */
export function packageHere(part: string): string {
  return `${part}-${process.platform}-${process.arch}-${libcOfNode()}`;
}
