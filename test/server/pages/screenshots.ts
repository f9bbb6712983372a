// Takes the pictures of docs/page.md: npm run screenshots
import { mkdir } from 'node:fs/promises'
import type { BrowserContextOptions } from 'playwright-core'
import { startBrowser } from '../../support/pages/browser.ts'
import { addSamples, samples } from '../../support/pages/sample-builds.ts'
import { startTestServer } from '../../support/test-server.ts'

const FOLDER = new URL('../../../docs/screenshots/', import.meta.url).pathname
const DESKTOP = { viewport: { width: 1040, height: 640 } }
const PHONE = { viewport: { width: 390, height: 720 }, isMobile: true, hasTouch: true }

/** Name of the picture, path of the page, and the window. */
const PICTURES: [string, string, BrowserContextOptions][] = [
  ['list', '/', DESKTOP],
  ['dark', '/', { ...DESKTOP, colorScheme: 'dark' }],
  ['phone', '/', PHONE],
  ['repository', '/repositories/acme/web', { viewport: { width: 1040, height: 900 } }],
  ['queue', '/queue', DESKTOP],
]

const clock = { at: Date.now() }
await using server = await startTestServer(
  { webUrl: 'https://github.com', badges: 'public', baseUrl: () => 'https://conveyor.acme.example' },
  () => new Date(clock.at),
)
const builds = await addSamples(server.store, clock, samples(160), clock.at)
for (const [host, warm] of Object.entries({
  'build-1': ['acme/web', 'acme/api'],
  'build-2': ['acme/billing', 'acme/worker'],
})) {
  const busy = builds[host === 'build-1' ? 1 : 2]?.id ?? ''
  await server.store.workers.seen({
    ...{ id: host, host, pid: 4211, version: '1.2.3', slots: 1, builds: [busy], warm },
    startedAt: new Date(clock.at - 90_000_000).toISOString(),
  })
}
await using browser = await startBrowser()
await mkdir(FOLDER, { recursive: true })
for (const [name, path, options] of PICTURES) {
  await using opened = await browser.open({ ...options, reducedMotion: 'reduce' })
  await opened.page.goto(server.url + path, { waitUntil: 'networkidle' })
  await opened.page.screenshot({ path: `${FOLDER}${name}.png` })
}
