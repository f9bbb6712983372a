import { accessSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core'
import { PATIENCE_MS } from '../timing/patience.ts'

/** Debian's, and where others may have theirs. */
const CHROMIUMS = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']

/** A page, and what went wrong in it. */
interface WatchedPage extends AsyncDisposable {
  page: Page
  /** Errors and warnings of the console, uncaught errors, violations of the CSP, and requests to other servers. */
  complaints: string[]
  /** What its documents, styles and scripts so far were in bytes, without compression, by path. */
  loaded(): Promise<Map<string, number>>
}

/** Chromium without a window. */
export interface TestBrowser extends AsyncDisposable {
  open(options?: BrowserContextOptions): Promise<WatchedPage>
}

/** Starts a Chromium, one for each test file. @throws Error if there is none: `bin/setup.sh test` installs it */
export async function startBrowser(): Promise<TestBrowser> {
  const executablePath = CHROMIUMS.find(isThere)
  if (!executablePath) throw new Error('There is no Chromium: run bin/setup.sh test')
  const browser: Browser = await chromium.launch({
    executablePath,
    // Its sandbox does not work for root.
    args: ['--no-sandbox', '--disable-dev-shm-usage', '--disable-gpu', '--font-render-hinting=none'],
  })
  return {
    async open(options = {}) {
      const context = await browser.newContext({ locale: 'en-GB', timezoneId: 'UTC', ...options })
      context.setDefaultTimeout(PATIENCE_MS)
      const page = await context.newPage()
      const complaints: string[] = []
      const loaded = new Map<string, number>()
      const reading: Promise<unknown>[] = []
      page.on('console', (message) => {
        if (['error', 'warning'].includes(message.type())) complaints.push(message.text())
      })
      page.on('pageerror', (error) => complaints.push(String(error)))
      page.on('request', (request) => {
        const { hostname } = new URL(request.url())
        if (hostname !== '127.0.0.1' && hostname !== 'localhost') complaints.push(`request: ${request.url()}`)
      })
      page.on('response', (response) => {
        const type = response.request().resourceType()
        if (!['document', 'stylesheet', 'script', 'image', 'other'].includes(type)) return
        const { pathname } = new URL(response.url())
        // One that is no longer there, after a navigation, does not count.
        reading.push(
          response.body().then(
            ({ length }) => loaded.set(pathname, length),
            () => {},
          ),
        )
      })
      return {
        page,
        complaints,
        async loaded() {
          await Promise.all(reading)
          return loaded
        },
        async [Symbol.asyncDispose]() {
          await context.close()
        },
      }
    },
    async [Symbol.asyncDispose]() {
      await browser.close()
    },
  }
}

function isThere(path: string): boolean {
  try {
    accessSync(path)
    return true
  } catch {
    return false
  }
}

let axe: string | undefined

/** What axe finds wrong with a page, as `rule: elements`. */
export async function violations(page: Page): Promise<string[]> {
  axe ??= await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
  // Through the debugger: the page itself may not load it.
  await page.evaluate(axe)
  const found = (await page.evaluate(`axe.run(document, { resultTypes: ['violations'] })`)) as {
    violations: { id: string; nodes: { target: unknown[]; failureSummary?: string }[] }[]
  }
  return found.violations.map(
    ({ id, nodes }) =>
      `${id}: ${nodes.map(({ target, failureSummary }) => `${target} (${failureSummary})`).join('; ')}`,
  )
}

/** Whether a page is wider than its window. */
export async function scrollsSideways(page: Page): Promise<boolean> {
  return (await page.evaluate(
    'document.documentElement.scrollWidth > document.documentElement.clientWidth',
  )) as boolean
}
