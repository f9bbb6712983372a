import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { mkdir } from 'node:fs/promises'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { engineBuilder } from '../../../src/lib/builder/engine/builder.ts'
import type { BuildSettings } from '../../../src/lib/core/settings.ts'
import { NO_SETTINGS } from '../../../src/lib/core/settings.ts'
import type { MissCause, Timeline } from '../../../src/lib/core/timeline.ts'
import { Redactor } from '../../../src/lib/logs/redact.ts'
import type { BuildParts } from '../../../src/lib/pipeline/parts.ts'
import { runBuild } from '../../../src/lib/pipeline/run-build.ts'
import { TimelineRecorder } from '../../../src/lib/pipeline/timeline/recorder.ts'
import { registryClient } from '../../../src/lib/registry/client.ts'
import { tagForRef } from '../../../src/lib/registry/naming.ts'
import { gitMirrors } from '../../../src/lib/source/mirrors.ts'
import { sqliteBuildStore } from '../../../src/lib/store/sqlite/sqlite.ts'
import { docker, type PrivateEngine, startPrivateEngine } from '../../support/engines/engine.ts'
import { NO_HISTORY } from '../../support/git/known-history.ts'
import type { Files, GitRepository } from '../../support/git/repository.ts'
import { type GitServer, startGitServer } from '../../support/git/server.ts'
import { ensureBusybox } from '../../support/images/base-images.ts'
import { memoryLog } from '../../support/memory-log.ts'
import { basicEnv } from '../../support/processes.ts'
import { startRegistry, type TestRegistry } from '../../support/registry/registry.ts'
import { type TempDir, tempDir } from '../../support/temp.ts'

/** Why steps were not cached, on a real engine; which step that is, as `docker build` says on the same engine. */

const BASE = 'conveyor-test/busybox:1'
const NOBODY = { forHost: async () => null }

const resources = new AsyncDisposableStack()
let engine: PrivateEngine
let registry: TestRegistry
let git: GitServer
let dir: TempDir
let parts: BuildParts
let settings: BuildSettings
const run = promisify(execFile)

beforeAll(async () => {
  dir = resources.use(await tempDir())
  const engineDir = resources.use(await tempDir('conveyor-engine-'))
  engine = resources.use(await startPrivateEngine(`${engineDir.path}/data`, { removeData: true }))
  ;[registry, git] = await Promise.all([startRegistry(), startGitServer()])
  resources.use(registry)
  resources.use(git)
  await ensureBusybox(docker(engine))
  const source = gitMirrors({ dir: `${dir.path}/mirrors`, url: git.urlTemplate, environment: basicEnv() })
  resources.defer(() => source.close())
  const store = await sqliteBuildStore({ file: `${dir.path}/conveyor.db` })
  resources.defer(() => store.close())
  const client = registryClient({
    credentials: NOBODY,
    insecureHosts: [registry.host],
    mayBeLocal: () => true,
  })
  resources.defer(() => client.close())
  parts = {
    ...{ store, source, registry: client, history: NO_HISTORY, latest: 'always', dry: false },
    builder: engineBuilder({ docker: docker(engine), credentials: NOBODY, registry: client }),
    names: { image: (repository) => `${registry.host}/${repository.toLowerCase()}`, tag: tagForRef },
    settings: () => settings,
    sourceUrl: () => '',
    secrets: async () => ({ token: Buffer.from('hunter2-secret') }),
    proxies: async () => ({ variables: {}, secrets: [] }),
    cacheNamespace: () => 'of-the-test',
  }
})
afterAll(() => resources.disposeAsync())

/** Debian's client of the engine; newer ones need a plugin. */
const CLIENT = '/usr/bin/docker'

/** Stands for something that no other build has in its steps. */
const MARK = 'MARK'

interface Change {
  files?: Files
  buildArgs?: Record<string, string>
  cache?: boolean
  branch?: string
}

/** A repository, built by Conveyor, and by `docker build` with another mark. */
class Project {
  readonly #repository: GitRepository
  readonly #name: string
  readonly #marks = { ours: `ours-${randomUUID()}`, theirs: `theirs-${randomUUID()}` }
  readonly #branches = new Set<string>()
  #tag = 0

  private constructor(repository: GitRepository, name: string) {
    this.#repository = repository
    this.#name = name
  }

  static async create(): Promise<Project> {
    const name = `acme/${randomUUID()}`
    return new Project(await git.create(name), name)
  }

