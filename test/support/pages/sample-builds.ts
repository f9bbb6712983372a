import { createHash } from 'node:crypto'
import type { Build, Ref } from '../../../src/lib/core/build.ts'
import type { Phase, Step } from '../../../src/lib/core/timeline.ts'
import type { BuildStore } from '../../../src/lib/store/build-store.ts'

/** The time of a store. */
export interface Clock {
  /** In milliseconds. */
  at: number
}

/** A build to store. */
export interface Sample {
  repository: string
  ref: Ref
  title: string
  login: string
  /** Minutes before now. */
  age: number
  seconds: number
  outcome: 'succeeded' | 'reused' | 'failed' | 'cancelled' | 'building' | 'pending'
  steps?: [cached: number, all: number]
}

const TITLES = [
  'Retry the upload when the registry closes the connection',
  'Bump node from 24.10.0 to 24.21.0',
  'Checkout: show taxes before the address is complete',
  'Fix the flaky test of the scheduler',
  'Cache the rates of the day',
  'Rename Basket to Cart everywhere',
  'Log slow queries with their plans',
  'Remove the old importer',
  'Ship the worker without its dev dependencies',
  'README: how to run it locally',
]
const LOGINS = ['ada', 'grace-h', 'linus', 'margaret', 'renovate[bot]']
const REPOSITORIES = ['acme/web', 'acme/api', 'acme/billing', 'acme/worker']
const BRANCHES = ['main', 'main', 'taxes-first', 'renovate/node-24.x', 'main', 'fix/upload-retry']

/** The same builds each time, newest first: the first ones have not ended. */
export function samples(count: number): Sample[] {
  return Array.from({ length: count }, (_, index): Sample => {
    const repository = REPOSITORIES[(index * 7 + (index >> 2)) % REPOSITORIES.length] as string
    const all = 9 + ((index * 5) % 4)
    const outcome =
      index === 0
        ? 'pending'
        : index < 3
          ? 'building'
          : index % 11 === 4
            ? 'failed'
            : index % 29 === 13
              ? 'cancelled'
              : index % 4 === 1
                ? 'reused'
                : 'succeeded'
    const seconds = outcome === 'reused' ? 0.3 + (index % 5) / 10 : 4 + ((index * 13) % 37) + (index % 3) / 10
    const tag = index === 9
    return {
      repository,
      ref: tag
        ? { kind: 'tag', name: 'v2.14.0' }
        : { kind: 'branch', name: BRANCHES[(index * 5) % BRANCHES.length] as string },
      title: TITLES[(index * 3) % TITLES.length] as string,
      login: LOGINS[(index * 2) % LOGINS.length] as string,
      age: index < 3 ? index * 0.2 + 0.1 : index * index * 0.9 + 2,
      seconds,
      outcome,
      steps: [outcome === 'failed' ? 2 : all - 1 - (index % 5), all],
    }
  })
}

function shaOf(index: number): string {
  return createHash('sha1').update(`commit ${index}`).digest('hex')
}

/**
 * Puts builds into a store, oldest first, each at its time.
 * @param clock what the store takes for the time; it is left at `now`
 * @returns the builds in the order of `wanted`
 */
export async function addSamples(
  store: BuildStore,
  clock: Clock,
  wanted: readonly Sample[],
  now: number,
): Promise<Build[]> {
  const builds: Build[] = []
  for (const [index, sample] of [...wanted.entries()].reverse()) {
    const created = now - sample.age * 60_000
    clock.at = created
    const sha = shaOf(index)
    const { build } = await store.accept({
      repository: sample.repository,
      sha,
      ref: sample.ref,
      defaultBranch: 'main',
      cache: true,
      commit: { title: sample.title, author: sample.login, login: sample.login },
      source: { kind: 'api' },
    })
    builds[index] = build
    if (sample.outcome === 'pending') continue
    const claimed = await store.claim(build.id)
    if (!claimed) throw new Error('not claimed')
    await store.timelines.put(build.id, timelineOf(sample, created))
    if (sample.outcome === 'building') continue
    clock.at = created + sample.seconds * 1000
    const digest = createHash('sha256').update(`${sample.repository} ${index}`).digest('hex')
    const name = `registry.acme.example/${sample.repository}`
    await store.finish(
      build.id,
      claimed.attempt,
      claimed.refs.length,
      sample.outcome === 'failed' || sample.outcome === 'cancelled'
        ? {
            state: sample.outcome,
            error:
              sample.outcome === 'failed'
                ? 'process "/bin/sh -c npm run test" did not complete successfully: exit code: 1'
                : 'cancelled by ada',
            errorKind: sample.outcome === 'failed' ? 'build_failed' : 'cancelled',
          }
        : { state: 'succeeded', image: `${name}@sha256:${digest}`, tags: [`${name}:${sample.ref.name}`] },
    )
  }
  clock.at = now
  return builds
}

function timelineOf({ outcome, steps: [cached, all] = [0, 0] }: Sample, created: number) {
  const startedAt = new Date(created).toISOString()
  const names: Phase['name'][] =
    outcome === 'reused' ? ['look up', 'tags'] : ['look up', 'fetch', 'build', 'push']
  const steps = Array.from(
    { length: outcome === 'reused' ? 0 : all },
    (_, index): Step => ({
      number: index + 1,
      name: `[${index + 1}/${all}] RUN step ${index + 1}`,
      digest: `sha256:${index}`,
      inputs: index === 0 ? [] : [index],
      startedAt,
      completedAt: startedAt,
      state: index < cached ? 'cached' : 'done',
      error: null,
      warnings: [],
    }),
  )
  const phases = names.map((name): Phase => ({ name, startedAt, ms: 100 }))
  return { attempt: 1, phases, steps, critical: [], missed: null, made: null }
}
