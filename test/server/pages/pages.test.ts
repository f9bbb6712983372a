import { afterAll, beforeAll, describe, expect, it, test } from 'vitest'
import type { Build } from '../../../src/lib/core/build.ts'
import { siteOf } from '../../../src/lib/server/pages/layout.ts'
import { listPage } from '../../../src/lib/server/pages/lists/list.ts'
import { scrollsSideways, startBrowser, type TestBrowser, violations } from '../../support/pages/browser.ts'
import { addSamples, type Clock, samples } from '../../support/pages/sample-builds.ts'
import { startTestServer, type TestServer } from '../../support/test-server.ts'
import { threadTime } from '../../support/timing/thread-time.ts'

const BROWSER = { accept: 'text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8' }
const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true }

let server: TestServer
let browser: TestBrowser
let builds: Build[]
beforeAll(async () => {
  const clock: Clock = { at: Date.now() }
  server = await startTestServer({ webUrl: 'https://github.com' }, () => new Date(clock.at))
  builds = await addSamples(server.store, clock, samples(60), clock.at)
  await server.store.ignored.add({
    id: '72d3162e-cc78-11e3-81ab-4c9367dc0958',
    event: 'push',
    repository: 'acme/docs',
    ref: 'refs/heads/gh-pages',
    reason: 'the push deletes <b>gh-pages</b>',
  })
  browser = await startBrowser()
})
afterAll(async () => {
  await browser[Symbol.asyncDispose]()
  await server[Symbol.asyncDispose]()
})

const ask = (path: string, headers: Record<string, string> = BROWSER) => fetch(server.url + path, { headers })

const PAGES = [
  '/',
  '/builds?state=failed',
  '/builds?branch=nope',
  '/repositories',
  '/repositories/acme/web',
  '/queue',
  '/deliveries',
  '/docs',
]

describe.each([
  ['light', {}],
  ['dark', { colorScheme: 'dark' as const }],
  ['on a phone', PHONE],
])('%s', (_name, options) => {
  test.each(PAGES)('%s is accessible, fits its window, and loads nothing from elsewhere', async (path) => {
    await using opened = await browser.open(options)
    await opened.page.goto(server.url + path)
    expect(await violations(opened.page)).toEqual([])
    expect(await scrollsSideways(opened.page)).toBe(false)
    expect(opened.complaints).toEqual([])
  })
})

test('a browser loads less than 60 kB for a list of 50 builds', async () => {
  await using opened = await browser.open()
  await opened.page.goto(`${server.url}/`, { waitUntil: 'networkidle' })
  expect(await opened.page.locator('.row').count()).toBe(50)
  const loaded = await opened.loaded()
  expect([...loaded.keys()].some((path) => path.endsWith('.js'))).toBe(true)
  const sum = [...loaded.values()].reduce((one, other) => one + other, 0)
  expect(sum).toBeLessThan(60_000)
})

test('a list of 50 is rendered in less than 5 ms', async () => {
  const page = await server.store.list({}, { limit: 50 })
  const site = siteOf(server.url, { webUrl: 'https://github.com' })
  const times = Array.from({ length: 30 }, () => {
    const taken = threadTime()
    listPage(site, {}, { ...page, summaries: new Map() }, { newer: [] })
    return taken()
  })
  // The fastest: code is compiled, and garbage collected, in the others.
  expect(Math.min(...times)).toBeLessThan(5)
})

