import { describe, expect, test } from 'vitest'
import type { Build } from '../../src/lib/core/build.ts'
import { ConveyorError } from '../../src/lib/core/errors.ts'
import { createMetrics, type MetricsOptions } from '../../src/lib/telemetry/metrics/metrics.ts'
import { type Family, parseExposition, sampleOf } from '../support/telemetry/exposition.ts'

const BUILD = {
  id: '11111111-2222-4333-8444-555555555555',
  repository: 'Acme/Web',
  sha: 'a'.repeat(40),
  attempt: 1,
  state: 'building',
  errorKind: null,
  createdAt: new Date(Date.now() - 2000).toISOString(),
} as Build

function ended(state: Build['state'], errorKind: Build['errorKind'] = null, repository = 'acme/web'): Build {
  return { ...BUILD, repository, state, errorKind, completedAt: new Date().toISOString() }
}

function start(options: Partial<MetricsOptions> = {}) {
  const metrics = createMetrics({
    ...{ version: '1.2.3', slots: 4, byRepository: false, http: true, disks: async () => [] },
    ...options,
  })
  const scrape = async (): Promise<Map<string, Family>> => parseExposition(await metrics.scrape())
  return { metrics, builds: metrics.builds, scrape }
}

describe('the metrics of builds', () => {
  test('are a valid scrape before anything has happened, with counters at zero', async () => {
    const scraped = await start().scrape()
    for (const result of ['succeeded', 'reused', 'failed', 'error', 'cancelled']) {
      expect(sampleOf(scraped, 'conveyor_builds_total', { result })).toBe(0)
    }
    expect(sampleOf(scraped, 'conveyor_build_slots')).toBe(4)
    expect(sampleOf(scraped, 'conveyor_build_info', { version: '1.2.3', node: process.version })).toBe(1)
    expect(scraped.has('process_resident_memory_bytes')).toBe(true)
  })

  test('count each way a build can end', async () => {
    const { builds, scrape } = start()
    const end = (build: Build, origin?: 'built' | 'reused') => {
      const attempt = builds.attempt(BUILD)
      if (origin) attempt.published(origin)
      attempt.over('ended', null)
      attempt.ended(build)
    }
    end(ended('succeeded'), 'built')
    end(ended('succeeded'), 'reused')
    end(ended('failed', 'build_failed'))
    end(ended('failed', 'timeout'))
    end(ended('failed', 'unavailable'))
    end(ended('failed', 'unauthorized'))
    builds.ended(ended('cancelled', 'cancelled'))
    const scraped = await scrape()
    const counts = ['succeeded', 'reused', 'failed', 'error', 'cancelled'].map((result) =>
      sampleOf(scraped, 'conveyor_builds_total', { result }),
    )
    expect(counts).toEqual([1, 1, 2, 2, 1])
    expect(sampleOf(scraped, 'conveyor_images_published_total', { origin: 'reused' })).toBe(1)
    expect(sampleOf(scraped, 'conveyor_builds_active')).toBe(0)
  })

  test('time waits, phases and whole builds', async () => {
    const { builds, scrape } = start()
    const attempt = builds.attempt(BUILD)
    attempt.phaseEnded('fetch', Date.now(), 300)
    attempt.phaseEnded('build', Date.now(), 4000)
    attempt.steps({ total: 7, cached: 3 })
    expect(sampleOf(await scrape(), 'conveyor_builds_active')).toBe(1)
    attempt.over('retried', new ConveyorError('unavailable', 'gone'))
    builds.attempt({ ...BUILD, attempt: 2 })
    const scraped = await scrape()
    expect(sampleOf(scraped, 'conveyor_build_phase_seconds_bucket', { phase: 'fetch', le: '0.25' })).toBe(0)
    expect(sampleOf(scraped, 'conveyor_build_phase_seconds_bucket', { phase: 'fetch', le: '0.5' })).toBe(1)
    expect(sampleOf(scraped, 'conveyor_build_phase_seconds_sum', { phase: 'build' })).toBe(4)
    // A retry's wait is chosen, so only the first one counts.
    expect(sampleOf(scraped, 'conveyor_queue_wait_seconds_count')).toBe(1)
    expect(sampleOf(scraped, 'conveyor_queue_wait_seconds_bucket', { le: '1' })).toBe(0)
    expect(sampleOf(scraped, 'conveyor_build_steps_total')).toBe(7)
    expect(sampleOf(scraped, 'conveyor_build_steps_cached_total')).toBe(3)
    expect(sampleOf(scraped, 'conveyor_build_retries_total', { kind: 'unavailable' })).toBe(1)
  })

  test('name at most 100 repositories, in one spelling, and never a branch or a sha', async () => {
    const { metrics, builds, scrape } = start({ byRepository: true })
    for (let i = 0; i < 1000; i++) builds.ended(ended('succeeded', null, `acme/app-${i}`))
    builds.ended(ended('succeeded', null, 'ACME/app-0'))
    const scraped = await scrape()
    const samples = scraped.get('conveyor_builds_total')?.samples ?? []
    expect(samples).toHaveLength(101)
    expect(sampleOf(scraped, 'conveyor_builds_total', { result: 'succeeded', repository: 'other' })).toBe(900)
    expect(
      sampleOf(scraped, 'conveyor_builds_total', { result: 'succeeded', repository: 'acme/app-0' }),
    ).toBe(2)
    expect(await metrics.scrape()).not.toContain(BUILD.sha)
  })

  test('escape what a repository is called', async () => {
    const { builds, scrape } = start({ byRepository: true })
    const hostile = 'acme/a"b\\c\nd'
    builds.ended(ended('succeeded', null, hostile))
    expect(
      sampleOf(await scrape(), 'conveyor_builds_total', { result: 'succeeded', repository: hostile }),
    ).toBe(1)
  })
})

