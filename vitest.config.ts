import { defineConfig } from 'vitest/config'
import SlowestFirst from './test/slowest-first.ts'
import { PATIENCE_MS } from './test/support/timing/patience.ts'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    setupFiles: ['test/support/each-file.ts'],
    // Only what hangs is ended by them: a slow machine with other load takes several times as long as usual.
    testTimeout: 300_000,
    hookTimeout: 300_000,
    // The heap settings of `conveyor server` (bin/run.js), on which the longest pauses depend.
    execArgv: ['--max-semi-space-size=2', '--heap-growing-percent=60'],
    // Tests wait for engines and other processes much of the time.
    maxWorkers: 4,
    sequence: { sequencer: SlowestFirst },
    // A test that needs something to come soon measures that itself.
    expect: { poll: { timeout: PATIENCE_MS } },
  },
})
