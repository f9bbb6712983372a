import { defineConfig } from 'vitest/config'
import SlowestFirst from './test/slowest-first.ts'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    setupFiles: ['test/support/each-file.ts'],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    // Tests wait for engines and other processes much of the time.
    maxWorkers: 4,
    sequence: { sequencer: SlowestFirst },
    // What is waited for comes at once on a quiet machine, and late on a busy one; it never decides by time.
    expect: { poll: { timeout: 30_000 } },
  },
})
