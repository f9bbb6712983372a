import { afterAll, beforeAll } from 'vitest'
import { startBrowser, type TestBrowser } from './browser.ts'

/** A browser for the tests of a file or a `describe`: started before the first of them, and closed after the last. */
export function useBrowser(): Pick<TestBrowser, 'open'> {
  let browser: TestBrowser
  beforeAll(async () => {
    browser = await startBrowser()
  })
  afterAll(() => browser[Symbol.asyncDispose]())
  return { open: (options) => browser.open(options) }
}