  /** Commits, builds with both, and checks that the same step was the first one to run. */
  async build({ files = {}, buildArgs = {}, cache = true, branch = 'main' }: Change): Promise<Built> {
    settings = { ...NO_SETTINGS, network: engine.network, buildArgs }
    const all = [...(Symbol.iterator in files ? files : Object.entries(files))]
    const marked = (mark: string) =>
      all.map(
        ([path, content]) =>
          [path, typeof content === 'string' ? content.replaceAll(MARK, mark) : content] as const,
      )
    const from = (prefix: string) =>
      this.#branches.has(branch) || branch === 'main' ? {} : { from: `${prefix}main` }
    const sha = await this.#repository.commit(marked(this.#marks.ours), { branch, ...from('') })
    const built = await this.#ours(sha, cache, branch)
    const theirs = await this.#repository.commit(marked(this.#marks.theirs), {
      branch: `their-${branch}`,
      ...from('their-'),
    })
    this.#branches.add(branch)
    const ran = await this.#theirs(theirs, buildArgs, cache)
    const { ours } = this.#marks
    // If all files had to be sent again, BuildKit may have run a step before the first try was aborted, and not said so.
    if (!built.log.includes('resending all files')) {
      expect(built.timeline.missed?.name.replaceAll(ours, MARK) ?? null, built.log).toBe(ran)
    }
    return built
  }

  async removeImages(): Promise<void> {
    for (const { RepoTags } of await docker(engine).listImages()) {
      for (const tag of RepoTags ?? []) {
        if (tag.includes(this.#name)) await docker(engine).getImage(tag).remove({ force: true })
      }
    }
  }

  async #ours(sha: string, cache: boolean, branch: string): Promise<Built> {
    const { store } = parts
    const { build } = await store.accept({
      ...{ repository: this.#name, sha, ref: { kind: 'branch', name: branch }, defaultBranch: 'main', cache },
      source: { kind: 'webhook', delivery: randomUUID() },
    })
    const claimed = await store.claim(build.id)
    if (!claimed) throw new Error('not claimed')
    const redactor = new Redactor()
    redactor.add('hunter2-secret')
    const warnings: string[] = []
    const options = { timelines: store.timelines, redactor, warn: (line: string) => warnings.push(line) }
    const timeline = new TimelineRecorder(claimed, options)
    const log = memoryLog()
    await runBuild(claimed, parts, { log, signal: new AbortController().signal, timeline }).catch(
      async (error) => {
        const refs = claimed.refs.length
        await store.finish(build.id, claimed.attempt, refs, {
          state: 'failed',
          error: String(error),
          errorKind: 'build_failed',
        })
      },
    )
    await timeline.end()
    expect(warnings).toEqual([])
    const stored = await store.timelines.get(build.id)
    if (!stored) throw new Error('no timeline')
    return { timeline: stored, causes: stored.missed?.causes ?? [], log: log.text }
  }

  /** The name of the first step that `docker build` did not take from the cache; null if it took all. */
  async #theirs(sha: string, buildArgs: Record<string, string>, cache: boolean): Promise<string | null> {
    const folder = `${dir.path}/${randomUUID()}`
    await mkdir(folder)
    await this.#repository.git('--work-tree', folder, 'checkout', '--force', sha, '--', '.')
    const args = Object.entries(buildArgs).flatMap(([name, value]) => ['--build-arg', `${name}=${value}`])
    const more = [...(cache ? [] : ['--no-cache']), ...(engine.network ? ['--network', engine.network] : [])]
    const env = { ...basicEnv(), DOCKER_BUILDKIT: '1', DOCKER_HOST: engine.dockerHost }
    const options = [
      'build',
      '--progress=plain',
      ...more,
      ...args,
      '--tag',
      `${this.#name}:${this.#tag++}`,
      folder,
    ]
    const output = await run(CLIENT, options, { env }).catch((error: { stderr: string }) => error)
    const steps = new Map<string, { name: string; ended: string }>()
    for (const [, number = '', text = ''] of output.stderr.matchAll(/^#(\d+) (.*)$/gm)) {
      const step = steps.get(number)
      if (!step) steps.set(number, { name: text, ended: '' })
      else if (/^(CACHED|DONE|ERROR)/.test(text)) step.ended = text
    }
    const own = [...steps.values()].filter(({ name }) => /^\[[^\]]*\d\/\d+\] (?!FROM)/.test(name))
    const position = ({ name }: { name: string }) =>
      Number(/stage-(\d+)/.exec(name)?.[1] ?? 0) * 100 + Number(/(\d+)\/\d+\]/.exec(name)?.[1])
    const ran = own
      .filter(({ ended }) => ended !== 'CACHED' && ended !== '')
      .sort((a, b) => position(a) - position(b))
    return ran[0]?.name.replaceAll(this.#marks.theirs, MARK) ?? null
  }
}

