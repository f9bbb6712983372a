import { describe, expect, it } from 'vitest'
import type { BaseImage, Recipe } from '../../../src/lib/core/build.ts'
import { failed, push, request, type Subject } from './subject.ts'

const RECIPE: Recipe = { context: 'c', dockerfile: 'd', settings: 's' }
const BASES: BaseImage[] = [{ name: 'docker.io/library/node:24', resolved: 'registry', digest: 'sha256:1' }]
const sha = (digit: string) => digit.repeat(40)

/** The recipes of builds, and finding builds by them. */
export function recipes(subject: Subject): void {
  describe('recipes', () => {
    async function built(
      digit: string,
      recipe: Recipe | null,
      rest: { branch?: string; repository?: string } = {},
    ) {
      const { branch = 'main', repository = 'acme/app' } = rest
      const { id } = await subject.accepted(push(branch, { sha: sha(digit), repository }))
      const image = `registry.test/${repository}@sha256:${digit.repeat(64)}`
      await subject.ended(id, { state: 'succeeded', image, tags: [], recipe, bases: BASES })
      return image
    }

    it('are stored with their artifact, and may be unknown', async () => {
      await built('1', RECIPE)
      expect(await subject.store.newestArtifact('acme/app', sha('1'))).toMatchObject({
        recipe: RECIPE,
        bases: BASES,
      })
      const { id } = await subject.accepted(request({ sha: sha('2') }))
      await subject.ended(id)
      expect(await subject.store.artifactOf(id)).toMatchObject({ recipe: null, bases: null })
    })

    it('find artifacts of the same repository in any spelling, newest first', async () => {
      const one = await built('1', RECIPE)
      await built('2', { ...RECIPE, context: 'other' })
      const three = await built('3', RECIPE)
      await built('4', RECIPE, { repository: 'acme/other' })
      const found = await subject.store.artifactsByRecipe('Acme/App', RECIPE, 5)
      expect(found.map(({ image }) => image)).toEqual([three, one])
      expect(await subject.store.artifactsByRecipe('acme/app', RECIPE, 1)).toHaveLength(1)
    })

    it('are equal only if every part is', async () => {
      await built('1', { context: 'a\nb', dockerfile: 'c', settings: 'd' })
      for (const part of ['context', 'dockerfile', 'settings']) {
        await built('2', { ...RECIPE, [part]: 'x' })
        expect(await subject.store.artifactsByRecipe('acme/app', RECIPE, 5)).toEqual([])
      }
    })
  })

  describe('trees', () => {
    const tree = 'e'.repeat(40)

    it('of a request are stored with its build, even when it joins another', async () => {
      const first = await subject.accepted(push('main'))
      expect(first.tree).toBeNull()
      const joined = await subject.accepted(push('other', { tree }))
      expect(joined).toMatchObject({ id: first.id, tree })
      expect(await subject.accepted(push('third'))).toMatchObject({ tree })
    })

    it('find artifacts of the same repository, newest first', async () => {
      async function built(digit: string, ofTree: string | undefined, repository = 'acme/app') {
        const { id } = await subject.accepted(push('main', { sha: sha(digit), repository }))
        const image = `registry.test/${repository}@sha256:${digit.repeat(64)}`
        await subject.ended(id, { state: 'succeeded', image, tags: [], ...(ofTree && { tree: ofTree }) })
        return image
      }
      const one = await built('1', tree)
      await built('2', undefined)
      await built('3', 'd'.repeat(40))
      const four = await built('4', tree)
      await built('5', tree, 'acme/other')
      const found = await subject.store.artifactsByTree('Acme/App', tree, 5)
      expect(found.map(({ image }) => image)).toEqual([four, one])
      expect(found[0]).toMatchObject({ tree })
      expect(await subject.store.artifactsByTree('acme/app', tree, 1)).toHaveLength(1)
    })
  })

  describe('earlier artifacts', () => {
    async function built(digit: string, branch: string, repository = 'acme/app') {
      const { id } = await subject.accepted(push(branch, { sha: sha(digit), repository }))
      const image = `registry.test/${repository}@sha256:${digit.repeat(64)}`
      await subject.ended(id, { state: 'succeeded', image, tags: [] })
      return image
    }

    it('of a branch, or of the repository', async () => {
      const main = await built('1', 'main')
      const other = await built('2', 'other')
      const ref = (name: string) => [{ kind: 'branch' as const, name }]
      expect(await subject.store.lastArtifact('ACME/app', ref('main'))).toMatchObject({ image: main })
      expect(await subject.store.lastArtifact('acme/app', [...ref('main'), ...ref('other')])).toMatchObject({
        image: other,
      })
      expect(await subject.store.lastArtifact('acme/app', [{ kind: 'tag', name: 'main' }])).toBeNull()
      expect(await subject.store.lastArtifact('acme/app', [])).toMatchObject({ image: other })
      expect(await subject.store.lastArtifact('acme/none', [])).toBeNull()
    })

    it('of a tag, by the push that it was moved for', async () => {
      const places: number[] = []
      for (let i = 0; i < 5; i++) places.push(await subject.store.reserveSequence())
      const tagged = async (digit: string, place: number, tags: string[], repository = 'acme/app') => {
        const { id } = await subject.accepted(
          push('main', { sha: sha(digit), repository, sequence: places[place] ?? 0 }),
        )
        const image = `registry.test/app@sha256:${digit.repeat(64)}`
        await subject.ended(id, { state: 'succeeded', image, tags: tags.map((tag) => `r.test/app:${tag}`) })
        return image
      }
      const newest = await tagged('1', 2, ['a_b', 'main'])
      const older = await tagged('2', 1, ['main', 'x'])
      await tagged('3', 0, ['axb', 'A_B', 'a_bc', 'ma%'])
      await tagged('4', 3, ['main'], 'acme/other')
      // Names that differ only in case are others, and do not count.
      await tagged('5', 4, ['Main', 'MAIN'])
      const found = async (tag: string, limit = 5) =>
        (await subject.store.artifactsTagged('Acme/App', `r.test/app:${tag}`, limit)).map((it) => it.image)
      expect(await found('main')).toEqual([newest, older])
      expect(await found('main', 1)).toEqual([newest])
      expect(await found('a_b')).toEqual([newest])
      expect(await found('m%n')).toEqual([])
      expect(await found('none')).toEqual([])
    })

    it('of the most recently built repositories, each once', async () => {
      await built('1', 'main', 'acme/a')
      const b = await built('2', 'main', 'acme/b')
      const a = await built('3', 'main', 'Acme/A')
      const { id } = await subject.accepted(push('main', { sha: sha('4'), repository: 'acme/failed' }))
      await subject.ended(id, failed())
      expect((await subject.store.recentArtifacts(5)).map(({ image }) => image)).toEqual([a, b])
      expect((await subject.store.recentArtifacts(1)).map(({ image }) => image)).toEqual([a])
    })

    it('of one image name the commits that it was published for', async () => {
      for (const digit of ['1', '2', '1']) {
        const { id } = await subject.accepted(push('main', { sha: sha(digit) }))
        await subject.ended(id, { state: 'succeeded', image: 'registry.test/app@sha256:1', tags: [] })
      }
      expect(await subject.store.commitsOf('registry.test/app@sha256:1')).toEqual([sha('1'), sha('2')])
      expect(await subject.store.commitsOf('registry.test/app@sha256:2')).toEqual([])
    })
  })
}
