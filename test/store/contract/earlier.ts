import { expect } from 'vitest'
import type { Push } from '../../../src/lib/core/push-order.ts'
import type { BuildStore } from '../../../src/lib/store/build-store.ts'
import { migrations } from '../../../src/lib/store/sql/migrations.ts'
import { OTHER_SHA, push, SHA } from './subject.ts'

/** The tables from before pushes were recorded. */
export const EARLIER = Object.fromEntries(Object.entries(migrations).filter(([name]) => name < '006'))

/** Data from such a version: a release, and a branch of the same name that took over its docker tag. */
export const LEFT = [
  ...[
    { id: '1', sequence: 1, sha: SHA, kind: 'tag' },
    { id: '2', sequence: 2, sha: OTHER_SHA, kind: 'branch' },
    // Rebuilt, with the sequence number of its push.
    { id: '3', sequence: 3, sha: SHA, kind: 'tag' },
  ].flatMap(({ id, sequence, sha, kind }) => [
    `insert into builds (id, sequence, repository, repository_key, sha, cache, push_order, state, created_at)
     values ('${id}', ${sequence}, 'Acme/App', 'acme/app', '${sha}', 1, ${kind === 'tag' ? 1 : 2}, 'succeeded', '')`,
    `insert into build_refs (build_id, kind, name, sequence, position)
     values ('${id}', '${kind}', 'v1.2', ${kind === 'tag' ? 1 : 2}, ${sequence})`,
  ]),
  `insert into tag_positions (image_name, tag, sequence) values ('registry.test/acme/app', 'v1.2', 2)`,
  `update counters set value = 3 where name = 'sequence'`,
]

/** Checks that the store works on from there. */
export async function expectGoesOn(store: BuildStore): Promise<void> {
  expect(await store.announced('acme/app', SHA, { kind: 'tag', name: 'v1.2' })).toBe(true)
  const facts = { before: OTHER_SHA, after: 'c'.repeat(40), pushedAt: 100 }
  const { build } = await store.accept(push('v1.2', { sha: facts.after, push: facts }))
  const moved = async (kind: 'branch' | 'tag', sequence: number) => {
    const asked: Push[] = []
    const owner = { ref: { kind, name: 'v1.2' }, others: ['v1.2--spare'] }
    const settle = async (candidate: Push, recorded: Push) => {
      asked.push(candidate, recorded)
      return false
    }
    const move = { tag: 'v1.2', sequence, owner }
    return { tags: await store.moveTags('registry.test/acme/app', [move], async () => {}, settle), asked }
  }
  // The release had the tag first.
  expect(await moved('branch', build.pushOrder)).toEqual({ tags: ['v1.2--spare'], asked: [] })
  expect((await moved('tag', 1)).tags).toEqual([])
  // The commit that a tag points at is known, at least, so the git server can be asked about it.
  const again = await store.accept(
    push('x', { ref: { kind: 'tag', name: 'v1.2' }, push: { ...facts, after: SHA } }),
  )
  expect((await moved('tag', again.build.pushOrder)).tags).toEqual(['v1.2'])
}
