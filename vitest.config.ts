import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    setupFiles: ['test/support/each-file.ts'],
    testTimeout: 120_000,
    hookTimeout: 120_000,
    maxWorkers: 3,
    // What is waited for comes at once on a quiet machine, and late on a busy one; it never decides by time.
    expect: { poll: { timeout: 30_000 } },
  },
})
