import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['ts/test/**/*.test.ts'],
    setupFiles: ['ts/test/rig/state.ts'],
    // clipanion's ES modules import directories, which Node does not: they go through the bundler.
    server: { deps: { inline: ['clipanion'] } },
    // Tests start the built command, which takes its time on a small shared machine.
    testTimeout: 30_000,
    // Disks that a whole file of tests is about take their time on a busy machine.
    hookTimeout: 120_000,
    maxWorkers: 2,
  },
});