describe('what is sent', () => {
  it('is a page for browsers, and what it was for everybody else', async () => {
    for (const path of ['/', '/builds', '/repositories', '/repositories/acme/web', '/deliveries']) {
      expect((await ask(path)).headers.get('content-type')).toBe('text/html; charset=utf-8')
      const plain = await ask(path, { accept: '*/*' })
      expect(plain.headers.get('content-type')).toMatch(path === '/' ? /^text\/plain/ : /^application\/json/)
    }
  })

  it('may load only files of this server, and is not sent again while it is the same', async () => {
    const first = await ask('/repositories')
    expect(first.headers.get('content-security-policy')).toBe(
      "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    )
    const etag = first.headers.get('etag') ?? ''
    const again = await ask('/repositories', { ...BROWSER, 'if-none-match': etag })
    expect([again.status, await again.text()]).toEqual([304, ''])
  })

  it('has files with a hash in their name, which browsers keep', async () => {
    const style = /\/assets\/style\.[0-9a-f]{10}\.css/.exec(await (await ask('/')).text())?.[0] ?? ''
    const file = await ask(style)
    expect(file.headers.get('cache-control')).toBe('public, max-age=31536000, immutable')
    expect((await ask(style, { 'if-none-match': file.headers.get('etag') ?? '' })).status).toBe(304)
    expect((await ask('/assets/style.0123456789.css')).status).toBe(404)
    expect((await ask('/assets/..%2fhtml.ts')).status).toBe(404)
  })

  it('explains errors in a page', async () => {
    const missing = await ask('/repositories/acme/nothing')
    expect(missing.status).toBe(404)
    expect(await missing.text()).toMatch(/<h1>Not found<\/h1>/)
    expect((await ask('/builds?state=odd')).status).toBe(400)
    expect((await ask('/builds?cursor=odd')).status).toBe(400)
  })
})

test('all links of a server below a path lead there', async () => {
  await using below = await startTestServer({ baseUrl: () => 'https://ci.example/conveyor', auth: 'none' })
  await below.begin('a'.repeat(40), 'main')
  for (const path of ['/', '/repositories', '/repositories/acme/app', '/queue', '/deliveries', '/nothing']) {
    const answer = await fetch(`${below.url}/conveyor${path}`, { headers: BROWSER })
    expect(answer.status).toBe(path === '/nothing' ? 404 : 200)
    const page = await answer.text()
    const links = [...page.matchAll(/(?:href|src|action)="([^"#][^"]*)"/g)].map(([, link]) => link)
    expect(links.length).toBeGreaterThan(8)
    expect(links.filter((link) => !link?.startsWith('/conveyor/'))).toEqual([])
  }
})

describe('the list', () => {
  it('shows a build that starts and succeeds, without a reload and without moving the reader', async () => {
    await using live = await startTestServer()
    const waiting = await live.store.accept({
      repository: 'acme/app',
      sha: 'a'.repeat(40),
      ref: { kind: 'branch', name: 'main' },
      defaultBranch: 'main',
      cache: true,
      commit: { title: 'Greet <people>', author: 'Ada', login: 'ada' },
      source: { kind: 'api' },
    })
    await using opened = await browser.open()
    const { page } = opened
    await page.goto(`${live.url}/builds`)
    const row = page.locator('.row')
    expect(await row.locator('.state').textContent()).toBe('pending')
    expect(await row.locator('.title').textContent()).toBe('Greet <people>')
    await row.locator('.title').focus()
    await page.evaluate('window.kept = document.querySelector(".row"); 0')

    const claimed = await live.store.claim(waiting.build.id)
    if (!claimed) throw new Error('not claimed')
    await expect.poll(() => row.locator('.state').textContent()).toBe('building')
    await live.begin('b'.repeat(40), 'other')
    await expect.poll(() => row.count()).toBe(2)
    await live.succeed(claimed)
    await expect.poll(() => row.last().locator('.state').textContent()).toBe('succeeded')
    await expect.poll(() => page.locator('#news').textContent()).toBe('Greet <people>: succeeded')
    expect(await page.evaluate('[...document.querySelectorAll(".row")].indexOf(window.kept)')).toBe(1)
    expect(await page.evaluate('document.activeElement.textContent')).toBe('Greet <people>')
    expect(opened.complaints).toEqual([])
  })

  it('says how long ago builds were requested, and when exactly to who points there', async () => {
    await using opened = await browser.open({ timezoneId: 'Asia/Tokyo' })
    const { page } = opened
    const time = page.locator('.row time').first()
    await page.clock.install()
    await page.goto(`${server.url}/builds`)
    const at = new Date((await time.getAttribute('datetime')) ?? '')
    for (const [seconds, text] of [
      [59, 'just now'],
      [60, '1 min ago'],
      [59 * 60 + 59, '59 min ago'],
      [3600, '1 h ago'],
      [86_399, '23 h ago'],
      [86_400, '1 day ago'],
      [200_000, '2 days ago'],
    ] as const) {
      await page.clock.setFixedTime(at.getTime() + seconds * 1000)
      await page.reload()
      expect(await time.textContent()).toBe(text)
    }
    await time.hover()
    expect(await time.getAttribute('title')).toBe(at.toLocaleString('en-GB', { timeZone: 'Asia/Tokyo' }))
  })

  it('is not asked for while nobody sees it', async () => {
    await using opened = await browser.open()
    const { page } = opened
    await page.clock.install()
    await page.goto(`${server.url}/builds`)
    let asked = 0
    page.on('request', (request) => {
      if (request.resourceType() === 'fetch') asked++
    })
    const setHidden = (hidden: boolean) =>
      page.evaluate(
        `Object.defineProperty(document, 'hidden', { value: ${hidden}, configurable: true }); document.dispatchEvent(new Event('visibilitychange'))`,
      )
    await setHidden(true)
    await page.clock.runFor(60_000)
    expect(asked).toBe(0)
    await setHidden(false)
    await expect.poll(() => asked).toBe(1)
  })

  it('is filtered with the keyboard alone', async () => {
    await using opened = await browser.open()
    const { page } = opened
    await page.goto(`${server.url}/builds`)
    await page.keyboard.press('Tab')
    expect(await page.evaluate('document.activeElement.textContent')).toBe('Skip to content')
    await page.keyboard.press('Enter')
    await page.keyboard.press('Tab')
    await page.keyboard.type('flaky')
    await page.keyboard.press('Tab')
    await page.keyboard.type('acme/api')
    await page.keyboard.press('Enter')
    await page.waitForURL('**/builds?text=flaky&repository=acme%2Fapi')
    const titles = await page.locator('.title').allTextContents()
    expect(titles.length).toBeGreaterThan(0)
    expect(new Set(titles)).toEqual(new Set(['Fix the flaky test of the scheduler']))
    expect(new Set(await page.locator('.meta a:first-child').allTextContents())).toEqual(
      new Set(['acme/api']),
    )
  })

  it('has older and newer pages, and works without JavaScript', async () => {
    await using opened = await browser.open({ javaScriptEnabled: false })
    const { page } = opened
    await page.goto(`${server.url}/builds`)
    const first = await page.locator('.row').first().textContent()
    await page.getByRole('link', { name: 'Older' }).click()
    expect(await page.locator('.row').count()).toBe(10)
    expect(await page.locator('time').first().textContent()).toMatch(/^\d+ \w+ \d\d:\d\d$/)
    await page.getByRole('link', { name: 'Newer' }).click()
    expect(await page.locator('.row').first().textContent()).toBe(first)
    await page.getByLabel('State').selectOption('failed')
    await page.getByRole('button', { name: 'Filter' }).click()
    expect(new Set(await page.locator('.state').allTextContents())).toEqual(new Set(['failed']))
    await page.goto(`${server.url}/deliveries`)
    expect(await page.locator('.what p').first().textContent()).toBe('the push deletes <b>gh-pages</b>')
  })

  it('says how to make the first build', async () => {
    await using fresh = await startTestServer()
    const page = await (await fetch(fresh.url, { headers: BROWSER })).text()
    expect(page).toContain(`${fresh.url}/webhooks/github`)
    expect(page).toContain('No builds yet')
  })
})

test('the command that pulls an image is copied with a button', async () => {
  await using opened = await browser.open({ permissions: ['clipboard-read', 'clipboard-write'] })
  const { page } = opened
  await page.goto(`${server.url}/repositories/acme/api`)
  await page
    .getByRole('button', { name: /^Copy the command that pulls/ })
    .first()
    .click()
  await expect
    .poll(() => page.evaluate('navigator.clipboard.readText()'))
    .toMatch(/^docker pull registry\.acme\.example\/acme\/api@sha256:[0-9a-f]{64}$/)
})

test('the description of the API loads less than 20 kB besides itself, and is less than 150 kB', async () => {
  await using opened = await browser.open()
  await opened.page.goto(`${server.url}/docs`, { waitUntil: 'networkidle' })
  const loaded = await opened.loaded()
  const document = loaded.get('/docs') ?? 0
  const sum = [...loaded.values()].reduce((one, other) => one + other, 0)
  expect(sum - document).toBeLessThan(20_000)
  expect(document).toBeLessThan(150_000)
  expect(document).toBeGreaterThan(50_000)
})

describe('the workers on the page of the queue', () => {
  it('are shown with the builds that they run, and what they are warm for', async () => {
    await using fleet = await startTestServer()
    const [first, second] = [await fleet.begin('a'.repeat(40)), await fleet.begin('b'.repeat(40))]
    const worker = (host: string, ids: string[], warm: string[]) => ({
      ...{ id: `id-of-${host}`, host, pid: 7, version: '1.2.3', slots: 2, builds: ids, warm },
      startedAt: new Date(Date.now() - 3_600_000).toISOString(),
    })
    const many = Array.from({ length: 14 }, (_, at) => `acme/service-${at}`)
    await fleet.store.workers.seen(worker('one', [first.id, second.id], ['acme/app']))
    await fleet.store.workers.seen(worker('two', [], many))
    for (const options of [{}, { colorScheme: 'dark' as const }, PHONE]) {
      await using opened = await browser.open(options)
      const { page, complaints } = opened
      await page.goto(`${fleet.url}/queue`)
      const rows = page.locator('.worker')
      expect(await rows.locator('b').allTextContents()).toEqual(['one', 'two'])
      expect(await rows.nth(0).textContent()).toContain('2 of 2 slots in use')
      expect(await rows.nth(1).textContent()).toContain('0 of 2 slots in use')
      expect(await rows.nth(0).locator('.tag').allTextContents()).toEqual(['acme/app'])
      expect(await rows.nth(1).locator('.tag').count()).toBe(12)
      expect(await rows.nth(1).textContent()).toContain('and 2 more')
      expect(await rows.nth(0).locator('a[href*="/builds/"]').allTextContents()).toEqual([
        'acme/app aaaaaaa',
        'acme/app bbbbbbb',
      ])
      expect(await violations(page)).toEqual([])
      expect(await scrollsSideways(page)).toBe(false)
      await rows.nth(0).getByRole('link', { name: 'acme/app bbbbbbb' }).click()
      await page.waitForURL(`${fleet.url}/builds/${second.id}`)
      expect(complaints).toEqual([])
    }
    await using opened = await browser.open()
    await opened.page.goto(`${fleet.url}/queue`)
    await fleet.store.workers.gone('id-of-two')
    await opened.page.reload()
    expect(await opened.page.locator('.worker').count()).toBe(1)
  })
})

test('the queue says what waits, and for what', async () => {
  const page = await (await ask('/queue')).text()
  expect(page).toContain(builds[0]?.commit?.title)
  expect(page).toContain('waiting for a worker')
})
