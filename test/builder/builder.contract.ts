import { randomUUID } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Builder, BuildInput, BuildSteps } from '../../src/lib/builder/builder.ts'
import { ConveyorError } from '../../src/lib/core/errors.ts'
import { NO_SETTINGS } from '../../src/lib/core/settings.ts'
import { copiedBeforeRun } from '../../src/lib/dockerfile/copied-before-run.ts'
import { registryClient } from '../../src/lib/registry/client.ts'
import type { ManifestReader } from '../../src/lib/registry/push-errors.ts'
import type { CredentialStore } from '../../src/lib/registry/registry.ts'
import { memoryContext } from '../support/context/memory-context.ts'
import { memorySyncs } from '../support/context/memory-syncs.ts'
import { engine } from '../support/global-setup.ts'
import { DAMAGED } from '../support/images/failing-steps.ts'
import { imageConfig } from '../support/images/pushed-image.ts'
import { putImage } from '../support/images/put-image.ts'
import { memoryLog } from '../support/memory-log.ts'
import { ANSWERS, answerWith, faultyRegistry, isKind, type RequestKind } from '../support/registry/answers.ts'
import { frontOf, httpDouble, identityToken, type Seen, tokenRegistry } from '../support/registry/doubles.ts'
import { startRegistry, type TestRegistry } from '../support/registry/registry.ts'
import { tempDir } from '../support/temp.ts'

/** A kind of Builder under test. */
export interface BuilderSubject extends AsyncDisposable {
  /** Tries a push three times, with almost no wait in between. */
  builder(credentials: CredentialStore): Builder
  /** The network that RUN steps need. */
  network: string | null
  /** Whether it can change the times of files in layers. */
  rewritesTimes: boolean
  /** Removes a built image from wherever it is kept besides the registry. */
  forget(reference: string): Promise<void>
}

/** A registry client for builders that query registries, with short waits. */
export function asking(credentials: CredentialStore): ManifestReader {
  return registryClient({ credentials, backoffMs: [1, 1], mayBeLocal: () => true })
}

export const NOBODY: CredentialStore = { forHost: async () => null }
const LOGIN = { username: 'robot', password: 'secret-of-the-robot' }

const SYNCS = memorySyncs()

let names = 0
/** A build of its own repository, so that tests do not interfere with each other in the engine. */
export function buildOf(
  files: Record<string, string>,
  host: string,
  rest: Partial<BuildInput> = {},
): BuildInput {
  const name = `builder-test/t${process.pid}-${names++}`
  return {
    context: memoryContext(files),
    reference: `${host}/${name}:1`,
    push: true,
    cacheKey: name,
    cacheNamespace: name,
    sync: {
      records: SYNCS,
      basis: Promise.resolve(files.Dockerfile ?? ''),
      copiedBeforeRun: Promise.resolve(copiedBeforeRun(files.Dockerfile ?? '')),
    },
    cache: true,
    cacheFrom: [],
    labels: {},
    secrets: {},
    ...NO_SETTINGS,
    network: 'host',
    epoch: 1_700_000_000,
    ...rest,
  }
}

export function io(signal: AbortSignal = new AbortController().signal) {
  return { log: memoryLog(), signal }
}

export async function failure(work: Promise<unknown>): Promise<ConveyorError> {
  const thrown = await work.then(
    () => new Error('it succeeded'),
    (error: unknown) => error,
  )
  expect(thrown).toBeInstanceOf(ConveyorError)
  return thrown as ConveyorError
}

/** The owner of the repositories in which a registry fails some requests. */
const FAULTY = 'acme'

/** A string that differs in every run, so that no engine has a step with it in its cache. */
export const fresh = () => `${process.pid}-${performance.now()}`

/** Puts the tests' base image into a registry, for engines that do not have it. @param docker of one that has it */
export async function pushBase(host: string, docker = engine().docker): Promise<string> {
  const repo = `${host}/base/busybox`
  await docker.getImage('conveyor-test/busybox:1').tag({ repo, tag: '1' })
  const image = docker.getImage(`${repo}:1`)
  const progress = await image.push({ authconfig: { username: '', password: '' } })
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  docker.modem.followProgress(progress, (error) => (error ? reject(error) : resolve()))
  await promise
  await image.remove()
  return `${repo}:1`
}

/** BuildKit's cache record in images of the classic store: it has fewer links for cached steps. */
const RECORD = { 'moby.buildkit.cache.v0': '' }

