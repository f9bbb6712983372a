// Takes the pictures of docs/page.md: npm run screenshots
import { mkdir } from 'node:fs/promises'
import type { BrowserContextOptions } from 'playwright-core'
import type { Build } from '../../../src/lib/core/build.ts'
import { startBrowser } from '../../support/pages/browser.ts'
import { addSamples, samples } from '../../support/pages/sample-builds.ts'
import { sampleRun } from '../../support/pages/sample-log.ts'
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
  ['build', '/builds/SUCCEEDED', { viewport: { width: 1040, height: 1100 } }],
  ['failed', '/builds/FAILED', { viewport: { width: 1040, height: 900 } }],
]

const clock = { at: Date.now() }
await using server = await startTestServer(
  {
    ...{ webUrl: 'https://github.com', badges: 'public', auth: 'none' },
    baseUrl: () => 'https://conveyor.acme.example',
  },
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
/** The ids of the builds that have a page in the pictures. */
const shown: Record<string, string> = {}
for (const state of ['succeeded', 'failed'] as const) {
  const { builds: found } = await server.store.list({ repository: 'acme/web', state }, { limit: 20 })
  const build = found.map((one) => one.build).find((one) => secondsOf(one) > 10)
  if (!build) throw new Error(`no build has ${state}`)
  const { log, timeline } = sampleRun(build, state === 'failed')
  await server.writeLog(build, log)
  await server.endLog(build)
  await server.store.timelines.put(build.id, timeline)
  shown[state.toUpperCase()] = build.id
}
await using browser = await startBrowser()
await mkdir(FOLDER, { recursive: true })
for (const [name, path, options] of PICTURES) {
  await using opened = await browser.open({ ...options, reducedMotion: 'reduce' })
  const url = server.url + path.replace(/[A-Z]{2,}/, (state) => shown[state] ?? state)
  await opened.page.goto(url, { waitUntil: 'networkidle' })
  if (name === 'build') await opened.page.locator('summary').first().click()
  await opened.page.screenshot({ path: `${FOLDER}${name}.png` })
}

function secondsOf({ startedAt, completedAt }: Build): number {
  return (Date.parse(completedAt ?? '') - Date.parse(startedAt ?? '')) / 1000
}
