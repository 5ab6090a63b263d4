/** Whether disks and images can be had where the tests run. */
import { accessSync, constants } from 'node:fs';

/** Why not; undefined: they can. */
export const WITHOUT_DISKS = (() => {
  if (process.getuid?.() !== 0) return 'this needs root';
  try {
    accessSync('/dev/loop-control', constants.R_OK | constants.W_OK);
    accessSync(new URL('../../../bindings/blockdev/blockdev.node', import.meta.url));
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
})();
if (WITHOUT_DISKS !== undefined) console.log(`skip: ${WITHOUT_DISKS}`);
