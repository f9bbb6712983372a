import type { Page } from 'playwright-core'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Timeline } from '../../../src/lib/core/timeline.ts'
import { scrollsSideways, violations } from '../../support/pages/browser.ts'
import {
  acceptBuild,
  beginBuild,
  FAILED,
  failedBuild,
  openBuild,
  output,
  START,
} from '../../support/pages/log-builds.ts'
import { useBrowser } from '../../support/pages/use-browser.ts'
import { startTestServer, type TestServer, until } from '../../support/test-server.ts'

const browser = useBrowser()
let server: TestServer
beforeEach(async () => {
  server = await startTestServer({ webUrl: 'https://forge.example' })
})
afterEach(() => server[Symbol.asyncDispose]())

const isAtEnd = (page: Page) =>
  page.evaluate('innerHeight + scrollY >= document.documentElement.scrollHeight - 4')

describe('the page of a build', () => {
  it('shows why a build failed first, opens the failed step, and has no accessibility violations', async () => {
    const build = await failedBuild(server)
    for (const options of [{}, { colorScheme: 'dark' as const }, { viewport: { width: 390, height: 844 } }]) {
      await using opened = await browser.open(options)
      const { page, complaints } = opened
      await openBuild(page, server, build)
      expect(await page.locator('.failure h2').textContent()).toBe(
        '[build 2/2] RUN make failed with exit code 2',
      )
      expect(await page.locator('.failure .excerpt').textContent()).toContain('boom: no such file')
      const open = await page.locator('details.g[open] > summary .nm').allTextContents()
      expect(open).toEqual(['[build 2/2] RUN make'])
      expect(await page.title()).toContain('failed: acme/app@aaaaaaa')
      expect(await page.locator('h1').textContent()).toBe('Greet people')
      expect(await violations(page)).toEqual([])
      expect(await scrollsSideways(page)).toBe(false)
      expect(complaints).toEqual([])
    }
  })

  it('shows the last lines of the failed step even if reading the log takes long', async () => {
    await using server = await startTestServer({ logGraceMs: 0 })
    const build = await failedBuild(server)
    const storage = Promise.withResolvers<void>()
    const { read } = server.logs
    let reads = 0
    server.logs.read = async function* (id, options) {
      if (++reads === 1) await storage.promise
      yield* read(id, options)
    }
    await using opened = await browser.open()
    const { page, complaints } = opened
    await page.goto(`${server.url}/builds/${build.id}`, { waitUntil: 'commit' })
    await page.locator('.failure h2').waitFor()
    expect(await page.locator('.failure .excerpt').count()).toBe(0)
    storage.resolve()
    await page.locator('#log[data-ready]').waitFor()
    expect(await page.locator('.failure .excerpt').textContent()).toContain('boom: no such file')
    expect(await page.locator('.failure').count()).toBe(1)
    expect(complaints).toEqual([])
  })

  it('shows the lines of the Dockerfile that failed, as docker build does', async () => {
    const build = await beginBuild(server)
    await server.store.timelines.put(build.id, {
      ...{ attempt: 1, phases: [], steps: [], critical: [], missed: null, made: null },
      excerpt: {
        file: 'docker/<b>Dockerfile',
        lines: [
          { number: 9, text: 'COPY . .', failed: false },
          { number: 10, text: 'RUN <script>document.title="owned"</script> && \\', failed: true },
          { number: 11, text: `  make ${'x'.repeat(250)}`, failed: true },
        ],
        more: 2,
      },
    })
    await server.writeLog(build, START + FAILED)
    await server.fail(build, 'RUN failed with exit code 2')
    await server.endLog(build)
    for (const options of [{}, { colorScheme: 'dark' as const }, { viewport: { width: 390, height: 844 } }]) {
      await using opened = await browser.open(options)
      const { page, complaints } = opened
      await openBuild(page, server, build)
      const source = page.locator('.failure figure')
      expect(await source.locator('figcaption').textContent()).toBe('docker/<b>Dockerfile, line 10')
      expect(await source.locator('pre').textContent()).toBe(
        `  9 COPY . .\n 10 RUN <script>document.title="owned"</script> && \\\n 11   make ${'x'.repeat(250)}\n…`,
      )
      expect(await source.locator('mark').count()).toBe(2)
      expect(await violations(page)).toEqual([])
      expect(await scrollsSideways(page)).toBe(false)
      expect(complaints).toEqual([])
    }
  })

  it('opens the failed step of a long log, and goes from error to error over all steps with one key', async () => {
    const before = Array.from({ length: 1600 }, (_, i) => `#1 ${(i / 1000).toFixed(3)} copying ${i}\n`)
    before[700] = '#1 0.700 error: tried again\n'
    const log = `#1 [1/3] RUN fetch\n${before.join('')}#1 DONE 2.0s\n\n#2 [2/3] RUN lint\n#2 0.100 npm ERROR ignored\n#2 DONE 1.0s\n\n#3 [3/3] RUN make\n#3 1.000 boom\n#3 ERROR: exit code: 2\n`
    const build = await failedBuild(server, log)
    await using opened = await browser.open()
    const { page } = opened
    await openBuild(page, server, build)
    const open = () => page.locator('details.g[open] > summary .nm').allTextContents()
    expect(await open()).toEqual(['[3/3] RUN make'])
    const lines = log.split('\n')
    const expected = ['tried again', 'ERROR ignored', 'exit code: 2'].map(
      (text) => lines.findIndex((line) => line.endsWith(text)) + 1,
    )
    for (const row of [...expected, expected[0]]) {
      await page.keyboard.press('e')
      await expect.poll(() => new URL(page.url()).hash).toBe(`#L${row}`)
      expect(await page.locator(`#L${row}`).isVisible()).toBe(true)
      await expect
        .poll(() => page.locator(`#L${row}`).evaluate((line) => line.getBoundingClientRect().top))
        .toBeGreaterThan(0)
    }
    expect(await open()).toEqual(['[1/3] RUN fetch', '[2/3] RUN lint', '[3/3] RUN make'])
  })

  it('can be read without JavaScript', async () => {
    const build = await failedBuild(server)
    await using opened = await browser.open({ javaScriptEnabled: false })
    const { page } = opened
    await page.goto(`${server.url}/builds/acme/app@${build.sha}`)
    expect(await page.locator('#log').textContent()).toContain('line of output 29')
    expect(await page.locator('#L6').isVisible()).toBe(false)
    expect(await page.locator('.tools > :visible').allTextContents()).toEqual(['Raw', 'Download'])
    const raw = await (
      await fetch(`${server.url}${await page.locator('.tools a').first().getAttribute('href')}`)
    ).text()
    expect(raw).toBe(START + output(0, 30) + FAILED)
    await page.locator('summary', { hasText: 'COPY' }).click()
    expect(await page.locator('#L4').isVisible()).toBe(true)
  })

  it('runs nothing that a log, an error, or a commit contains', async () => {
    const attack = `<img src=x onerror="document.title='owned'"><script>document.title='owned'</script>`
    const build = await beginBuild(server, attack)
    await server.writeLog(
      build,
      `${START}#2 0.1 x\n#2 0.100 ${attack}\n#2 0.200 \x1b]8;;javascript:alert(1)\x1b\\click\x1b]8;;\x1b\\ https://x.example/"onmouseover="a\n\n#3 ${attack}\n#3 ERROR: ${attack}\n`,
      Buffer.from([0x23, 0x32, 0x20, 0xff, 0xfe, 0x00, 0x0a]),
    )
    await server.fail(build, attack)
    await server.endLog(build)
    await using opened = await browser.open()
    const { page, complaints } = opened
    await openBuild(page, server, build)
    await page.keyboard.press('g')
    expect(await page.title()).toContain('failed')
    expect(await page.locator('main img, #log script').count()).toBe(0)
    const targets = await page
      .locator('#log a[rel]')
      .evaluateAll((links) => links.map((link) => link.getAttribute('href')))
    expect(targets).toEqual(['https://x.example/'])
    expect(complaints).toEqual([])
  })

  it('shows a step as cancelled that was running when its build ended', async () => {
    const build = await beginBuild(server)
    await server.writeLog(build, START + output(0, 3))
    await using opened = await browser.open()
    const { page } = opened
    await openBuild(page, server, build)
    const step = page.locator('details[data-s="2"]')
    await expect.poll(() => step.getAttribute('data-state')).toBe('running')
    await server.fail(build, 'cancelled by ada')
    await server.endLog(build)
    await expect.poll(() => step.getAttribute('data-state')).toBe('cancelled')
    await page.reload()
    expect(await step.getAttribute('data-state')).toBe('cancelled')
  })

  it('links to lines and ranges of them', async () => {
    const build = await failedBuild(server)
    await using opened = await browser.open()
    const { page } = opened
    await openBuild(page, server, build, '#L10-L12')
    const selected = () => page.locator('.l.sel').evaluateAll((rows) => rows.map((row) => row.id))
    expect(await selected()).toEqual(['L10', 'L11', 'L12'])
    await page.locator('#L20 > a').click()
    expect(await selected()).toEqual(['L20'])
    await page.locator('#L17 > a').click({ modifiers: ['Shift'] })
    expect(await selected()).toEqual(['L17', 'L18', 'L19', 'L20'])
    expect(new URL(page.url()).hash).toBe('#L17-L20')
  })

  it('is used with the keyboard: search, errors, order, times', async () => {
    const build = await failedBuild(server)
    await using opened = await browser.open()
    const { page } = opened
    await openBuild(page, server, build)
    await page.keyboard.press('/')
    await page.keyboard.type('OUTPUT 1')
    const count = page.locator('#log-search output')
    await expect.poll(() => count.textContent()).toBe('1 of 11 lines')
    await page.keyboard.press('Enter')
    await page.keyboard.press('Shift+Enter')
    await expect.poll(() => count.textContent()).toBe('1 of 11 lines')
    await page.locator('#log').click({ position: { x: 300, y: 8 } })
    await page.keyboard.press('n')
    await expect.poll(() => count.textContent()).toBe('2 of 11 lines')
    expect(await page.evaluate("CSS.highlights.get('hit').size")).toBe(11)
    await page.keyboard.press('e')
    await expect.poll(() => new URL(page.url()).hash).toBe('#L38')
    await page.keyboard.press('g')
    expect(await page.locator('details.g').count()).toBe(0)
    const numbers = await page
      .locator('#log .l')
      .evaluateAll((rows) => rows.map((row) => Number(row.id.slice(1))))
    expect(numbers).toEqual(Array.from({ length: 40 }, (_, i) => i + 1))
    await page.keyboard.press('t')
    expect(await page.locator('#log').getAttribute('data-times')).toBe('elapsed')
    await page.keyboard.press('g')
    expect(await page.locator('details.g').count()).toBe(2)
    await page.keyboard.press('?')
    expect(await page.locator('#log-help').isVisible()).toBe(true)
    expect(await violations(page)).toEqual([])
  })
})

