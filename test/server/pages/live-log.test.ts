import { setTimeout as sleep } from 'node:timers/promises'
import type { Page, Route } from 'playwright-core'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Build } from '../../../src/lib/core/build.ts'
import { beginBuild, FAILED, failedBuild, openBuild, output, START } from '../../support/pages/log-builds.ts'
import { useBrowser } from '../../support/pages/use-browser.ts'
import { startTestServer, type TestServer } from '../../support/test-server.ts'

/** Logs on pages under unusual circumstances: tabs that come and go, storage that fails, lines that come late. */

const browser = useBrowser()
let server: TestServer
beforeEach(async () => {
  server = await startTestServer()
})
afterEach(() => server[Symbol.asyncDispose]())

async function running(on = server): Promise<Build> {
  const build = await beginBuild(on)
  await on.writeLog(build, START)
  return build
}

const trouble = (page: Page) => page.locator('#log-trouble')

/** The numbers of the lines that are elements. */
const linesOn = (page: Page): Promise<number[]> =>
  page.locator('#log .l').evaluateAll((lines) => lines.map((line) => Number(line.id.slice(1))))

const counted = (to: number) => Array.from({ length: to }, (_, i) => i + 1)

/** As if four other tabs had a stream, for as long as the page is open. */
const OTHERS = `
  for (const tab of [1, 2, 3, 4]) localStorage.setItem('conveyor.stream.' + tab, '1 ' + (Date.now() + 3_600_000))
`

/** Holds the requests for lines until `release`, which answers them in the order in which they came. */
async function holdLines(page: Page) {
  const held: Route[] = []
  let holds = true
  await page.route(/\/lines\?/, (route) => {
    if (holds) held.push(route)
    else void route.continue()
  })
  return {
    held,
    release() {
      holds = false
      // A page may have given a request up.
      for (const route of held) route.continue().catch(() => {})
    },
  }
}

describe('tabs', () => {
  it('with a stream leave each other in peace', async () => {
    const build = await running()
    await using opened = await browser.open()
    await opened.page
      .context()
      .addInitScript(
        'window.writes = 0; const { setItem } = Storage.prototype; Storage.prototype.setItem = function (...values) { window.writes++; return setItem.apply(this, values) }',
      )
    const pages = [opened.page, await opened.page.context().newPage(), await opened.page.context().newPage()]
    for (const page of pages) await openBuild(page, server, build)
    await expect.poll(() => server.openReaders()).toBe(3)
    for (const page of pages) await page.evaluate('window.writes = 0')
    await sleep(1000)
    // One when it began, and one every two seconds; not one for each of another tab's.
    for (const page of pages) expect(await page.evaluate('window.writes')).toBeLessThan(20)
  })

  it('that are shown again from the cache of the browser have one stream, which ends', async () => {
    const build = await running()
    await using opened = await browser.open()
    const { page } = opened
    await openBuild(page, server, build)
    await expect.poll(() => server.openReaders()).toBe(1)
    await page.evaluate(`
      dispatchEvent(new PageTransitionEvent('pagehide', { persisted: true }))
      document.dispatchEvent(new Event('visibilitychange'))
      dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))
    `)
    await server.writeLog(build, output(0, 3))
    await page.locator('#L9').waitFor()
    await expect.poll(() => server.openReaders()).toBe(1)
    await server.succeed(build)
    await server.endLog(build)
    await page.locator('#build-head .state.succeeded').waitFor()
    await expect.poll(() => server.openReaders()).toBe(0)
    expect(await linesOn(page)).toEqual(counted(9))
    expect(
      await page.evaluate("Object.keys(localStorage).filter((key) => key.startsWith('conveyor.'))"),
    ).toEqual([])
  })

  it('that ask, as others have the streams, show each line once, however often they are hidden', async () => {
    const build = await running()
    await using opened = await browser.open()
    const { page } = opened
    await page.addInitScript(OTHERS)
    await openBuild(page, server, build)
    const requests = await holdLines(page)
    await expect.poll(() => requests.held.length).toBe(1)
    await server.writeLog(build, output(0, 20))
    for (let i = 0; i < 3; i++) await page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    await expect.poll(() => requests.held.length).toBe(4)
    requests.release()
    await page.locator('#L26').waitFor()
    await server.writeLog(build, output(20, 30))
    await page.locator('#L36').waitFor()
    expect(await linesOn(page)).toEqual(counted(36))
    expect(server.openReaders()).toBe(0)
  })
})