describe('a scrape', () => {
  test('has no depth of a queue that fails or does not answer, and still succeeds', async () => {
    const states: (() => Promise<never>)[] = [
      async () => {
        throw new Error('connection refused')
      },
      () => new Promise(() => {}),
    ]
    for (const depth of states) {
      const scraped = await start({ depth }).scrape()
      expect(sampleOf(scraped, 'conveyor_queue_up')).toBe(0)
      expect(scraped.get('conveyor_queue_depth')?.samples).toEqual([])
      expect(scraped.get('conveyor_queue_oldest_seconds')?.samples).toEqual([])
    }
  })

  test('asks the queue once for several scrapes in a row', async () => {
    let asked = 0
    const depth = async () => {
      asked += 1
      return { ready: 3, leased: 2, oldestSeconds: 42 }
    }
    const { scrape } = start({ depth })
    const [scraped] = await Promise.all([scrape(), scrape(), scrape()])
    await scrape()
    expect(asked).toBe(1)
    expect(sampleOf(scraped as Map<string, Family>, 'conveyor_queue_depth', { state: 'ready' })).toBe(3)
    expect(sampleOf(scraped as Map<string, Family>, 'conveyor_queue_oldest_seconds')).toBe(42)
  })

  test('leaves out disks that do not exist', async () => {
    const scraped = await start({ disks: async () => ['/', '/does/not/exist'] }).scrape()
    const free = sampleOf(scraped, 'conveyor_disk_free_bytes', { path: '/' }) ?? 0
    expect(free).toBeGreaterThan(0)
    expect(sampleOf(scraped, 'conveyor_disk_size_bytes', { path: '/' })).toBeGreaterThan(free)
    expect(scraped.get('conveyor_disk_free_bytes')?.samples).toHaveLength(1)
  })

  test('counts requests by route, and deliveries by what became of them', async () => {
    const { metrics, scrape } = start()
    const webhook = { method: 'POST', route: '/webhooks/github', seconds: 0.01 }
    for (const status of [202, 202, 200, 401, 413, 503]) metrics.answered({ ...webhook, status })
    metrics.answered({ method: 'BREW', route: null, status: 404, seconds: 0.01 })
    const scraped = await scrape()
    const count = (result: string) => sampleOf(scraped, 'conveyor_webhook_deliveries_total', { result })
    expect(['accepted', 'ignored', 'refused', 'invalid', 'failed'].map(count)).toEqual([2, 1, 1, 1, 1])
    const name = 'conveyor_http_request_duration_seconds_count'
    expect(sampleOf(scraped, name, { method: 'other', route: 'none', status: '404' })).toBe(1)
  })
})