describe('the comparison of two builds', () => {
  it('is a page for browsers, linked from the build to the previous one of its branch', async () => {
    const next = async (sha: string, branch = 'main') => {
      const { build } = await server.store.accept({
        ...{ repository: 'acme/app', sha: sha.repeat(40), ref: { kind: 'branch' as const, name: branch } },
        ...{ defaultBranch: 'main', cache: true, source: { kind: 'api' as const } },
      })
      const claimed = await server.store.claim(build.id)
      if (!claimed) throw new Error('not claimed')
      return claimed
    }
    const timeline = (line: string, names: string[]): Timeline => ({
      ...{ attempt: 1, phases: [], critical: [], missed: null },
      steps: names.map((name, at) => ({
        ...{ number: at + 1, name, digest: `${at}`, inputs: [], error: null, warnings: [], state: 'done' },
        ...{ startedAt: '2026-01-01T00:00:00.000Z', completedAt: '2026-01-01T00:00:12.000Z' },
      })),
      made: {
        instructions: ['FROM x', line],
        bases: [{ name: 'docker.io/library/x:latest', digest: `sha256:${line.length}` }],
        settings: { network: line },
      },
    })
    const first = await next('a')
    await server.store.timelines.put(first.id, timeline('RUN <b>old</b>', ['[1/2] RUN <b>old</b>']))
    await server.succeed(first)
    const other = await next('b', 'dev')
    await server.succeed(other)
    const failing = await next('c')
    await server.store.timelines.put(failing.id, timeline('RUN new', ['[1/2] RUN new']))
    await server.fail(failing, 'no')
    const cancelled = await next('d')
    await server.store.finish(cancelled.id, 1, 1, { state: 'cancelled', error: 'x', errorKind: 'cancelled' })
    const last = await next('e')
    await server.fail(last, 'no')

    for (const options of [{}, { colorScheme: 'dark' as const }, { viewport: { width: 390, height: 844 } }]) {
      await using opened = await browser.open(options)
      const { page, complaints, loaded } = opened
      await openBuild(page, server, failing)
      ;(await loaded()).clear()
      const link = page.getByRole('link', { name: 'Compare with the previous build of this branch' })
      await link.click()
      await page.waitForURL(`${server.url}/compare/${first.id}...${failing.id}`, { waitUntil: 'networkidle' })
      expect(await page.locator('h1').textContent()).toBe('Compare aaaaaaa with ccccccc')
      const main = (await page.locator('main').textContent()) ?? ''
      expect(main).toContain('- RUN <b>old</b>\n+ RUN new\n')
      expect(main).toContain('- docker.io/library/x:latest@sha256:14\n+ docker.io/library/x:latest@sha256:7')
      expect(main).toContain('network changed')
      expect(await page.locator('main tr').last().textContent()).toBe('[1/2] RUN newnone12 s')
      expect(await violations(page)).toEqual([])
      expect(await scrollsSideways(page)).toBe(false)
      const sizes = [...(await loaded()).values()]
      expect(sizes.reduce((one, other) => one + other, 0)).toBeLessThan(40_000)
      expect(complaints).toEqual([])
    }
    const text = async (path: string, accept = 'text/html') =>
      (await fetch(server.url + path, { headers: { accept } })).text()
    // Neither another branch's nor a cancelled build.
    expect(await text(`/builds/${last.id}`)).toContain(`/compare/${failing.id}...${last.id}`)
    expect(await text(`/builds/${first.id}`)).not.toContain('/compare/')
    expect(await text(`/compare/${first.id}...${last.id}`)).toContain('It is not known whether they differ.')
    expect(await text(`/compare/${first.id}`)).toMatch(/<h1>[^<]*</)
    expect(JSON.parse(await text(`/compare/${first.id}...${last.id}`, '*/*'))).toHaveProperty('same_image')
  })
})

