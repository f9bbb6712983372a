import { describe, expect, it } from 'vitest'
import type { BuildState, CommitInfo } from '../../../../src/lib/core/build.ts'
import type { BuildFilter } from '../../../../src/lib/store/build-list.ts'
import { failed, push, request, type Subject, succeeded } from '../subject.ts'

/** The sha of the build with this number. */
export const shaOf = (number: number) => number.toString(16).padStart(40, '0')

const titled = (title: string): CommitInfo => ({ title, author: 'Ada', login: 'ada' })

/** Lists of builds: filters and pages. */
export function listing(subject: Subject): void {
  describe('list', () => {
    let number = 0
    const added = async (branch: string, change: Parameters<typeof push>[1] = {}) => {
      number += 1
      return (await subject.accepted(push(branch, { sha: shaOf(number), ...change }))).sequence
    }
    const listed = async (filter: BuildFilter, limit = 100) =>
      (await subject.store.list(filter, { limit })).builds.map(({ build }) => build.sequence)

    /** All pages, and how many there were. */
    async function paged(
      filter: BuildFilter,
      limit: number,
    ): Promise<{ sequences: number[]; pages: number }> {
      const sequences: number[] = []
      let cursor: string | undefined
      for (let pages = 1; ; pages++) {
        const { builds, next } = await subject.store.list(filter, { limit, ...(cursor && { cursor }) })
        sequences.push(...builds.map(({ build }) => build.sequence))
        if (next === null) return { sequences, pages }
        cursor = next
      }
    }

    it('has builds as they are, newest first, with their images', async () => {
      expect(await subject.store.list({}, { limit: 10 })).toEqual({ builds: [], next: null })
      const one = await subject.accepted(push('main', { sha: shaOf(1), commit: titled('One') }))
      await subject.accepted(push('other', { sha: shaOf(1) }))
      const ended = await subject.ended(one.id)
      const two = await subject.accepted(request({ sha: shaOf(2) }))
      expect(await subject.store.list({}, { limit: 10 })).toEqual({
        builds: [
          { build: two, image: null },
          { build: ended, image: `registry.test/acme/app@sha256:${'0'.repeat(64)}` },
        ],
        next: null,
      })
      expect(ended.refs).toHaveLength(2)
    })

    it('by repository in any case, branch, state, time, and all of it together', async () => {
      const app = await added('main')
      const other = await added('main', { repository: 'acme/other' })
      subject.clock += 1000
      const since = new Date(subject.clock).toISOString()
      const feature = await added('feature/x')
      const tag = await added('v1', { ref: { kind: 'tag', name: 'v1' } })
      const { builds } = await subject.store.list({ branch: 'feature/x' }, { limit: 1 })
      await subject.ended(builds[0]?.build.id ?? '', failed())

      expect(await listed({ repository: 'ACME/app' })).toEqual([tag, feature, app])
      expect(await listed({ repository: 'acme/ap' })).toEqual([])
      expect(await listed({ branch: 'main' })).toEqual([other, app])
      expect(await listed({ branch: 'Main' })).toEqual([])
      const before = builds[0]?.build.sequence ?? 0
      expect(await listed({ before })).toEqual([other, app])
      expect(await listed({ before, branch: 'main', repository: 'acme/app' })).toEqual([app])
      expect(await listed({ before: 1 })).toEqual([])
      expect(await listed({ branch: 'v1' })).toEqual([])
      expect(await listed({ branch: 'main', repository: 'acme/Other' })).toEqual([other])
      expect(await listed({ state: 'failed' })).toEqual([feature])
      expect(await listed({ state: 'pending' })).toEqual([tag, other, app])
      expect(await listed({ state: 'pending', branch: 'main' })).toEqual([other, app])
      expect(await listed({ state: 'failed', branch: 'main' })).toEqual([])
      expect(await listed({ since })).toEqual([tag, feature])
      expect(await listed({ since, state: 'pending', repository: 'acme/app' })).toEqual([tag])
      expect(await listed({ since: '2030-01-02T04:04:06.678+01:00' })).toEqual([tag, feature])
      expect(await listed({ since: new Date(subject.clock + 1).toISOString() })).toEqual([])
      await expect(listed({ since: 'yesterday' })).rejects.toMatchObject({ kind: 'invalid', field: 'since' })
    })

    it('by every state', async () => {
      const ended: Partial<Record<BuildState, number>> = {}
      for (const state of ['succeeded', 'failed', 'cancelled'] as const) {
        const { id, sequence } = await subject.accepted(request({ sha: shaOf(number++) }))
        await subject.ended(id, state === 'succeeded' ? succeeded() : failed('no', state))
        ended[state] = sequence
      }
      const building = await subject.accepted(request({ sha: shaOf(number++) }))
      await subject.claimed(building.id)
      for (const [state, sequence] of Object.entries({
        ...ended,
        building: building.sequence,
        pending: null,
      }))
        expect(await listed({ state: state as BuildState })).toEqual(sequence === null ? [] : [sequence])
    })

    it('counts a branch that has joined a build', async () => {
      const { sequence } = await subject.accepted(push('main'))
      const later = await added('later')
      await subject.accepted(push('later'))
      expect(await listed({ branch: 'later' })).toEqual([later, sequence])
    })

    it('searches title, branch, repository and the beginning of the sha, in any case', async () => {
      const fix = await added('main', {
        commit: titled('Fix ÄRGER with the Cache'),
        sha: 'abcdef1'.padEnd(40, '9'),
      })
      const web = await added('release/Blue', { repository: 'Acme/Web', sha: 'abcdef2'.padEnd(40, '9') })
      expect(await listed({ text: 'ärger WITH' })).toEqual([fix])
      expect(await listed({ text: 'e/bl' })).toEqual([web])
      expect(await listed({ text: 'me/we' })).toEqual([web])
      expect(await listed({ text: 'ABC' })).toEqual([web, fix])
      expect(await listed({ text: 'abcdef' })).toEqual([web, fix])
      expect(await listed({ text: 'abcdef2' })).toEqual([web])
      expect(await listed({ text: 'abcdef2'.padEnd(40, '9') })).toEqual([web])
      expect(await listed({ text: 'bcdef' })).toEqual([])
      expect(await listed({ text: 'abcdef2', branch: 'main' })).toEqual([])
      expect(await listed({ text: 'main', repository: 'acme/web' })).toEqual([])
      expect(await listed({ text: '' })).toEqual([web, fix])
    })

    it('finds digits that are no sha in titles', async () => {
      const one = await added('main', { commit: titled('Revert 1234567') })
      expect(await listed({ text: '1234567' })).toEqual([one])
      // What a reader may not see makes no difference to them.
      const other = await added('main', { repository: 'other/b', sha: '1234567'.padEnd(40, '9') })
      expect(await listed({ text: '1234567', allowed: ['acme/*'] })).toEqual([one])
      expect(await listed({ text: '1234567' })).toEqual([other])
    })

    it('takes text only as text', async () => {
      const titles = [
        '50% off',
        'a_b',
        `it's "quoted"`,
        'rocket 🚀 away',
        'back\\slash',
        'null\0byte',
        '[a-z]*?',
      ]
      const all: number[] = []
      for (const title of titles) all.push(await added('main', { commit: titled(title) }))
      const found = async (text: string) => (await listed({ text })).map((one) => titles[all.indexOf(one)])
      expect(await found('%')).toEqual(['50% off'])
      expect(await found('a%f')).toEqual([])
      expect(await found('_')).toEqual(['a_b'])
      expect(await found(`'s "`)).toEqual([`it's "quoted"`])
      expect(await found('🚀')).toEqual(['rocket 🚀 away'])
      expect(await found('\\')).toEqual(['back\\slash'])
      expect(await found('null\0byte')).toEqual(['null\0byte'])
      expect(await found('\0')).toEqual(['null\0byte'])
      expect(await found('\ud83d')).toEqual(['null\0byte']) // stored as the same replacement character
      expect(await found('[a-z]*?')).toEqual(['[a-z]*?'])
      expect(await found(`'); drop table builds; --`)).toEqual([])
      for (const odd of ['%', `'`, '\0', '🚀'])
        for (const filter of [{ branch: odd }, { repository: odd }, { allowed: [odd] }])
          expect(await listed(filter)).toEqual([])
    })

    it('shows a reader only the allowed repositories', async () => {
      const app = await added('main')
      const web = await added('main', { repository: 'Acme/Web' })
      const lib = await added('main', { repository: 'other/lib' })
      expect(await listed({ allowed: ['acme/*'] })).toEqual([web, app])
      expect(await listed({ allowed: ['ACME/web', 'other/*'] })).toEqual([lib, web])
      expect(await listed({ allowed: ['*/*'] })).toEqual([lib, web, app])
      expect(await listed({ allowed: [] })).toEqual([])
      expect(await listed({ allowed: ['acme/*'], repository: 'other/lib' })).toEqual([])
      expect(await listed({ allowed: ['acme/*'], repository: 'acme/web' })).toEqual([web])
      expect(await listed({ allowed: ['acme/w*'], branch: 'main', text: 'me' })).toEqual([web])
      expect(await listed({ allowed: ['acme/*'], state: 'pending' }, 1)).toEqual([web])
    })

    it('shows a reader of very many repositories all of them', async () => {
      const expected: number[] = []
      for (let i = 0; i < 130; i++) expected.unshift(await added('main', { repository: `many/r${i}` }))
      await added('main', { repository: 'other/lib' })
      expect(await paged({ allowed: ['many/*'] }, 50)).toEqual({ sequences: expected, pages: 3 })
      expect((await paged({ allowed: ['many/r1*', 'other/*'], text: 'many' }, 7)).sequences).toHaveLength(41)
    })

    it('pages through all builds of a filter, each once', async () => {
      const expected: number[] = []
      const failures: number[] = []
      for (let i = 0; i < 23; i++) {
        const repository = `acme/r${i % 3}`
        const { id, sequence } = await subject.accepted(
          push(i % 2 ? 'main' : 'dev', { sha: shaOf(i), repository, commit: titled(`Change ${i}`) }),
        )
        expected.unshift(sequence)
        if (i % 4 !== 0) continue
        await subject.ended(id, failed())
        failures.unshift(sequence)
      }
      for (const limit of [1, 5, 22, 23, 24]) {
        const pages = Math.ceil(23 / limit)
        expect(await paged({}, limit)).toEqual({ sequences: expected, pages })
        expect((await paged({ allowed: ['acme/r0', 'acme/r1', 'acme/r2'] }, limit)).sequences).toEqual(
          expected,
        )
        expect((await paged({ text: 'change' }, limit)).sequences).toEqual(expected)
        expect((await paged({ state: 'failed' }, limit)).sequences).toEqual(failures)
        expect((await paged({ state: 'failed', branch: 'dev' }, limit)).sequences).toEqual(failures)
        expect((await paged({ allowed: ['*/r1', '*/r2'], branch: 'main' }, limit)).sequences).toEqual(
          expected.filter((_, at) => (22 - at) % 2 === 1 && (22 - at) % 3 !== 0),
        )
      }
    })

    it('neither misses nor repeats a build while others are added', async () => {
      const expected: number[] = []
      for (let i = 0; i < 10; i++) expected.unshift(await added('main', { repository: `acme/r${i % 2}` }))
      for (const filter of [{}, { branch: 'main' }, { allowed: ['acme/*'] }, { text: 'main' }]) {
        const seen: number[] = []
        let cursor: string | undefined
        do {
          const page = await subject.store.list(filter, { limit: 3, ...(cursor && { cursor }) })
          seen.push(...page.builds.map(({ build }) => build.sequence))
          cursor = page.next ?? undefined
          expected.unshift(await added('main', { repository: 'acme/new' }))
        } while (cursor)
        expect(seen).toEqual(expected.slice(-seen.length))
      }
    })

    it('rejects a cursor of another filter, or none of its own', async () => {
      for (let i = 0; i < 3; i++) await added('main')
      const { next } = await subject.store.list({ branch: 'main' }, { limit: 1 })
      const cursor = next ?? ''
      expect(cursor).toMatch(/^[\w-]+$/)
      const invalid = { kind: 'invalid', field: 'cursor' }
      const read = (filter: BuildFilter, text: string) =>
        subject.store.list(filter, { limit: 1, cursor: text })
      await expect(read({ branch: 'dev' }, cursor)).rejects.toMatchObject(invalid)
      await expect(read({}, cursor)).rejects.toMatchObject(invalid)
      for (const broken of ['', 'x', `${cursor}x`, cursor.slice(1), '\0', '9'.repeat(1000)])
        await expect(read({ branch: 'main' }, broken)).rejects.toMatchObject(invalid)
      // What the reader may see is not part of the filter.
      expect(
        (await subject.store.list({ branch: 'main', allowed: ['*/*'] }, { limit: 1, cursor })).builds,
      ).toHaveLength(1)
    })

    it('ends below builds that a clock set back made older', async () => {
      const first = await added('main')
      subject.clock -= 60_000
      const second = await added('main')
      const third = await added('main')
      expect(await listed({ since: '2030-01-02T03:04:05.678Z' })).toEqual([first])
      expect(await listed({ since: new Date(subject.clock).toISOString() })).toEqual([third, second, first])
    })
  })

  describe('a commit', () => {
    it('is described by its request, or later, but not twice', async () => {
      const described = await subject.accepted(push('main', { commit: titled('First') }))
      expect(described.commit).toEqual(titled('First'))
      await subject.store.describe(described.id, titled('Second'))
      expect((await subject.read(described.id)).commit).toEqual(titled('First'))

      const { id, commit } = await subject.accepted(request({ sha: shaOf(9) }))
      expect(commit).toBeNull()
      await subject.store.describe(id, { title: 'Later', author: 'Bo', login: null })
      expect(await subject.read(id)).toMatchObject({ commit: { title: 'Later', author: 'Bo', login: null } })
      const { builds } = await subject.store.list({ text: 'later' }, { limit: 9 })
      expect(builds.map(({ build }) => build.id)).toEqual([id])
      await subject.store.describe('no such build', titled('x'))
    })

    it('is described by a request that joins its build', async () => {
      const { id } = await subject.accepted(request())
      expect(await subject.accepted(push('main', { commit: titled('Joined') }))).toMatchObject({
        id,
        commit: titled('Joined'),
        source: 'api',
      })
      const { builds } = await subject.store.list({ text: 'joined' }, { limit: 9 })
      expect(builds).toHaveLength(1)
    })
  })
}
