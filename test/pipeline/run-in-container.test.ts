import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Build, BuildRequest } from '../../src/lib/core/build.ts'
import type { ConveyorError } from '../../src/lib/core/errors.ts'
import type { BuildParts } from '../../src/lib/pipeline/parts.ts'
import { runBuild } from '../../src/lib/pipeline/run-build.ts'
import { registryClient } from '../../src/lib/registry/client.ts'
import { tagForRef } from '../../src/lib/registry/naming.ts'
import type { CredentialStore } from '../../src/lib/registry/registry.ts'
import { dockerRunner } from '../../src/lib/runner/docker.ts'
import type { BuildStore } from '../../src/lib/store/build-store.ts'
import { sqliteBuildStore } from '../../src/lib/store/sqlite/sqlite.ts'
import { failure } from '../runner/runner.contract.ts'
import { engine } from '../support/global-setup.ts'
import { makeBuilderImage } from '../support/images/builder-images.ts'
import { PUSHING_SCRIPT } from '../support/images/pushing-script.ts'
import { memoryLog } from '../support/memory-log.ts'
import { startRegistry, type TestRegistry } from '../support/registry/registry.ts'
import { type TempDir, tempDir } from '../support/temp.ts'
import { containerParts } from './container-parts.ts'

/** Whole builds in containers of a builder image, and their results in the registry and the store. */

const NOBODY: CredentialStore = { forHost: async () => null }
const IMAGES = {
  good: PUSHING_SCRIPT,
  /** Pushes, and then fails. */
  late: `${PUSHING_SCRIPT}\nexit 4\n`,
  /** Pushes nothing. */
  mute: 'echo built, but not pushed\n',
}

let registry: TestRegistry
let dir: TempDir
let store: BuildStore
let client: ReturnType<typeof registryClient>
const imageName = (name: keyof typeof IMAGES) => `conveyor-test/run-in-image:${name}-${process.pid}`

beforeAll(async () => {
  ;[registry, dir] = await Promise.all([startRegistry(), tempDir()])
  store = await sqliteBuildStore({ file: `${dir.path}/conveyor.db` })
  client = registryClient({
    credentials: NOBODY,
    insecureHosts: [registry.host],
    mayBeLocal: () => true,
  })
  for (const [name, script] of Object.entries(IMAGES)) {
    await makeBuilderImage(engine().docker, imageName(name as keyof typeof IMAGES), { script })
  }
})
afterAll(async () => {
  for (const name of Object.keys(IMAGES)) {
    await engine()
      .docker.getImage(imageName(name as keyof typeof IMAGES))
      .remove()
  }
  await client.close()
  await store.close()
  await registry[Symbol.asyncDispose]()
  await dir[Symbol.asyncDispose]()
})

function parts(image: keyof typeof IMAGES = 'good', rest: Partial<BuildParts> = {}): BuildParts {
  const { docker, network } = engine()
  return {
    ...containerParts({
      store,
      registry: client,
      names: { image: (repository) => `${registry.host}/${repository.toLowerCase()}`, tag: tagForRef },
      container: dockerRunner({
        ...{ docker, network, credentials: NOBODY, dataContainer: null },
        ...{ image: imageName(image), environment: { REGISTRY: registry.host } },
      }),
    }),
    ...rest,
  }
}

let commits = 0
/** A push of a new commit, accepted and claimed. */
async function begun(repository: string, rest: Partial<BuildRequest> = {}): Promise<Build> {
  const { build } = await store.accept({
    repository,
    sha: (++commits).toString(16).padStart(40, '0'),
    ref: { kind: 'branch', name: 'main' },
    defaultBranch: 'main',
    cache: true,
    source: { kind: 'webhook', delivery: randomUUID() },
    ...rest,
  })
  const claimed = await store.claim(build.id)
  if (claimed === null || typeof claimed === 'string') throw new Error('it could not be claimed')
  return claimed
}

async function run(build: Build, withParts = parts()) {
  const log = memoryLog()
  const image = await runBuild(build, withParts, { log, signal: new AbortController().signal })
  return { image, log: log.text }
}

const tagged = (build: Build, tag: string) => client.head(`${registry.host}/acme/${nameOf(build)}`, tag)
const nameOf = ({ repository }: Build) => repository.toLowerCase().replace('acme/', '')
const digestOf = (image: string) => image.split('@')[1]

