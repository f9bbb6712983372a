import { randomUUID } from 'node:crypto'
import { DatabaseSync } from 'node:sqlite'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Build, Head, Ref } from '../../../src/lib/core/build.ts'
import { parseWebhook } from '../../../src/lib/forge/github/webhook/webhook.ts'
import { requestBuild } from '../../../src/lib/pipeline/accept.ts'
import { compareHeads } from '../../../src/lib/pipeline/missed/compare-heads.ts'
import { buildPolicy } from '../../../src/lib/pipeline/policy/build-policy.ts'
import { moveTags } from '../../../src/lib/pipeline/tags/move.ts'
import { tieBreaker } from '../../../src/lib/pipeline/tags/tie-breaker.ts'
import { wantedTags } from '../../../src/lib/pipeline/tags/wanted.ts'
import { memoryQueue } from '../../../src/lib/queue/memory.ts'
import { tagForRef } from '../../../src/lib/registry/naming.ts'
import type { History } from '../../../src/lib/source/source.ts'
import type { BuildStore } from '../../../src/lib/store/build-store.ts'
import { sqliteBuildStore } from '../../../src/lib/store/sqlite/sqlite.ts'
import { pushPayload } from '../../support/github/push.ts'
import { tagMap } from '../../support/registry/tag-map.ts'
import { tempDir } from '../../support/temp.ts'

/**
 * Random histories of pushes, force pushes and deletions, whose webhooks arrive late, twice, or never, at a server that
 * compares heads and dies at any moment. In the end every head has been built once, and the tags are where the heads are.
 */

const REPOSITORY = 'acme/app'
const NOTHING = '0'.repeat(40)
const REFS: readonly Ref[] = [
  ...['main', 'dev', 'topic'].map((name) => ({ kind: 'branch', name }) as const),
  ...['v1', 'v2'].map((name) => ({ kind: 'tag', name }) as const),
]
const MAIN = REFS[0] as Ref
/** The commits to push, each as the index of its parent. */
const PARENTS = [null, 0, 1, 2, 0, 4, 1, 6]
/** More than clocks may differ, in seconds. */
const AN_HOUR = 3600
const sha = (commit: number) => (commit + 1).toString(16).padStart(40, 'c')

type Step =
  /** Moves a ref to a commit, or deletes it. */
  | { kind: 'push'; ref: number; commit: number | null; seconds: number }
  /** Delivers the webhook of one of the pushes, again if it was delivered before. */
  | { kind: 'deliver'; which: number }
  | { kind: 'compare'; waits: boolean }
  | { kind: 'build' }
  | { kind: 'restart' }
  /** The server dies in the call of its store that is so many calls away, before or after it has taken effect. */
  | { kind: 'crash'; after: number; done: boolean }

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 7,
    arbitrary: fc.record({
      kind: fc.constant('push' as const),
      ref: fc.nat(REFS.length - 1),
      commit: fc.option(fc.nat(PARENTS.length - 1), { freq: 6 }),
      seconds: fc.constantFrom(0, 1, ...Array(4).fill(AN_HOUR)),
    }),
  },
  { weight: 5, arbitrary: fc.record({ kind: fc.constant('deliver' as const), which: fc.nat() }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('compare' as const), waits: fc.boolean() }) },
  { weight: 4, arbitrary: fc.constant({ kind: 'build' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'restart' as const }) },
  {
    weight: 2,
    arbitrary: fc.record({ kind: fc.constant('crash' as const), after: fc.nat(12), done: fc.boolean() }),
  },
)

interface Pushed {
  ref: Ref
  before: string
  /** Null: it was deleted. */
  sha: string | null
  pushedAt: number
  delivery: string
}

class Crash extends Error {}

class World {
  readonly pushes: Pushed[] = []
  readonly heads = new Map<Ref, string>()
  /** What was there when the repository was first compared. */
  known: Set<string> | null = null
  /** The commit of each tag's image. */
  readonly tags = new Map<string, string>()
  readonly #file: string
  readonly #policy: ReturnType<typeof buildPolicy>
  #store: BuildStore
  #second = 1_700_000_000
  #crash: { after: number; done: boolean } | null = null

  private constructor(file: string, store: BuildStore, supersede: 'off' | 'queued' | 'running') {
    this.#file = file
    this.#store = store
    this.#policy = buildPolicy(() => ({ branches: [], tags: [] }), supersede)
  }

  static async open(dir: string, supersede: 'off' | 'queued' | 'running'): Promise<World> {
    const file = `${dir}/${randomUUID()}.db`
    return new World(file, await sqliteBuildStore({ file }), supersede)
  }