describe('the buttons of a build', () => {
  it('cancel it, and build its commit again', async () => {
    const build = await acceptBuild(server)
    await using opened = await browser.open()
    const { page, complaints } = opened
    // Another host name than that of the base URL.
    await page.goto(`${server.url.replace('127.0.0.1', 'localhost')}/builds/${build.id}`)
    await page.getByRole('button', { name: 'Cancel' }).click()
    await page.locator('.state.cancelled').waitFor()
    expect((await server.store.get(build.id))?.state).toBe('cancelled')
    await page.getByRole('button', { name: 'Retry without cache' }).click()
    await page.locator('.state.pending').waitFor()
    const newest = await server.store.newest('acme/app', build.sha)
    expect(newest).toMatchObject({ state: 'pending', cache: false })
    expect(page.url()).toContain(newest?.id)
    expect(complaints).toEqual([])
  })
})

describe('a running build', () => {
  it('is followed from pending to its end, while the end of the page is on the screen', async () => {
    const pending = await acceptBuild(server)
    await using opened = await browser.open()
    const { page, complaints } = opened
    await openBuild(page, server, pending)
    expect(await page.locator('.state').first().textContent()).toBe('pending')
    const build = await server.store.claim(pending.id)
    if (!build) throw new Error('the build cannot be claimed')
    const started = performance.now()
    await server.writeLog(build, START)
    await page.locator('summary', { hasText: 'RUN make' }).waitFor()
    process.stdout.write(
      `first line on the page: ${(performance.now() - started).toFixed(0)} ms after it was written\n`,
    )
    await page.locator('#build-head .state.building').waitFor()
    expect(await page.title()).toContain('building')

    await server.writeLog(build, output(0, 100))
    await page.locator('#L106').waitFor()
    await expect.poll(() => isAtEnd(page)).toBe(true)
    await page.mouse.move(400, 300)
    await page.mouse.wheel(0, -400)
    await expect.poll(() => isAtEnd(page)).toBe(false)
    await expect.poll(() => page.locator('#log-follow').getAttribute('aria-pressed')).toBe('false')
    await server.writeLog(build, output(100, 107))
    const more = page.locator('#log-more')
    await expect.poll(() => more.textContent()).toBe('↓ 7 new lines')
    expect(await isAtEnd(page)).toBe(false)
    await more.click()
    await expect.poll(() => isAtEnd(page)).toBe(true)
    await server.writeLog(build, output(107, 120))
    await page.locator('#L126').waitFor()
    await expect.poll(() => isAtEnd(page)).toBe(true)

    await server.writeLog(build, '#2 DONE 3.0s\n')
    await server.succeed(build)
    await server.endLog(build)
    await page.locator('#build-head .state.succeeded').waitFor()
    expect(await page.title()).toContain('succeeded')
    expect(await page.locator('link[rel=icon]').getAttribute('href')).toContain('favicon-succeeded')
    expect(await page.locator('.image code').textContent()).toContain(
      'docker pull registry.example/acme/app@sha256:',
    )
    expect(await page.locator('#log .l').count()).toBe(127)
    await until(() => server.openReaders() === 0)
    expect(complaints).toEqual([])
  })

  it('goes on after the server restarts, without a missing or repeated line', async () => {
    const build = await beginBuild(server)
    await server.writeLog(build, START)
    await using opened = await browser.open()
    const { page } = opened
    await openBuild(page, server, build)
    await server.writeLog(build, output(0, 5))
    await page.locator('#L11').waitFor()
    await server.stop()
    await server.writeLog(build, output(5, 10))
    await page.locator('#log-trouble').waitFor()
    await server.start()
    await page.locator('#L16').waitFor()
    await page.locator('#log-trouble').waitFor({ state: 'hidden' })
    const ids = await page.locator('#log .l').evaluateAll((rows) => rows.map((row) => row.id))
    expect(new Set(ids).size).toBe(16)
    expect(ids.length).toBe(16)
  })

  it('names each module that it needs, so that browsers load all of them at once', async () => {
    const build = await failedBuild(server)
    await using opened = await browser.open()
    await openBuild(opened.page, server, build)
    const answer = await fetch(`${server.url}/builds/${build.id}`, { headers: { accept: 'text/html' } })
    const named = (await answer.text()).match(/\/assets\/[a-z-]+\.\w+\.js/g)
    const scripts = async () =>
      [...(await opened.loaded()).keys()].filter((path) => path.endsWith('.js')).sort()
    await expect.poll(scripts).toEqual(named?.sort())
  })

  it('can be looked at in eight tabs, although browsers open six connections', async () => {
    const build = await beginBuild(server)
    await server.writeLog(build, START)
    await using opened = await browser.open()
    const pages = [opened.page]
    for (let i = 0; i < 7; i++) pages.push(await opened.page.context().newPage())
    const started = performance.now()
    await Promise.all(pages.map((page) => page.goto(`${server.url}/builds/${build.id}`)))
    process.stdout.write(`eight tabs at once loaded in ${(performance.now() - started).toFixed(0)} ms\n`)
    for (const page of pages) await page.locator('#log[data-ready]').waitFor()
    await server.writeLog(build, output(0, 1))
    for (const page of pages) await page.locator('#L7').waitFor()
    // A tab may still be closing its stream for another one.
    await expect.poll(() => server.openReaders()).toBeLessThanOrEqual(4)
    // A tab that is closed makes room for another one.
    await Promise.all(pages.slice(0, 4).map((page) => page.close()))
    await server.writeLog(build, output(1, 2))
    for (const page of pages.slice(4)) await page.locator('#L8').waitFor()
  })
})