describe('a build in a builder image', () => {
  test('is published and stored like any other', async () => {
    const build = await begun('Acme/One', { ref: { kind: 'branch', name: 'feature/x' } })
    const { image, log } = await run(build)
    expect(image).toMatch(new RegExp(`^${registry.host}/acme/one@sha256:`))
    for (const tag of [build.sha, 'feature-x', 'latest']) {
      expect(await tagged(build, tag)).toBe(digestOf(image))
    }
    expect(log).toContain(`building acme/one@${build.sha}, cache on\n`)
    expect(log).toMatch(/\nlook up .*, build \d+\.\d\d s, tag .* in all\ntags .*, feature-x, latest\nimage /)
    expect(log).toContain(`image ${image}\n`)
    expect(await store.get(build.id)).toMatchObject({ state: 'succeeded' })
    expect(await store.artifactOf(build.id)).toMatchObject({ image, recipe: null, bases: null })
    expect((await store.artifactOf(build.id))?.tags).toContain(`${registry.host}/acme/one:latest`)
  })

  test('of a git tag gets its name', async () => {
    const build = await begun('acme/tag', { ref: { kind: 'tag', name: 'v1.2' } })
    const { image } = await run(build)
    expect(await tagged(build, 'v1.2')).toBe(digestOf(image))
  })

  test('of a commit that was built before starts no container, unless the cache is off', async () => {
    const build = await begun('acme/again')
    const { image } = await run(build)
    const request = { sha: build.sha, ref: { kind: 'branch', name: 'release' } } as const
    const again = await run(await begun('acme/again', request))
    expect(again.image).toBe(image)
    expect(again.log).toContain(`nothing to build: ${build.sha.slice(0, 7)} was built before\n`)
    expect(again.log).not.toContain('building acme/again')
    expect(await tagged(build, 'release')).toBe(digestOf(image))

    const anew = await run(await begun('acme/again', { ...request, cache: false }))
    expect(anew.log).toContain('cache off\n')
  })

  test('whose earlier image is gone from the registry is rebuilt', async () => {
    const build = await begun('acme/gone')
    const { image } = await run(build)
    const url = `${registry.url}/v2/acme/gone/manifests/${digestOf(image)}`
    expect((await fetch(url, { method: 'DELETE' })).status).toBe(202)
    const again = await run(await begun('acme/gone', { sha: build.sha }))
    expect(again.log).toContain('building acme/gone')
    expect(await tagged(build, 'latest')).toBe(digestOf(again.image))
  })

  test('pushes nothing on a dry run', async () => {
    const build = await begun('acme/dry')
    const { log } = await run(build, parts('good', { dry: true }))
    expect(log).toContain(`dry run: built ${registry.host}/acme/dry:${build.sha}, nothing was pushed`)
    expect(await tagged(build, 'latest')).toBeNull()
    expect(await store.get(build.id)).toMatchObject({ state: 'succeeded' })
  })

  test('that pushed nothing fails with the expected tag', async () => {
    const build = await begun('acme/mute')
    const error = await failure(run(build, parts('mute')))
    expect(error).toMatchObject({ kind: 'build_failed', retryable: false })
    expect(error.advice).toContain(`did not push ${registry.host}/acme/mute:${build.sha}`)
    expect(error.advice).toContain('--registry')
  })
})

describe('tags stay at the newest push, whatever the image does', () => {
  test('when an older push finishes last', async () => {
    const older = await begun('acme/order')
    const newer = await begun('acme/order')
    const { image } = await run(newer)
    const last = await run(older)
    expect(last.image).not.toBe(image)
    expect(last.log).toContain('tag main is not moved: it already points at a newer push\n')
    expect(last.log).toContain('tag latest was moved by a builder image; it is back at sha256:')
    expect(await tagged(older, older.sha)).toBe(digestOf(last.image))
    expect(await tagged(older, 'main')).toBe(digestOf(image))
    expect(await tagged(older, 'latest')).toBe(digestOf(image))
    expect((await store.artifactOf(older.id))?.tags).toEqual([`${registry.host}/acme/order:${older.sha}`])
  })

  test('when an older push finishes between the newer one moving its tags and being stored', async () => {
    const older = await begun('acme/between')
    const newer = await begun('acme/between')
    let lastOutput = ''
    const slow: BuildStore = {
      ...store,
      async finish(...args) {
        lastOutput = (await run(older)).log
        return store.finish(...args)
      },
    }
    const { image, log } = await run(newer, parts('good', { store: slow }))
    // The older build cannot know yet where the tags belong; the newer one finds out.
    expect(lastOutput).toContain('tag latest is not moved')
    expect(lastOutput).not.toContain('was moved by a builder image')
    expect(log).toContain('tag latest was moved by a builder image')
    for (const tag of ['main', 'latest']) expect(await tagged(older, tag)).toBe(digestOf(image))
  })

  test('when an image pushes and then fails', async () => {
    const first = await run(await begun('acme/late'))
    const build = await begun('acme/late')
    const error: ConveyorError = await failure(run(build, parts('late')))
    expect(error.message).toContain('exited with status 4')
    for (const tag of ['main', 'latest']) expect(await tagged(build, tag)).toBe(digestOf(first.image))
    expect(await tagged(build, build.sha)).not.toBeNull()
  })

  test('when only the default branch may move latest', async () => {
    const only = { latest: 'default-branch' } as const
    const main = await run(await begun('acme/default'), parts('good', only))
    const feature = await begun('acme/default', { ref: { kind: 'branch', name: 'feature' } })
    const { image } = await run(feature, parts('good', only))
    expect(await tagged(feature, 'feature')).toBe(digestOf(image))
    expect(await tagged(feature, 'latest')).toBe(digestOf(main.image))
  })

  test('when a registry does not respond, the log says so, and the build finishes as usual', async () => {
    const older = await begun('acme/down')
    await run(await begun('acme/down'))
    const broken: BuildParts['registry'] = {
      ...client,
      head: async (name, reference, signal) => {
        if (reference === 'latest') return client.head('127.0.0.1:1/acme/down', reference, signal)
        return client.head(name, reference, signal)
      },
    }
    const { log } = await run(older, parts('good', { registry: broken }))
    expect(log).toContain('warning: tag latest could not be checked and may point at an older push: ')
    expect(await store.get(older.id)).toMatchObject({ state: 'succeeded' })
  })
})