interface Built {
  timeline: Timeline
  causes: MissCause[]
  log: string
}

const DOCKERFILE = `FROM ${BASE}
ARG VERSION=1
ENV GREETING=hello
RUN echo ${MARK}
COPY package.json run.sh /app/
RUN echo install
COPY src /app/src
`
const FILES = {
  Dockerfile: DOCKERFILE,
  '.dockerignore': 'src/ignored\n',
  'package.json': '{}',
  'run.sh': '#!/bin/sh\n',
  'src/a.ts': 'a',
  'src/b.ts': 'b',
  'src/ignored': 'x',
  'README.md': 'read me',
}

async function begun(files: Files = FILES, rest: Change = {}): Promise<Project> {
  const project = await Project.create()
  const { causes, log } = await project.build({ files, ...rest })
  expect(causes).toEqual([{ kind: 'first_build' }])
  expect(log).not.toContain('not cached')
  return project
}

describe('why a step was not cached', () => {
  test('files that changed, were added, removed, or became executable: only those that the step copies', async () => {
    const project = await begun()
    const { causes, log, timeline } = await project.build({
      files: {
        'README.md': 'another',
        'src/ignored': 'y',
        'src/a.ts': 'changed',
        'src/new/c.ts': 'c',
        'src/b.ts': null,
      },
    })
    expect(causes).toEqual([
      { kind: 'file', path: 'src/a.ts', change: 'changed' },
      { kind: 'file', path: 'src/b.ts', change: 'removed' },
      { kind: 'file', path: 'src/new/c.ts', change: 'added' },
    ])
    expect(timeline.missed).toMatchObject({ name: '[5/5] COPY src /app/src', more: 0 })
    const step = timeline.missed?.step
    expect(log).toContain(
      `\nnot cached: #${step} COPY src /app/src: 3 files changed: src/a.ts, src/b.ts (removed), src/new/c.ts (added)\n`,
    )
    expect(
      (await project.build({ files: { 'run.sh': { content: '#!/bin/sh\n', mode: 0o755 } } })).causes,
    ).toEqual([{ kind: 'file', path: 'run.sh', change: 'mode' }])
    const many = Object.fromEntries(Array.from({ length: 14 }, (_, i) => [`src/${i + 10}.ts`, `${i}`]))
    const { missed } = (await project.build({ files: many })).timeline
    expect(missed).toMatchObject({ more: 4, causes: { length: 10 } })
  })

  test('a file that .dockerignore excluded before', async () => {
    const project = await begun()
    const { causes } = await project.build({ files: { '.dockerignore': '' } })
    expect(causes).toEqual([{ kind: 'file', path: 'src/ignored', change: 'added' }])
  })

  test('a line of the Dockerfile that changed, is new, or is gone', async () => {
    const project = await begun()
    const changed = DOCKERFILE.replace('RUN echo install', 'RUN echo other')
    expect((await project.build({ files: { Dockerfile: changed } })).causes).toEqual([
      { kind: 'instruction', before: 'RUN echo install', after: 'RUN echo other' },
    ])
    const longer = changed.replace('COPY src', 'RUN echo more\nCOPY src')
    expect((await project.build({ files: { Dockerfile: longer } })).causes).toEqual([
      { kind: 'instruction', before: null, after: 'RUN echo more' },
    ])
    const shorter = longer.replace('RUN echo other\n', '')
    expect((await project.build({ files: { Dockerfile: shorter } })).causes).toEqual([
      { kind: 'instruction', before: 'RUN echo other', after: 'RUN echo more' },
    ])
    const environment = shorter.replace('GREETING=hello', 'GREETING=bye')
    expect((await project.build({ files: { Dockerfile: environment } })).causes).toEqual([
      { kind: 'instruction', before: 'ENV GREETING=hello', after: 'ENV GREETING=bye' },
    ])
  })

  test('a build argument, by its name alone, if the Dockerfile declares it', async () => {
    const buildArgs = { VERSION: 'hunter2-one', OTHER: '1' }
    const project = await begun(FILES, { buildArgs })
    const { causes, timeline, log } = await project.build({
      files: { 'README.md': '2' },
      buildArgs: { VERSION: 'hunter2-two', OTHER: '2' },
    })
    expect(causes).toEqual([{ kind: 'setting', name: 'build-arg VERSION' }])
    expect(JSON.stringify([timeline.missed, timeline.made]) + /not cached.*/.exec(log)).not.toContain(
      'hunter2',
    )
  })

  test('a base image that moved, with both digests', async () => {
    const image = docker(engine).getImage(BASE)
    const [repo, tag] = [`moving-${randomUUID()}`, '1']
    const use = async (label: string) => {
      const container = await docker(engine).createContainer({ Image: BASE, Cmd: ['true'] })
      const { Id } = await container.commit({ repo, tag, changes: `LABEL a=${label}\nENV A=${label}` })
      await container.remove()
      return Id as string
    }
    expect((await image.inspect()).Id).toMatch(/^sha256/)
    const before = await use('1')
    const Dockerfile = DOCKERFILE.replace(BASE, `${repo}:${tag}`)
    const project = await begun({ ...FILES, Dockerfile })
    const after = await use('2')
    const { causes } = await project.build({ files: { 'README.md': '2' } })
    expect(causes).toEqual([{ kind: 'base', name: `docker.io/library/${repo}:1`, before, after }])
  })

  test('a pruned cache, and a request without the cache', async () => {
    const project = await begun()
    // BuildKit keeps the results that are part of an image.
    await project.removeImages()
    await docker(engine).pruneBuilder({ all: true } as object)
    const { builder } = parts
    // Otherwise, the layers would be imported from the registry.
    parts = { ...parts, builder: { ...builder, isWarm: async () => true } }
    const { causes } = await project.build({ files: { 'README.md': '2' } })
    expect(causes).toEqual([{ kind: 'not_in_cache' }])
    expect((await project.build({ files: { 'README.md': '3' } })).timeline.missed).toBeNull()
    const { causes: requested } = await project.build({ files: { 'README.md': '4' }, cache: false })
    expect(requested).toEqual([{ kind: 'no_cache_requested' }])
    parts = { ...parts, builder }
  })

  test('stages, mounts and wildcards; a branch is compared with the default one at first', async () => {
    const Dockerfile = `FROM ${BASE} AS build
RUN echo ${MARK}
COPY ["*.json", "run.sh", "/w/"]
RUN --mount=type=bind,source=src,target=/src cat /src/a.ts >/w/a
FROM ${BASE}
RUN echo last ${MARK}
COPY --from=build /w /w
`
    const project = await begun({ ...FILES, Dockerfile })
    const changed = await project.build({ files: { 'src/a.ts': '2', 'README.md': '2' }, branch: 'feature' })
    expect(changed.timeline.missed?.name).toMatch(/RUN --mount/)
    expect(changed.causes).toEqual([{ kind: 'file', path: 'src/a.ts', change: 'changed' }])
    const json = await project.build({ files: { 'other.json': '2', 'src/a.ts': '3' }, branch: 'feature' })
    expect(json.causes).toEqual([{ kind: 'file', path: 'other.json', change: 'added' }])
    const main = await project.build({ files: { Dockerfile: Dockerfile.replace('echo last', 'echo final') } })
    expect(main.causes).toMatchObject([
      { before: expect.stringContaining('RUN echo last'), kind: 'instruction' },
    ])
  })

  test('a build that fails is explained, too', async () => {
    const project = await begun()
    const { causes, timeline } = await project.build({
      files: { Dockerfile: DOCKERFILE.replace('RUN echo install', 'RUN exit 3') },
    })
    expect(causes).toEqual([{ kind: 'instruction', before: 'RUN echo install', after: 'RUN exit 3' }])
    expect(timeline.steps.find(({ number }) => number === timeline.missed?.step)?.state).toBe('failed')
  })

  test('unknown, rather than a guess, if the earlier commit is gone from the mirror', async () => {
    const project = await begun()
    const source = { ...parts.source, earlier: async () => null }
    const kept = parts
    parts = { ...parts, source }
    const { causes } = await project.build({ files: { 'src/a.ts': 'changed' } })
    parts = kept
    expect(causes).toEqual([{ kind: 'unknown' }])
  })
})