  async step(one: Step): Promise<void> {
    try {
      if (one.kind === 'push') this.push(one)
      else if (one.kind === 'restart') await this.restart()
      else if (one.kind === 'crash') this.#crash = { ...one }
      else if (one.kind === 'build') await this.buildNext()
      else if (one.kind === 'compare') await this.compare(one.waits ? 3600 : 0)
      else {
        const push = this.pushes[one.which % Math.max(this.pushes.length, 1)]
        if (push) await this.deliver(push)
      }
    } catch (error) {
      if (!(error instanceof Crash)) throw error
      await this.restart()
    }
  }

  push({ ref: index, commit, seconds }: Pick<Step & { kind: 'push' }, 'ref' | 'commit' | 'seconds'>): void {
    const ref = REFS[index] as Ref
    // The default branch stays.
    const to = commit === null && index > 0 ? null : sha(commit ?? 0)
    const before = this.heads.get(ref) ?? null
    if (before === to) return
    if (to === null) this.heads.delete(ref)
    else this.heads.set(ref, to)
    this.#second += seconds
    this.pushes.push({
      ...{ ref, before: before ?? NOTHING, sha: to, pushedAt: this.#second },
      ...{ delivery: randomUUID() },
    })
  }

  /** As the server handles a webhook. */
  async deliver(push: Pushed): Promise<void> {
    const { ref, before, pushedAt } = push
    const full = `refs/${ref.kind === 'tag' ? 'tags' : 'heads'}/${ref.name}`
    const facts = { repository: REPOSITORY, ref: full, before, pushedAt, defaultBranch: 'main' }
    const payload = await pushPayload({
      ...{ ...facts, sha: push.sha ?? NOTHING, deleted: push.sha === null, tree: push.sha ?? NOTHING },
    })
    const webhook = parseWebhook('push', push.delivery, payload)
    if (webhook.kind !== 'build') {
      expect(push.sha).toBe(null)
      return
    }
    const supersede = this.#policy.supersedes(ref, 'main')
    await requestBuild({ ...webhook.request, ...(supersede && { supersede }) }, this.#parts)
  }

  async compare(waitS: number): Promise<void> {
    await this.#store.comparisons.restart()
    const [comparison] = await this.#store.comparisons.due(1)
    // No webhook has come yet.
    if (!comparison) return
    if (comparison.heads === null)
      this.known = new Set([...this.heads].map(([ref, head]) => `${ref.name} ${head}`))
    const heads = async (): Promise<Head[]> =>
      [...this.heads].map(([ref, head]) => ({ ref, sha: head, object: head }))
    const remote = {
      heads,
      commits: async (_: string, ids: string[]) =>
        new Map(
          ids.map((id) => {
            const info = { title: 'x', author: 'Ada', login: null }
            return [id, { tree: id, committedAt: new Date(0).toISOString(), info, message: 'x' }]
          }),
        ),
    }
    const options = { waitS, intervalS: 240, signal: new AbortController().signal }
    this.#second += AN_HOUR
    try {
      const parts = { ...this.#parts, remote, history: this.#history, policy: this.#policy, pulls: true }
      await compareHeads(comparison, parts, options)
    } finally {
      await this.#backdate()
    }
  }

  /** The time of what has just been found is that of this world. */
  async #backdate(): Promise<void> {
    await this.#store.close()
    const file = new DatabaseSync(this.#file)
    const time = new Date(this.#second * 1000).toISOString()
    file.prepare(`update pushes set found_at = ? where found_at > '2025'`).run(time)
    file.close()
    this.#store = await sqliteBuildStore({ file: this.#file })
  }

  /** Runs the oldest build that waits; whether there was one. */
  async buildNext(): Promise<boolean> {
    const store = this.#mortal
    const [next] = await this.#store.unfinished()
    if (!next) return false
    const claimed = await store.claim(next.id)
    if (!claimed) throw new Error(`${next.id} cannot be claimed`)
    if (claimed.cancel) {
      await this.#cancel(claimed)
      return true
    }
    const names = { image: () => 'registry.test/acme/app', tag: tagForRef }
    const registry = tagMap(this.tags)
    for (let refs = claimed; ; refs = (await this.#store.get(next.id)) ?? refs) {
      const parts = { history: this.#history, say: async (line: string) => expect(line).toBe('') }
      const settle = tieBreaker(REPOSITORY, parts, new AbortController().signal)
      const wanted = wantedTags(refs, 'always', names)
      const moved = await moveTags({ store, registry }, 'registry.test/acme/app', next.sha, wanted, settle)
      const result = { state: 'succeeded', image: `registry.test/acme/app@${next.sha}`, tags: moved } as const
      const finish = await store.finish(next.id, claimed.attempt, refs.refs.length, result)
      if (finish === 'refs_added') continue
      expect(finish).toBe('finished')
      return true
    }
  }

  async #cancel({ id, attempt, refs }: Build & { attempt: number }): Promise<void> {
    const result = { state: 'cancelled', error: 'superseded', errorKind: 'cancelled' } as const
    await this.#store.finish(id, attempt, refs.length, result)
  }

  async builds(): Promise<Build[]> {
    const { builds } = await this.#store.list({ repository: REPOSITORY }, { limit: 100 })
    return builds.map(({ build }) => build)
  }

  async restart(): Promise<void> {
    this.#crash = null
    await this.#store.close()
    this.#store = await sqliteBuildStore({ file: this.#file })
  }

  close(): Promise<void> {
    return this.#store.close()
  }

  get #parts() {
    return { store: this.#mortal, queue: memoryQueue(), log: () => {} }
  }

  /** The store, until the server dies. */
  get #mortal(): BuildStore {
    return this.#dying(this.#store)
  }

  #dying<T extends object>(target: T): T {
    return new Proxy(target, {
      get: (_, name) => {
        const value = Reflect.get(target, name) as unknown
        if (typeof value === 'object' && value !== null) return this.#dying(value)
        if (typeof value !== 'function') return value
        return async (...args: unknown[]) => {
          const crash = this.#crash
          const dies = crash !== null && crash.after-- === 0
          if (dies && !crash.done) throw new Crash()
          const result = await (value as (...all: unknown[]) => unknown).apply(target, args)
          if (dies) throw new Crash()
          return result
        }
      },
    })
  }

  readonly #history: History = {
    head: async (_, ref) => {
      const head = this.heads.get(REFS.find((one) => one.kind === ref?.kind && one.name === ref.name) ?? MAIN)
      if (ref === null) return { ref: MAIN, sha: this.heads.get(MAIN) ?? sha(0) }
      const isThere = REFS.some(
        (one) => one.kind === ref.kind && one.name === ref.name && this.heads.has(one),
      )
      return isThere && head !== undefined ? { ref, sha: head } : null
    },
    contains: async (_, head, other) => {
      const commit = (id: string) => PARENTS.findIndex((__, index) => sha(index) === id)
      for (let at: number | null | undefined = commit(head); at != null; at = PARENTS[at]) {
        if (at === commit(other)) return true
      }
      return false
    },
  } as History
}

const isApart = (steps: Step[]) => steps.every((one) => one.kind !== 'push' || one.seconds === AN_HOUR)

const SUPERSEDE = ['off', 'queued', 'running'] as const

test.each(SUPERSEDE)(
  'every head is built once, and tags follow their refs (--supersede %s)',
  async (supersede) => {
    await using dir = await tempDir()
    const property = fc.asyncProperty(fc.array(step, { minLength: 3, maxLength: 30 }), async (steps) => {
      const world = await World.open(dir.path, supersede)
      try {
        world.push({ ref: 0, commit: 0, seconds: 0 })
        await world.deliver(world.pushes[0] as Pushed)
        for (const one of steps) await world.step(one)
        const finish = async () => {
          await world.restart()
          await world.compare(0)
          while (await world.buildNext());
        }
        await finish()
        const before = await world.builds()
        await check(world, before, isApart(steps))
        // All webhooks arrive after all, those that were delivered again.
        for (const push of world.pushes) await world.deliver(push)
        await finish()
        const after = await world.builds()
        await check(world, after, isApart(steps))
        // Comparing again finds nothing.
        await finish()
        expect((await world.builds()).length).toBe(after.length)
      } finally {
        await world.close()
      }
    })
    await fc.assert(property, { numRuns: 30, endOnFailure: false, interruptAfterTimeLimit: 100_000 })
  },
  120_000,
)

async function check(world: World, builds: Build[], isApart: boolean): Promise<void> {
  for (const [ref, head] of world.heads) {
    const ofHead = builds.filter(
      (build) =>
        build.sha === head && build.refs.some((one) => one.kind === ref.kind && one.name === ref.name),
    )
    const wasKnown = world.known?.has(`${ref.name} ${head}`) ?? false
    if (ofHead.length === 0 && wasKnown) continue
    expect(
      ofHead.map(({ state }) => state),
      `builds of ${ref.name} at ${head}`,
    ).toContain('succeeded')
    expect(world.tags.get(ref.name), `the tag of ${ref.name}`).toBe(head)
  }
  // Which of two pushes of a moment was found, only GitHub could tell.
  for (const { sha: commit } of isApart ? builds : []) {
    const all = builds.filter((build) => build.sha === commit)
    const pushes = world.pushes.filter((push) => push.sha === commit)
    expect(all.length, `builds of ${commit}`).toBeLessThanOrEqual(pushes.length)
  }
}
