import { randomUUID } from 'node:crypto'
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { parseWebhook } from '../../../src/lib/forge/github/webhook/webhook.ts'
import { moveTags } from '../../../src/lib/pipeline/tags/move.ts'
import { tieBreaker } from '../../../src/lib/pipeline/tags/tie-breaker.ts'
import { wantedTags } from '../../../src/lib/pipeline/tags/wanted.ts'
import { tagForRef } from '../../../src/lib/registry/naming.ts'
import { gitHistory } from '../../../src/lib/source/git/history.ts'
import { sqliteBuildStore } from '../../../src/lib/store/sqlite/sqlite.ts'
import { createGitRepository, type GitRepository } from '../../support/git/repository.ts'
import { pushPayload } from '../../support/github/push.ts'
import { tagMap } from '../../support/registry/tag-map.ts'
import { tempDir } from '../../support/temp.ts'

/**
 * Random histories of pushes to a real repository, whose webhooks arrive late, in any order, repeatedly, or not at all,
 * at a store that is sometimes reopened. Checks where the tags point against which commits were pushed when.
 */

const REPOSITORY = 'acme/app'
const NOTHING = '0'.repeat(40)
const BRANCHES = ['main', 'dev']
/** The commits to push, each as the index of its parent: a line of four, and two that branch off. */
const PARENTS = [null, 0, 1, 2, 0, 1]

/** A push, a delivery of an earlier push, or a restart. */
type Step =
  | { kind: 'push'; branch: number; commit: number; seconds: number }
  | { kind: 'deliver'; which: number; sameId: boolean }
  | { kind: 'restart' }

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    {
      weight: 5,
      arbitrary: fc.record({
        kind: fc.constant('push' as const),
        branch: fc.nat(BRANCHES.length - 1),
        commit: fc.nat(PARENTS.length - 1),
        seconds: fc.nat(1),
      }),
    },
    {
      weight: 7,
      arbitrary: fc.record({
        kind: fc.constant('deliver' as const),
        which: fc.nat(),
        sameId: fc.boolean(),
      }),
    },
    { weight: 1, arbitrary: fc.constant({ kind: 'restart' as const }) },
  ),
  { minLength: 3, maxLength: 24 },
)

interface Pushed {
  branch: string
  before: string
  sha: string
  pushedAt: number
  delivered: boolean
  delivery: string
}

/** Creates the repository and its commits; the histories then move its branches. */
async function repositoryIn(dir: string): Promise<{ git: GitRepository; commits: string[] }> {
  const git = await createGitRepository(`${dir}/${REPOSITORY}.git`, '')
  const commits: string[] = []
  for (const [i, parent] of PARENTS.entries()) {
    const from = parent === null ? {} : { from: commits[parent] ?? '' }
    commits.push(await git.commit({ file: String(i) }, { branch: 'work', ...from }))
  }
  return { git, commits }
}

class World {
  readonly pushes: Pushed[] = []
  /** The commit of each tag's image. */
  readonly tags = new Map<string, string>()
  readonly #git: GitRepository
  readonly #commits: string[]
  readonly #file: string
  readonly #history: ReturnType<typeof gitHistory>
  #store: Awaited<ReturnType<typeof sqliteBuildStore>>
  #second = 1_700_000_000
  /** For each branch, the index of the newest push that its tag has pointed at. */
  readonly #published = new Map<string, number>()

  private constructor(
    at: { git: GitRepository; commits: string[]; file: string; history: ReturnType<typeof gitHistory> },
    store: Awaited<ReturnType<typeof sqliteBuildStore>>,
  ) {
    this.#git = at.git
    this.#commits = at.commits
    this.#file = at.file
    this.#history = at.history
    this.#store = store
  }

  static async open(at: { git: GitRepository; commits: string[]; dir: string }): Promise<World> {
    for (const branch of BRANCHES) await at.git.git('update-ref', '-d', `refs/heads/${branch}`)
    const file = `${at.dir}/${randomUUID()}.db`
    const history = gitHistory({ dir: `${at.dir}/history`, url: `file://${at.dir}/{repository}.git` })
    return new World({ ...at, file, history }, await sqliteBuildStore({ file }))
  }

  async step(step: Step): Promise<void> {
    if (step.kind === 'push') return this.#push(step)
    if (step.kind === 'restart') {
      await this.#store.close()
      this.#store = await sqliteBuildStore({ file: this.#file })
      return
    }
    const push = this.pushes[step.which % Math.max(this.pushes.length, 1)]
    if (push) await this.deliver(push, step.sameId)
  }