describe('the end of a build', () => {
  it.each([
    ['a stream', ''],
    ['requests', OTHERS],
  ])(
    'is not the end of its log: lines that are stored later come by %s, and why it failed',
    async (_, script) => {
      // However long the second page takes to open.
      await using patient = await startTestServer({ logGraceMs: 60_000 })
      const build = await running(patient)
      await using opened = await browser.open()
      await using later = await browser.open()
      for (const { page } of [opened, later]) await page.addInitScript(script)
      await openBuild(opened.page, patient, build)
      await patient.fail(build, '[build 2/2] RUN make failed with exit code 2')
      await opened.page.locator('#build-head .state.failed').waitFor()
      await openBuild(later.page, patient, build)
      await patient.writeLog(build, FAILED)
      await patient.endLog(build)
      for (const { page } of [opened, later]) {
        await page.locator('#log .l', { hasText: 'error: [build 2/2] RUN make failed' }).waitFor()
        await page.locator('.failure .excerpt', { hasText: 'boom: no such file' }).waitFor()
        await page.locator('#log[data-ended=true]').waitFor({ state: 'attached' })
      }
    },
  )

  it('before its first line shows that there is no log', async () => {
    const build = await beginBuild(server)
    await using opened = await browser.open()
    const { page } = opened
    await openBuild(page, server, build)
    const text = () => page.evaluate("getComputedStyle(document.querySelector('#log'), '::before').content")
    expect(await text()).toContain('Waiting')
    await server.fail(build, 'its worker has died')
    await page.locator('#build-head .state.failed').waitFor()
    await expect.poll(text).toContain('This build has no stored log')
    expect(await trouble(page).isHidden()).toBe(true)
  })

  it('has errors of its own, also for those who looked for errors before', async () => {
    const build = await running()
    await server.writeLog(build, '#2 0.100 npm error, ignored\n')
    await using opened = await browser.open()
    const { page } = opened
    await openBuild(page, server, build)
    await page.keyboard.press('e')
    await expect.poll(() => new URL(page.url()).hash).toBe('#L7')
    await server.writeLog(build, FAILED)
    await server.fail(build, 'no')
    await server.endLog(build)
    await page.locator('#log[data-ended=true]').waitFor({ state: 'attached' })
    await page.keyboard.press('e')
    await expect.poll(() => new URL(page.url()).hash).toBe('#L9')
  })
})

describe('trouble', () => {
  it('is over when the server is back, even if the build has nothing to say', async () => {
    const build = await running()
    await using opened = await browser.open()
    const { page } = opened
    await openBuild(page, server, build)
    await server.stop()
    await expect.poll(() => trouble(page).textContent()).toBe('The connection is lost. Trying again…')
    await server.start()
    await trouble(page).waitFor({ state: 'hidden' })
  })

  it('with the storage of logs is told, also at the end', async () => {
    const build = await running()
    await using opened = await browser.open()
    const { page } = opened
    const { read } = server.logs
    server.logs.read = async function* (id, options) {
      if (options?.follow !== false) throw new Error('the disk is gone')
      yield* read(id, options)
    }
    await openBuild(page, server, build)
    const text = 'The log of this build is currently unavailable'
    await expect.poll(() => trouble(page).textContent()).toBe(text)
    await server.succeed(build)
    await page.locator('#build-head .state.succeeded').waitFor()
    expect(await trouble(page).textContent()).toBe(text)
  })
})

it('the names of steps stay when lines are shown in their order, and by step again', async () => {
  const build = await failedBuild(server)
  await using opened = await browser.open()
  const { page } = opened
  await openBuild(page, server, build)
  const summaries = () => page.locator('details.g > summary').allTextContents()
  const before = await summaries()
  expect(before.length).toBe(2)
  await page.keyboard.press('g')
  expect(await summaries()).toEqual([])
  await page.keyboard.press('g')
  expect(await summaries()).toEqual(before)
})

describe('a log that is too long for elements', () => {
  const short = (count: number) => Array.from({ length: count }, (_, i) => `#2 0.100 line ${i}\n`).join('')

  it('shows lines that are too long for one response', async () => {
    const build = await running()
    const long = `#2 0.200 ${'x'.repeat(3_000_000)} the end of it\n`
    await server.writeLog(build, short(20_100), long, short(50), FAILED)
    await server.fail(build, 'no')
    await server.endLog(build)
    await using opened = await browser.open()
    const { page } = opened
    await openBuild(page, server, build)
    expect(await page.locator('#log.virtual').count()).toBe(1)
    const rows = Math.ceil((long.length - 1) / 32_768)
    const last = 6 + 20_100 + rows
    await page.evaluate(`location.hash = '#L${last}'`)
    const row = page.locator(`#L${last}`)
    await row.waitFor()
    expect(await row.textContent()).toContain('the end of it')
    await expect.poll(async () => (await row.boundingBox())?.y ?? -1).toBeGreaterThan(0)
  })

  it('keeps what it shows while more of it is written', async () => {
    const build = await running()
    await server.writeLog(build, short(20_040))
    await using opened = await browser.open()
    const { page } = opened
    await openBuild(page, server, build)
    await page.locator('#L20046').waitFor()
    await page.evaluate("window.kept = document.querySelector('#L19990')")
    const requests = await holdLines(page)
    await server.writeLog(build, short(10))
    await expect.poll(() => requests.held.length).toBeGreaterThan(0)
    await server.writeLog(build, short(10))
    expect(await page.locator('#L20046').count()).toBe(1)
    requests.release()
    await page.locator('#L20066').waitFor()
    // What has not changed is still the same element.
    expect(await page.evaluate("window.kept === document.querySelector('#L19990')")).toBe(true)
  })

  it('goes to a line of millions', async () => {
    const build = await beginBuild(server)
    await server.writeLog(build, START, ...Array.from({ length: 20 }, () => short(100_000)), FAILED)
    await server.fail(build, 'no')
    await server.endLog(build)
    await using opened = await browser.open()
    const { page } = opened
    await openBuild(page, server, build)
    for (const line of [1_999_000, 1_000_000, 700_000]) {
      await page.evaluate(`location.hash = '#L${line}'`)
      const row = page.locator(`#L${line}`)
      await row.waitFor()
      const height = page.viewportSize()?.height ?? 0
      await expect
        .poll(async () => Math.abs(((await row.boundingBox())?.y ?? -height) - height / 2))
        .toBeLessThan(height / 4)
    }
  })
})