describe('a log of 100 MB', () => {
  it('is scrolled and searched with little memory and few elements', { timeout: 600_000 }, async () => {
    const build = await beginBuild(server)
    const line = (i: number) =>
      `#2 ${(i / 1000).toFixed(3)} compiling module number ${i} of the program with all of its parts and its warnings\n`
    let written = START.length
    let next = 0
    const pieces = [START]
    while (written < 100e6) {
      const piece = Array.from({ length: 10_000 }, (_, i) => line(next + i)).join('')
      next += 10_000
      written += piece.length
      pieces.push(piece)
    }
    await server.writeLog(build, ...pieces, FAILED)
    await server.fail(build, 'make failed')
    await server.endLog(build)
    const total = next + 6 + 4

    await using opened = await browser.open()
    const { page, complaints } = opened
    const loading = performance.now()
    await openBuild(page, server, build)
    const loaded = performance.now() - loading
    expect(await page.locator('#log.virtual').count()).toBe(1)

    const searching = performance.now()
    await page.keyboard.press('/')
    await page.keyboard.type('boom: no')
    await expect.poll(() => page.locator('#log-search output').textContent()).toBe('1 of 1 line')
    const searched = performance.now() - searching
    await page.locator(`#L${total - 3}`).waitFor()
    expect(await page.locator(`#L${total - 3}`).textContent()).toBe('boom: no such file')

    await page.evaluate("location.hash = '#L600000'")
    await page.locator('#L600000').waitFor()
    expect(await page.locator('#L600000').textContent()).toContain(`module number ${600_000 - 7} of`)

    const frames = (await page.evaluate(`(async () => {
      const times = []
      let last = performance.now()
      for (let i = 0; i < 120; i++) {
        scrollBy(0, 173)
        await new Promise(requestAnimationFrame)
        const now = performance.now()
        times.push(now - last)
        last = now
      }
      return times.sort((a, b) => a - b)
    })()`)) as number[]
    const session = await page.context().newCDPSession(page)
    await session.send('HeapProfiler.collectGarbage')
    const heap = (await session.send('Runtime.getHeapUsage')).usedSize
    const elements = await page.evaluate(`(() => {
      const walker = document.createTreeWalker(document, NodeFilter.SHOW_ALL)
      let count = 0
      while (walker.nextNode()) count++
      return count
    })()`)
    const p95 = frames[Math.floor(frames.length * 0.95)] ?? 0
    process.stdout.write(
      `100 MB: page ${loaded.toFixed(0)} ms, search ${searched.toFixed(0)} ms, heap ${(heap / 1e6).toFixed(1)} MB, ${elements} nodes, frames p95 ${p95.toFixed(0)} ms\n`,
    )
    expect(heap).toBeLessThan(150e6)
    expect(elements).toBeLessThan(2000)
    expect(complaints).toEqual([])
    const own = [...(await opened.loaded())].filter(
      ([path]) => path.startsWith('/assets/') && !path.endsWith('.svg'),
    )
    const size = own.reduce((sum, [, bytes]) => sum + bytes, 0)
    process.stdout.write(`scripts and styles of the page: ${size} bytes\n`)
    expect(size).toBeLessThan(60_000)
  })
})