  async #push({ branch: index, commit, seconds }: Step & { kind: 'push' }): Promise<void> {
    const branch = BRANCHES[index] ?? ''
    const sha = this.#commits[commit] ?? ''
    const before = this.headOf(branch) ?? NOTHING
    if (before === sha) return
    await this.#git.git('update-ref', `refs/heads/${branch}`, sha)
    this.#second += seconds
    const rest = { pushedAt: this.#second, delivered: false, delivery: randomUUID() }
    this.pushes.push({ branch, before, sha, ...rest })
  }

  headOf(branch: string): string | undefined {
    return this.pushes.findLast((push) => push.branch === branch)?.sha
  }

  /** Delivers the webhook, and runs its build. */
  async deliver(push: Pushed, sameId: boolean): Promise<void> {
    const { branch, before, sha, pushedAt } = push
    const delivery = sameId ? push.delivery : randomUUID()
    const payload = await pushPayload({
      ...{ repository: REPOSITORY, ref: `refs/heads/${branch}`, before, sha, pushedAt },
    })
    const webhook = parseWebhook('push', delivery, payload)
    if (webhook.kind !== 'build') throw new Error('the push is ignored')
    const { build } = await this.#store.accept(webhook.request)
    push.delivered = true
    const claimed = await this.#store.claim(build.id)
    if (!claimed) return
    const names = { image: () => 'registry.test/acme/app', tag: tagForRef }
    const registry = tagMap(this.tags)
    const wanted = wantedTags(claimed, 'always', names)
    const parts = { history: this.#history, say: async (line: string) => expect(line).toBe('') }
    const settle = tieBreaker(REPOSITORY, parts, new AbortController().signal)
    const moved = await moveTags(
      { store: this.#store, registry },
      'registry.test/acme/app',
      sha,
      wanted,
      settle,
    )
    const result = { state: 'succeeded', image: `registry.test/acme/app@${sha}`, tags: moved } as const
    expect(await this.#store.finish(build.id, claimed.attempt, claimed.refs.length, result)).toBe('finished')
    if (moved.includes(branch)) this.#check(push)
  }

  /** A tag must not move to an earlier push, as far as the order of pushes can be known. */
  #check(push: Pushed): void {
    const at = this.pushes.indexOf(push)
    const was = this.#published.get(push.branch) ?? -1
    const newest = this.pushes[was]
    const head = this.headOf(push.branch)
    const excused =
      newest === undefined ||
      // The tag may always follow its branch.
      push.sha === head ||
      // If two pushes are identical, a replay may belong to the later one.
      this.pushes.slice(was + 1).some((other) => isSame(other, push)) ||
      // If both were within one second, and the branch is elsewhere by now, only the pushes in between could tell.
      (newest.pushedAt === push.pushedAt && newest.sha !== head)
    if (!excused) expect(at).toBeGreaterThanOrEqual(was)
    this.#published.set(push.branch, Math.max(at, excused ? at : was))
  }

  async close(): Promise<void> {
    await this.#store.close()
  }
}

function isSame(one: Pushed, other: Pushed): boolean {
  const key = ({ branch, before, sha, pushedAt }: Pushed) => [branch, before, sha, pushedAt].join()
  return key(one) === key(other)
}

test('every branch tag ends up at the delivered head of its branch, and no tag moves back', async () => {
  await using dir = await tempDir()
  const repository = await repositoryIn(dir.path)
  const property = fc.asyncProperty(steps, async (history) => {
    const world = await World.open({ ...repository, dir: dir.path })
    try {
      for (const step of history) await world.step(step)
      // Finally, the heads are delivered, then all pushes again.
      for (const branch of BRANCHES) {
        const head = world.pushes.findLast((push) => push.branch === branch)
        if (head && !head.delivered) await world.deliver(head, true)
      }
      const expectHeads = () => {
        for (const branch of BRANCHES) expect(world.tags.get(branch)).toBe(world.headOf(branch))
      }
      expectHeads()
      const last = world.pushes.filter(({ pushedAt }) => pushedAt === world.pushes.at(-1)?.pushedAt)
      const newest = world.tags.get('latest')
      if (newest !== undefined) expect(last.map(({ sha }) => sha)).toContain(newest)
      for (const push of world.pushes.toReversed()) await world.deliver(push, false)
      expectHeads()
      if (last.length === 1) expect(world.tags.get('latest')).toBe(newest)
    } finally {
      await world.close()
    }
  })
  await fc.assert(property, { numRuns: 60, endOnFailure: false, interruptAfterTimeLimit: 100_000 })
})