/** What every Builder promises. `makeSubject` starts the engine that it builds in. */
export function builderContract(name: string, makeSubject: () => Promise<BuilderSubject>): void {
  describe(`${name} (builder contract)`, () => {
    let subject: BuilderSubject
    let registry: TestRegistry
    let locked: TestRegistry
    let base: string
    const resources = new AsyncDisposableStack()
    beforeAll(async () => {
      registry = resources.use(await startRegistry())
      locked = resources.use(await startRegistry({ htpasswd: LOGIN }))
      base = await pushBase(registry.host)
      subject = resources.use(await makeSubject())
    })
    afterAll(() => resources.disposeAsync())

    const builder = (credentials: CredentialStore = NOBODY) => subject.builder(credentials)
    const input = (files: Record<string, string>, rest: Partial<BuildInput> = {}) =>
      buildOf(files, registry.host, { network: subject.network, ...rest })

    test('the platform that images are for is known', async () => {
      const its = builder()
      const name = `${registry.host}/acme/platform`
      const platform = await its.platform(name)
      expect(platform).toMatch(/^linux\/[a-z0-9/]+$/)
      expect((await its.build(input({ Dockerfile: `FROM ${base}\n` }), io())).platform).toBe(platform)
    })

    test('steps are recorded as in the log, with what they use, and BuildKit times them in order', async () => {
      const Dockerfile = `FROM ${base} AS made\nRUN echo ${fresh()} >/r\nCOPY a b /w/\nFROM ${base}\nCOPY --from=made /w /w\nRUN cat /w/a\n`
      const files = { Dockerfile, a: fresh(), b: '2' }
      for (const [change, cached] of [
        [{}, [false, false, false, false]],
        [{}, [true, true, true, true]],
        [{ a: fresh() }, [true, false, false, false]],
        [{ a: fresh(), Dockerfile: Dockerfile.replace('cat /w/a', 'cat /missing') }, undefined],
      ] as const) {
        const recorded: BuildSteps[] = []
        const said = { ...io(), onSteps: (steps: BuildSteps) => void recorded.push(steps) }
        const asked = input({ ...files, ...change }, { push: false, cacheKey: `steps-${process.pid}` })
        const result = await builder().build(asked, said).catch(String)
        const steps = recorded.at(-1)?.list(true) ?? []
        const inLog = new Map(
          [...said.log.text.matchAll(/^#(\d+) (\S.*)$/gm)].map(([, number, name]) => [Number(number), name]),
        )
        expect(steps.length).toBeGreaterThan(6)
        expect(said.log.text).toContain(`#${steps.at(-1)?.number} `)
        for (const { number, name } of steps) expect(said.log.text).toContain(`\n#${number} ${name}\n`)
        expect(inLog.size).toBe(steps.length)
        const own = ['RUN echo', 'COPY a b', 'COPY --from', 'RUN cat'].map((text) =>
          steps.find(({ name }) => name.includes(`] ${text}`)),
        )
        const [run, copy, from, last] = own
        expect(copy?.inputs).toContain(run?.number)
        expect(from?.inputs).toContain(copy?.number)
        expect(last?.inputs).toContain(from?.number)
        const context = steps.find(({ name }) => name === '[internal] load build context')
        expect(copy?.inputs).toContain(context?.number)
        for (const step of own) {
          expect(step?.digest).toMatch(/^sha256:[0-9a-f]{64}$/)
          const ends = /^#\d+ (CACHED|DONE|ERROR)/m.exec(
            said.log.text.split(`\n#${step?.number} ${step?.name}\n`).at(-1) ?? '',
          )?.[1]
          expect(step?.state).toBe({ CACHED: 'cached', DONE: 'done', ERROR: 'failed' }[ends ?? ''])
          // Those from the cache do not wait.
          for (const number of step?.state === 'cached' ? [] : (step?.inputs ?? [])) {
            const used = steps.find((one) => one.number === number)
            expect(used?.completedAt && step?.startedAt && used.completedAt <= step.startedAt).toBe(true)
          }
        }
        if (cached) expect(own.map((step) => step?.state === 'cached')).toEqual(cached)
        else {
          expect(result).toMatch(/exit code 1/)
          expect(last).toMatchObject({ state: 'failed', error: expect.stringContaining('exit code: 1') })
        }
      }
    })

    test('cache mounts belong to a repository, even those with an id, without a trace in the image', async () => {
      const mounts = [
        '--mount=type=cache,target=/root/.npm',
        '--mount=type=cache,id=shared,target=/m',
        '--mount=type=cache,id=../up,target=/u',
      ]
      const look = 'echo found: $(cat /root/.npm/who /m/who /u/who 2>/dev/null).'
      const run = async (whose: string, cacheNamespace: string) => {
        const write = `for dir in /root/.npm /m /u; do echo ${whose} > $dir/who; done`
        const Dockerfile = `FROM ${base}\nRUN ${mounts.join(' ')} ${look}; ${write} # ${fresh()}\n`
        const asked = input({ Dockerfile }, { cacheNamespace })
        const said = io()
        await builder().build(asked, said)
        expect(JSON.stringify((await imageConfig(asked.reference)).config)).not.toContain(cacheNamespace)
        return /\d found: (.*)\.\n/.exec(said.log.text)?.[1]
      }
      const [a, b] = [`ns-a-${fresh()}`, `ns-b-${fresh()}`]
      expect(await run('a', a)).toBe('')
      expect(await run('b', b)).toBe('')
      expect(await run('a', a)).toBe('a a a')
      expect(await run('b', b)).toBe('b b b')
    })

    test('builds, pushes, shows progress, and sends only changed files the next time', async () => {
      const files = {
        Dockerfile: `FROM ${base}\nCOPY . /app\nRUN echo out-$((1+1)); cat /app/a/x`,
        'a/x': fresh(),
        b: 'b',
      }
      const first = input(files, { labels: { color: 'green' } })
      const one = io()
      const built = await builder().build(first, one)
      expect(built.steps).toMatchObject({ total: 2 })
      expect(built.transfer).toMatchObject({ files: 4 }) // the Dockerfile twice: by itself, and in the context
      expect(one.log.text).toMatch(/#\d+ \[2\/3\] COPY \. \/app\n/)
      expect(one.log.text).toMatch(/#\d+ \d+\.\d{3} out-2\n/)
      expect(one.log.text).toMatch(/#\d+ DONE \d+\.\ds\n/)
      expect(built.digest).toMatch(/^sha256:[0-9a-f]{64}$/)
      expect(built.pushMs).toBeGreaterThan(0)
      expect(built.from).toMatchObject({ remoteFiles: false, images: [{ name: base }] })
      const pushed = await imageConfig(first.reference)
      expect(pushed.digest).toBe(built.digest)
      expect(pushed.configDigest).toBe(built.imageId)
      expect(pushed.config.config.Labels).toMatchObject({ color: 'green' })

      const two = io()
      const again = await builder().build({ ...first, context: memoryContext({ ...files }) }, two)
      const { config } = await imageConfig(first.reference)
      expect({ ...config, ...RECORD }).toEqual({ ...pushed.config, ...RECORD })
      // From v0.13 on, BuildKit rereads the Dockerfile every time.
      const anew = again.transfer.files
      expect(anew).toBeLessThanOrEqual(1)
      expect(again.transfer.bytes).toBeLessThanOrEqual(files.Dockerfile.length)
      expect(again.steps.cached).toBe(2)
      expect(two.log.text).toMatch(/#\d+ CACHED\n/)

      const changed = await builder().build(
        { ...first, context: memoryContext({ ...files, 'a/x': fresh() }) },
        io(),
      )
      expect(changed.transfer).toMatchObject({ files: anew + 1 })
      expect(changed.imageId).not.toBe(built.imageId)
      expect((await imageConfig(first.reference)).digest).toBe(changed.digest)
    })

    test("more paths in COPY than Node's default limit of headers", async () => {
      const paths = Array.from({ length: 150 }, (_, i) => `${'d'.repeat(200)}/${'e'.repeat(180)}-${i}`)
      const files = Object.fromEntries(paths.map((path) => [path, fresh()]))
      const copies = Array.from(
        { length: 10 },
        (_, i) => `COPY ${paths.slice(i * 15, i * 15 + 15).join(' ')} /x/`,
      )
      const Dockerfile = [`FROM ${base}`, ...copies, 'RUN [ $(ls /x | wc -l) = 150 ]'].join('\n')
      expect((await builder().build(input({ Dockerfile, ...files }), io())).transfer.files).toBe(151)
    })

    test('reproducible: the same build produces the same image at another time; or it is refused', async () => {
      const files = { Dockerfile: `FROM ${base}\nCOPY . /app\nRUN echo out >/out; mkdir /d`, a: fresh() }
      const build = () => input(files, { reproducible: true, cache: false })
      const one = builder().build(build(), io())
      if (!subject.rewritesTimes) {
        const error = await failure(one)
        expect(error).toMatchObject({ kind: 'invalid', retryable: false })
        expect(error.hint).toContain('omit --reproducible')
        return
      }
      const { digest } = await one
      await sleep(1050)
      expect((await builder().build(build(), io())).digest).toBe(digest)
      const plain = await builder().build({ ...build(), reproducible: false }, io())
      expect(plain.digest).not.toBe(digest)
    })

    describe('an error on our side of a session ends the build at once, with its own message', () => {
      const files = { Dockerfile: `FROM BASE\nCOPY . /x\nRUN true`, 'd/a': 'x'.repeat(100_000), b: 'b' }
      const broken = new ConveyorError('unavailable', 'git went away', { hint: 'Start it' })
      async function* failsAfter(bytes: number): AsyncGenerator<Uint8Array> {
        if (bytes > 0) yield Buffer.alloc(bytes)
        throw broken
      }
      const reading = (after: number) => (build: BuildInput) => ({
        ...build,
        context: { ...build.context, read: () => failsAfter(after) },
      })
      const records = { begin: () => Promise.reject(broken), end: async () => {} }

      test.each<[string, (build: BuildInput) => BuildInput]>([
        ['as a file is opened', reading(0)],
        ['in the middle of a file', reading(70_000)],
        ['before the first file', (build) => ({ ...build, sync: build.sync && { ...build.sync, records } })],
        [
          'as paths are looked at',
          (build) => ({
            ...build,
            context: {
              ...build.context,
              get entries(): never {
                throw broken
              },
            },
          }),
        ],
      ])('%s', async (_, breaking) => {
        const build = input({ ...files, Dockerfile: files.Dockerfile.replace('BASE', base), c: fresh() })
        const from = performance.now()
        expect(await failure(builder().build(breaking(build), io()))).toMatchObject({
          kind: 'unavailable',
          message: 'git went away',
        })
        expect(performance.now() - from).toBeLessThan(20_000)
      })

      test('during the lookup of a login', async () => {
        const credentials = { forHost: () => Promise.reject(broken) }
        const dockerfile = `FROM ${locked.host}/no/such:1`
        const error = await failure(builder(credentials).build(input({ Dockerfile: dockerfile }), io()))
        expect(error).toMatchObject({ kind: 'unavailable', message: 'git went away' })
      })
    })

    // Concurrent because busybox compares whole seconds, so the builds of each test have to be seconds apart.
    describe.concurrent('changed files are newer than the results of earlier builds', () => {
      /**
       * Returns a function that builds files, always as the same repository, and resolves to what the last step
       * printed.
       */
      function history(dockerfile: string[]) {
        const repository = input({})
        return async (files: Record<string, string>, more: string[] = []) => {
          const Dockerfile = [`FROM ${base}`, ...dockerfile, ...more].join('\n')
          const { sync } = input({ Dockerfile })
          const ran = io()
          const context = memoryContext({ Dockerfile, ...files })
          const built = await builder().build({ ...repository, sync, context }, ran)
          await sleep(1050)
          const made = [...ran.log.text.matchAll(/ made:(.*)\n/g)].at(-1)?.[1]
          return { made, files: built.transfer.files, log: ran.log.text }
        }
      }

      /** Does what make does: a target that is not older than its source is not remade. */
      const MAKE =
        "for f in a b; do [ /src/$f -nt /o/$f ] && cp /src/$f /o/$f; done; echo ma''de:$(cat /o/a) $(cat /o/b)"
      const DUMMIES = `RUN mkdir -p /src /o && echo ${fresh()} >/id && for f in a b; do echo dummy >/src/$f; cp /src/$f /o/$f; done`

      test('sources that replace the placeholders that dependencies were built with', async () => {
        const build = history([DUMMIES, 'COPY src /src', `RUN ${MAKE}`])
        // As in a checkout, the files of the first build are older than what it makes from them.
        expect((await build({ 'src/a': 'a1', 'src/b': 'b1' })).made).toBe('dummy dummy')
        expect((await build({ 'src/a': 'a2', 'src/b': 'b1' })).made).toBe('a2 b1')
        expect((await build({ 'src/a': 'a2', 'src/b': 'b2' })).made).toBe('a2 b2')
        expect((await build({ 'src/a': 'a1', 'src/b': 'b2' })).made).toBe('a1 b2')
      })

      test('sources that replace placeholders of another stage', async () => {
        const joined = ['COPY src /src', 'COPY --from=deps /o /o', `RUN ${MAKE}`]
        const build = history([`FROM ${base} AS deps`, DUMMIES, `FROM ${base}`, ...joined])
        const id = fresh()
        expect((await build({ 'src/a': `a1-${id}`, 'src/b': 'b1' })).made).toBe('dummy dummy')
        expect((await build({ 'src/a': `a2-${id}`, 'src/b': 'b1' })).made).toBe(`a2-${id} b1`)
      })

      test('make with its earlier results in a cache mount', async () => {
        const id = fresh()
        // A missing target is made as if from a different source.
        const make = `for f in a b; do [ -e /o/$f ] || touch /o/$f; [ /src/$f -nt /o/$f ] && cp /src/$f /o/$f; done; echo ma''de:$(cat /o/a) $(cat /o/b)`
        const build = history(['COPY src /src', `RUN --mount=type=cache,target=/o,id=${id} ${make}`])
        // Content unique to this run: a COPY from the cache has the times of the build that made it.
        const of = (a: number, b: number) => ({ 'src/a': `a${a}-${id}`, 'src/b': `b${b}-${id}` })
        await build(of(0, 0))
        for (const [a, b] of [
          [1, 0],
          [2, 0],
          [3, 0],
          [2, 1],
        ] as const) {
          expect((await build(of(a, b))).made).toContain(`a${a}-${id}`)
        }
      })

      test('unchanged files are neither new nor sent again', async () => {
        const build = history([
          'COPY . /src',
          `RUN echo ${fresh()}; cd /src; [ b -nt a ] && echo ma''de:b; [ a -nt b ] && echo ma''de:a; true`,
        ])
        const first = await build({ a: 'a1', b: 'b1' })
        expect(first).toMatchObject({ made: undefined })
        const second = await build({ a: 'a2', b: 'b1' })
        expect(second).toMatchObject({ made: 'a' })
        const third = await build({ a: 'a2', b: 'b2' })
        expect(third).toMatchObject({ made: 'b' })
        for (const { files } of [second, third]) expect(files).toBeLessThanOrEqual(2)
        // An engine of 2020 requests the Dockerfile when it has changed; later ones always do.
        const anew = await build({ a: 'a2', b: 'b2' }, ['# more'])
        expect(anew.files).toBe(4)
      })

      test('reading ignore files does not count as files lost by BuildKit', async () => {
        const build = history(['COPY . /src', `RUN echo ${fresh()}`])
        await build({ a: 'a1', b: 'b1', '.dockerignore': 'x' })
        for (const a of ['a2', 'a3']) {
          const { log, files } = await build({ a, b: 'b1', '.dockerignore': 'x' })
          expect(log).not.toContain('resending')
          expect(files).toBeLessThanOrEqual(3)
        }
      })

      test('changed dependencies make all files new, if cache mounts keep results made with them', async () => {
        const id = fresh()
        const build = history([
          'COPY deps /deps',
          `RUN echo ${id}`,
          'COPY src /src',
          `RUN --mount=type=CACHE,target=/o,id=${id} for f in a b; do [ -e /o/$f ] && [ ! /src/$f -nt /o/$f ] || cat /deps /src/$f >/o/$f; done; echo ma''de:$(cat /o/a /o/b)`,
        ])
        const of = (deps: number, a: number) => ({ deps: `${deps}-${id} `, 'src/a': `a${a} `, 'src/b': 'b ' })
        expect((await build(of(1, 1))).made).toBe(`1-${id} a1 1-${id} b`)
        expect((await build(of(1, 2))).made).toBe(`1-${id} a2 1-${id} b`)
        expect((await build(of(2, 2))).made).toBe(`2-${id} a2 2-${id} b`)
        // The cache still has the old dependencies, but what was made from them is no longer in the mount.
        expect((await build(of(1, 3))).made).toBe(`1-${id} a3 1-${id} b`)
        const next = await build(of(1, 4))
        expect(next.made).toBe(`1-${id} a4 1-${id} b`)
        expect(next.files).toBeLessThanOrEqual(2)
      })

      test('a step before COPY that only installs does not make files new', async () => {
        const build = history([
          'COPY deps /deps',
          `RUN : npm ci ${fresh()} 2>/dev/null`,
          'COPY . /src',
          'RUN true',
        ])
        await build({ deps: '1', a: '1', b: '1' })
        expect((await build({ deps: '2', a: '1', b: '1' })).files).toBeLessThanOrEqual(2)
        expect((await build({ deps: '2', a: '2', b: '1' })).files).toBeLessThanOrEqual(2)
      })

      test('files that another client sent to BuildKit in between', async () => {
        const here = input({})
        const Dockerfile = `FROM ${base}\nCOPY . /src\nRUN cat /src/a; echo ${fresh()}`
        const run = async (a: string, records = here.sync?.records) => {
          const { sync } = input({ Dockerfile })
          const log = io()
          const context = memoryContext({ Dockerfile, a })
          await builder().build(
            { ...here, context, sync: sync && { ...sync, records: records ?? sync.records } },
            log,
          )
          return log.log.text
        }
        expect(await run('1')).not.toContain('resending')
        expect(await run('2', memorySyncs())).not.toContain('resending')
        expect(await run('1')).toContain('resending all files')
        expect(await run('1')).not.toContain('resending')
      })
    })

    test.each([
      ['names a path that is not UTF-8', 'n\xff', 'COPY * /ctx/\nRUN cd /ctx && ls | cat && exit 3'],
      ['has a long Dockerfile', 'a', `${'# comment\n'.repeat(7000)}RUN exit 3`],
    ])('a failed step is a build failure, even if its error %s', async (_, name, lines) => {
      const files = { Dockerfile: `FROM ${base}\n${lines}`, [name]: 'x' }
      const error = await failure(builder().build(input(files), io()))
      expect(error).toMatchObject({ kind: 'build_failed', retryable: false })
    })

    test('an image that is not to be pushed is not in the registry', async () => {
      const build = input({ Dockerfile: `FROM ${base}\nRUN echo ${fresh()} > /x` }, { push: false })
      expect(await builder().build(build, io())).toMatchObject({ digest: null, pushMs: 0 })
      await expect(imageConfig(build.reference)).rejects.toThrow('404')
    })

    test('a builder is warm for what it has built, even after a restart', async () => {
      const build = input({ Dockerfile: `FROM ${base}\nRUN echo ${fresh()} > /x` })
      const imageName = build.reference.replace(/:1$/, '')
      const able = builder()
      expect(await able.isWarm(imageName)).toBe(false)
      await able.build(build, io())
      expect(await able.isWarm(imageName)).toBe(true)
      expect(await builder().isWarm(imageName)).toBe(true)
      expect(await builder().isWarm(`${registry.host}/never/built`)).toBe(false)
    })

    test('sends only the paths that the Dockerfile copies', async () => {
      const files = {
        Dockerfile: `FROM ${base}\nCOPY part/ /p/\nCOPY *.txt /t/\nRUN find /p /t -type f | sort`,
        'part/in': fresh(),
      }
      const built = io()
      const result = await builder().build(
        input({ ...files, 'other/out': 'x', 'a.txt': 'a', 'b.md': 'b' }),
        built,
      )
      expect(result.transfer.files).toBe(3) // Dockerfile, part/in, a.txt
      expect(built.log.text).toMatch(/ \/p\/in\n.* \/t\/a\.txt\n/)
      expect(built.log.text).not.toContain('out')
    })

    test('a path with a comma is found', async () => {
      const log = io()
      await builder().build(
        input({
          Dockerfile: `FROM ${base}\nCOPY ["a, b", "/x/"]\nCOPY c /x/\nRUN cat "/x/a, b"`,
          'a, b': `comma ${fresh()}`,
          c: 'c',
        }),
        log,
      )
      expect(log.log.text).toContain('comma')
    })

    test('build arguments reach the steps', async () => {
      const log = io()
      const dockerfile = `FROM ${base}\nARG COLOR\nRUN echo "it is $COLOR ${fresh()}"`
      await builder().build(input({ Dockerfile: dockerfile }, { buildArgs: { COLOR: 'green' } }), log)
      expect(log.log.text).toContain('it is green')
    })

    test('a target and hosts reach the steps', async () => {
      const dockerfile = [
        `FROM ${base} AS wanted`,
        `RUN echo ${fresh()}; cat /etc/hosts`,
        'FROM wanted',
        'RUN exit 1',
      ].join('\n')
      const log = io()
      const settings = { target: 'wanted', hosts: { 'db.lan': '10.1.2.3' } }
      await builder().build(input({ Dockerfile: dockerfile }, settings), log)
      expect(log.log.text).toMatch(/ 10\.1\.2\.3\s+db\.lan\n/)
    })

    test('a build secret reaches RUN, but neither the image nor its history', async () => {
      const secret = `s3cret-${fresh()}`
      const build = input(
        {
          Dockerfile: `FROM ${base}\nRUN --mount=type=secret,id=token md5sum /run/secrets/token && wc -c < /run/secrets/token`,
        },
        { secrets: { token: Buffer.from(secret) }, cache: false },
      )
      const log = io()
      await builder().build(build, log)
      expect(log.log.text).toMatch(new RegExp(` ${secret.length}\n`))
      expect(JSON.stringify(await imageConfig(build.reference))).not.toContain(secret)
    })

    test('a missing secret is named', async () => {
      const dockerfile = `FROM ${base}\nRUN --mount=type=secret,id=nope,required=true cat /run/secrets/nope ${fresh()}`
      const error = await failure(builder().build(input({ Dockerfile: dockerfile }), io()))
      expect(error.kind).toBe('build_failed')
      expect(error.message).toContain('nope')
    })

    test('without the cache, every step runs again', async () => {
      const build = input({
        Dockerfile: `FROM ${base}\nRUN echo ${fresh()}; md5sum < /proc/sys/kernel/random/uuid > /x`,
      })
      const one = await builder().build(build, io())
      expect((await builder().build(build, io())).steps).toMatchObject({ total: 1, cached: 1 })
      const anew = await builder().build({ ...build, cache: false }, io())
      expect(anew.imageId).not.toBe(one.imageId)
      expect(anew.steps.cached).toBe(0)
    })

    test('a failing RUN is a build failure with its step, output and exit code', async () => {
      const log = io()
      const error = await failure(
        builder().build(input({ Dockerfile: `FROM ${base}\nRUN echo about-to-fail && exit 7` }), log),
      )
      expect(error).toMatchObject({ kind: 'build_failed', retryable: false })
      expect(error.advice).toBe('[2/2] RUN echo about-to-fail && exit 7 failed with exit code 7')
      expect(log.log.text).toMatch(/about-to-fail\n/)
      expect(log.log.text).toMatch(/#\d+ ERROR: /)
    })

    test.each([
      [
        'COPY of a file that is not there',
        'FROM BASE\nCOPY missing /x',
        '"/missing" is not in the build context',
      ],
      ['an unknown instruction', 'FROM BASE\nFETCH x', 'unknown instruction: FETCH'],
      ['an empty Dockerfile', '# nothing\n', 'file with no instructions'],
      [
        'a base image that the registry does not have',
        'FROM REGISTRY/no/such:tag',
        'no/such:tag: the registry does not have it',
      ],
    ])('%s is a build failure', async (_, dockerfile, message) => {
      const text = dockerfile.replace('REGISTRY', registry.host).replace('BASE', base)
      const error = await failure(builder().build(input({ Dockerfile: text }), io()))
      expect(error).toMatchObject({ kind: 'build_failed', retryable: false })
      expect(error.message).toContain(message)
      if (message.endsWith('does not have it')) expect(error.hint).toContain('docker login')
    })

    test('a base image in a registry that is down is a retryable error', async () => {
      const error = await failure(builder().build(input({ Dockerfile: 'FROM 127.0.0.1:1/base:1' }), io()))
      expect(error).toMatchObject({ kind: 'unavailable', retryable: true })
      expect(error.message).toContain('connection refused')
    })

    test('aborting ends the step that runs in the engine', async () => {
      const marker = `sleep 1${process.pid}${names}`
      const abort = new AbortController()
      const log = io(abort.signal)
      const building = builder().build(
        input({ Dockerfile: `FROM ${base}\nRUN echo started; ${marker}` }),
        log,
      )
      const ended = expect(building).rejects.toThrow('enough')
      await expect.poll(() => log.log.text).toMatch(/ started\n/)
      abort.abort(new Error('enough'))
      await ended
      // This machine's engine runs steps as processes of this machine.
      await expect.poll(() => processesWith(marker)).toEqual([])
    })

    test('output is kept byte for byte, and a step whose output the engine clips is named', async () => {
      const log = io()
      const much = "yes '0123456789012345678901234567890123456789012345678901234567890123456789'"
      const dockerfile = `FROM ${base}\nRUN echo ${fresh()}; ${much} | head -c 4000000; printf 'the end'`
      await builder().build(input({ Dockerfile: dockerfile }), log)
      expect(log.log.text).toMatch(/warning: the engine truncated the output of #\d+ \[2\/2\] RUN echo/)
    })

    test('pushes to a registry that requires a login', async () => {
      const credentials = { forHost: async (asked: string) => (asked === locked.host ? LOGIN : null) }
      const build = input({ Dockerfile: `FROM ${base}\nRUN echo ${fresh()} > /x` })
      const reference = build.reference.replace(registry.host, locked.host)
      const { digest } = await builder(credentials).build({ ...build, reference }, io())
      expect((await imageConfig(reference, LOGIN)).digest).toBe(digest)
    })

    test('a base image that requires a login is pulled with it', async () => {
      const credentials = { forHost: async (host: string) => (host === locked.host ? LOGIN : null) }
      const parent = input({ Dockerfile: `FROM ${base}\nRUN echo base-${fresh()} > /base` })
      const reference = parent.reference.replace(registry.host, locked.host)
      await builder(credentials).build({ ...parent, reference }, io())
      await subject.forget(reference)

      const child = { Dockerfile: `FROM ${reference}\nRUN cat /base` }
      const refused = await failure(builder().build(input(child), io()))
      expect(refused).toMatchObject({ kind: 'build_failed', retryable: false })
      expect(refused.hint).toContain('docker login')
      const log = io()
      await builder(credentials).build(input(child), log)
      expect(log.log.text).toMatch(/ base-/)
    })

    test('a rejected login is final, and the error names the image', async () => {
      const build = input({ Dockerfile: `FROM ${base}\nRUN echo ${fresh()} > /x` })
      const reference = build.reference.replace(registry.host, locked.host)
      const error = await failure(builder().build({ ...build, reference }, io()))
      expect(error).toMatchObject({ kind: 'unauthorized', retryable: false })
      // Only once: a commit status has little room.
      expect(error.message.split(reference)).toHaveLength(2)
      expect(error.hint).toContain(`docker login ${locked.host}`)
    })

    test('a registry with a token server issues a token for the account', async () => {
      await using tokens = await tokenRegistry({ [LOGIN.username]: LOGIN.password }, 'refresh-token')
      const build = input({ Dockerfile: `FROM ${base}\nRUN echo ${fresh()} > /x` })
      const reference = build.reference.replace(registry.host, tokens.host)
      const able = builder({ forHost: async (asked) => (asked === tokens.host ? LOGIN : null) })
      expect((await able.build({ ...build, reference }, io())).digest).toMatch(/^sha256:/)
    })

    describe('a registry that refuses a push', () => {
      /** Builds and pushes to a registry that fails one kind of request. */
      async function refused(request: RequestKind, answer: string, build = unique()) {
        await using faulty = await startFaulty(request, answer)
        const reference = `${faulty.host}/${FAULTY}/app:1`
        const log = io()
        const error = await failure(builder().build({ ...build, reference }, log))
        const tries = faulty.seen.filter(
          (one) => one.method === request.split(' ')[0] && faulty.isRefused(one),
        )
        return { error, tries: tries.length, log: log.log.text, reference }
      }
      const unique = () => input({ Dockerfile: `FROM ${base}\nRUN echo ${fresh()} > /x` })

      // Not every refused upload: engines with the classic store retry those six times by themselves, but not
      // manifests.
      test.each<[string, RequestKind, string, object, RegExp]>([
        [
          'the login',
          'PUT manifest',
          'denied',
          { kind: 'unauthorized' },
          /docker login \S+` .* that has write access to acme\/app/,
        ],
        [
          'what has no repository',
          'POST upload',
          'no repository',
          { kind: 'unavailable' },
          /\. Create the repository acme\/app in /,
        ],
        [
          'what is too large for a proxy',
          'PUT manifest',
          'too large',
          { kind: 'unavailable' },
          /nginx: client_max_body_size/,
        ],
        [
          'everything, as it is read-only',
          'PUT manifest',
          'read-only',
          { kind: 'unavailable' },
          /is read-only \(a mirror/,
        ],
        ['more than the quota', 'PUT manifest', 'quota of Harbor', {}, /quota/],
      ])('%s: final, tried once, with a hint', async (_, request, answer, wanted, advice) => {
        const { error, tries, log, reference } = await refused(request, answer)
        expect(error).toMatchObject({ ...wanted, retryable: false })
        expect(error.advice).toMatch(advice)
        expect(error.message.startsWith(`pushing ${reference} failed: `)).toBe(true)
        expect(log).not.toContain('retrying')
        // Two blobs in parallel; a manifest in OCI's format and in Docker's.
        expect(tries).toBeLessThanOrEqual(2)
      })

      test('temporarily: the push is retried, then the build', async () => {
        const { error, log } = await refused('PUT manifest', 'unavailable')
        expect(error).toMatchObject({ kind: 'unavailable', retryable: true })
        expect(error.message).toMatch(/: the registry failed to process the request \(HTTP 503\)$/)
        expect(log.match(/push failed, retrying/g)).toHaveLength(2)
      })

      test('because of its rate limit is left alone for as long as it requests', async () => {
        const { error, log } = await refused('any', 'too many')
        expect(error).toMatchObject({ kind: 'unavailable', retryable: true, retryAfterMs: 1000 })
        expect(error.message).toMatch(
          /rate-limiting requests \((HTTP 429|TOOMANYREQUESTS).*, retry after 1 s\)$/,
        )
        expect(log).not.toContain('retrying')
      })

      test('under an immutable tag: fine if it is the same image', async () => {
        // It was stored, but the response was lost.
        let puts = 0
        await using front = await frontOf(registry.host, (req, res, _count, body) => {
          if (!isKind('PUT manifest', req)) return false
          const answer = (name: string) => answerWith(ANSWERS[name] ?? { status: 500, body: '' }, res)
          if (puts++ > 0) answer('tag kept')
          else {
            const headers = { 'content-type': req.headers['content-type'] ?? '' }
            const url = `${registry.url}${req.url}`
            void fetch(url, { method: 'PUT', headers, body: new Uint8Array(body) }).then(() =>
              answer('unavailable'),
            )
          }
          return true
        })
        const build = unique()
        const reference = build.reference.replace(registry.host, front.host)
        const { digest } = await builder().build({ ...build, reference }, io())
        expect((await imageConfig(build.reference)).digest).toBe(digest)
        expect(puts).toBeGreaterThan(0)
      })

      test('under an immutable tag: final if it is another image', async () => {
        await using faulty = await startFaulty('PUT manifest', 'tag kept')
        await putImage(registry.host, `${FAULTY}/kept`)
        const reference = `${faulty.host}/${FAULTY}/kept:1`
        const log = io()
        const error = await failure(builder().build({ ...unique(), reference }, log))
        expect(error).toMatchObject({ kind: 'unavailable', retryable: false })
        expect(error.message).toContain(
          'the tag already points to another image, and the registry does not allow changing it',
        )
        expect(log.log.text).not.toContain('retrying')
      })
    })

    describe('a base image', () => {
      async function refused(request: RequestKind, answer: string) {
        await using faulty = await startFaulty(request, answer)
        const name = `${FAULTY}/base-${randomUUID()}`
        const layer = await putImage(registry.host, name)
        if (request === 'GET blob') faulty.only(layer)
        const from = `${faulty.host}/${name}:1`
        const build = input({ Dockerfile: `FROM ${from}\nCOPY Dockerfile /\n` }, { push: false })
        return { error: await failure(builder().build(build, io())), from }
      }

      // Engines try again for a minute, so these wait at the same time.
      describe.concurrent('with a layer that cannot be read', () => {
        test('the hint is another login, not another name', async ({ expect }) => {
          const { error } = await refused('GET blob', 'denied')
          expect(error).toMatchObject({ kind: 'build_failed', retryable: false })
          expect(error.message).toMatch(/base image \S+\/base\S*: the registry denied access \(HTTP 403/)
          expect(error.hint).toMatch(
            /^Run `docker login \S+` as the user .* that has read access to acme\/base\S*$/,
          )
        })

        test.for(['HEAD manifest', 'GET blob'] as const)(
          'the failure of its registry (%s) is a retryable error',
          async (request, { expect }) => {
            const { error } = await refused(request, 'unavailable')
            expect(error).toMatchObject({ kind: 'unavailable', retryable: true })
            expect(error.message).toMatch(
              /base image \S+\/base\S*: the registry failed to process the request \(HTTP 503/,
            )
          },
        )
      })

      test('of a registry with an exceeded rate limit: the registry is left alone for as long as it requests', async () => {
        const { error } = await refused('any', 'too many')
        expect(error).toMatchObject({ kind: 'unavailable', retryable: true, retryAfterMs: 1000 })
        expect(error.hint).toContain('authenticated users have a higher limit')
      })
    })

    test.each([
      ['COPY --from=build /app/dist /x', /is not in the stage build\. .* that the stage build creates it$/],
      [
        'COPY --from=BASE /nope/such /x',
        /is not in the image \S+\/base\/busybox:1\. .* the name of the image$/,
      ],
      ['ADD damaged.tar.gz /x/', /^\[\S+ 1\/1\] ADD damaged\.tar\.gz \/x\/: /],
    ])('%s is a build failure that depends on the commit alone', async (step, advice) => {
      const dockerfile = `FROM ${base} AS build\nRUN mkdir /app\nFROM scratch\n${step.replace('BASE', base)}\n`
      const context = memoryContext({ Dockerfile: dockerfile, 'damaged.tar.gz': DAMAGED })
      const error = await failure(builder().build({ ...input({}), context }, io()))
      expect(error).toMatchObject({ kind: 'build_failed', retryable: false })
      expect(error.advice).toMatch(advice)
    })

    test("a failed ADD of a URL names it, with its server's response", async () => {
      await using files = await httpDouble((req, res) => res.writeHead(Number(req.url?.slice(1))).end())
      for (const status of [404, 503]) {
        const url = `http://${files.host}/${status}`
        const build = input({ Dockerfile: `FROM scratch\nADD ${url} /x\n` }, { push: false })
        const error = await failure(builder().build(build, io()))
        expect(error.message).toContain(`${url} answered HTTP ${status}`)
        expect(error.kind).toBe(status === 404 ? 'build_failed' : 'unavailable')
      }
    })

    /** A registry in front of the open one that fails one kind of request in repositories of FAULTY. */
    async function startFaulty(request: RequestKind, answer: string) {
      const { front, faults } = await faultyRegistry(registry.host)
      const fault = { request, answer }
      faults.set(FAULTY, fault)
      return Object.assign(front, {
        isRefused: ({ method, url }: Seen) => isKind(request, { method, url }),
        only: (of: string) => faults.set(FAULTY, { ...fault, of }),
      })
    }

    test.each(['stored', 'of a helper'])('an identity token that is %s is exchanged', async (where) => {
      await using tokens = await tokenRegistry({}, 'a-refresh-token')
      await using folder = await tempDir()
      const credentials = await identityToken(folder.path, tokens.host, 'a-refresh-token', where === 'stored')
      const build = input({ Dockerfile: `FROM ${base}\nRUN echo by-token-${fresh()} > /x` })
      const reference = build.reference.replace(registry.host, tokens.host)
      await builder(credentials).build({ ...build, reference }, io())
      await subject.forget(reference)
      const log = io()
      await builder(credentials).build(input({ Dockerfile: `FROM ${reference}\nRUN cat /x` }), log)
      expect(log.log.text).toMatch(/ by-token-/)
      const traded = tokens.tokens.filter(({ method }) => method === 'POST')
      expect(traded.length).toBeGreaterThanOrEqual(2)
      const grants = traded.map(({ body }) => new URLSearchParams(body).get('grant_type'))
      expect(new Set(grants)).toEqual(new Set(['refresh_token']))
    })

    test('a push to a registry that is down is retried, and then a retryable error', async () => {
      await using gone = await startRegistry()
      const build = input({ Dockerfile: `FROM ${base}\nRUN echo ${fresh()} > /x` })
      const reference = build.reference.replace(registry.host, gone.host)
      await gone.stop()
      const log = io()
      const error = await failure(builder().build({ ...build, reference }, log))
      expect(error).toMatchObject({ kind: 'unavailable', retryable: true })
      expect(error.advice).toMatch(
        /pushing .* failed: .*connection refused.*Check that the registry is running/,
      )
      expect(log.log.text.match(/push failed, retrying/g)).toHaveLength(2)

      await gone.start()
      await builder().build({ ...build, reference }, io())
    })
  })
}

/** Ids of processes whose command line contains `text`. */
async function processesWith(text: string): Promise<string[]> {
  const found: string[] = []
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    // The process may have ended in the meantime.
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    if (command.replaceAll('\0', ' ').includes(text)) found.push(pid)
  }
  return found
}
