import { setTimeout as sleep } from 'node:timers/promises'
import Docker from 'dockerode'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { BuildInput } from '../src/lib/builder/builder.ts'
import { engineBuilder } from '../src/lib/builder/engine-builder.ts'
import { ConveyorError } from '../src/lib/errors.ts'
import type { Credentials } from '../src/lib/registry/registry.ts'
import { engine } from './support/global-setup.ts'
import { memoryContext } from './support/memory-context.ts'
import { memoryLog } from './support/memory-log.ts'
import { startRegistry, type TestRegistry } from './support/registry.ts'

const BASE = 'conveyor-test/busybox:1'
const NOBODY: Credentials = { forHost: async () => null }
const LOGIN = { username: 'robot', password: 'secret-of-the-robot' }

let registry: TestRegistry
let locked: TestRegistry
beforeAll(async () => {
  ;[registry, locked] = await Promise.all([startRegistry(), startRegistry({ htpasswd: LOGIN })])
})
afterAll(async () => {
  await registry[Symbol.asyncDispose]()
  await locked[Symbol.asyncDispose]()
})

let names = 0
/** A build under a name of its own, so that tests do not meet in the engine. */
function input(files: Record<string, string>, rest: Partial<BuildInput> = {}): BuildInput {
  const name = `engine-builder/t${process.pid}-${names++}`
  return {
    context: memoryContext(files),
    reference: `${registry.host}/${name}:1`,
    cacheKey: name,
    cache: true,
    cacheFrom: [],
    labels: {},
    buildArgs: {},
    secrets: {},
    network: engine().network,
    ...rest,
  }
}

function builder(credentials: Credentials = NOBODY) {
  return engineBuilder({ docker: engine().docker, credentials, pushRetryDelays: [1, 1] })
}

function io(signal: AbortSignal = new AbortController().signal) {
  return { log: memoryLog(), signal }
}

async function failure(work: Promise<unknown>): Promise<ConveyorError> {
  const thrown = await work.then(
    () => new Error('it succeeded'),
    (error: unknown) => error,
  )
  expect(thrown).toBeInstanceOf(ConveyorError)
  return thrown as ConveyorError
}

/** Something that differs in every run, so that the engine has no step of it in its cache. */
const fresh = () => `${process.pid}-${performance.now()}`

describe('build', () => {
  test('builds, shows the progress, and sends only what changed the next time', async () => {
    const files = {
      Dockerfile: `FROM ${BASE}\nCOPY . /app\nRUN echo out-$((1+1)); cat /app/a/x`,
      'a/x': fresh(),
      b: 'b',
    }
    const first = input(files, { labels: { color: 'green' } })
    const one = io()
    const built = await builder().build(first, one)
    expect(built.steps).toMatchObject({ total: 2 })
    expect(built.transfer).toMatchObject({ files: 4 }) // the Dockerfile twice: as such, and in the context
    expect(one.log.text).toMatch(/#\d+ \[2\/3\] COPY \. \/app\n/)
    expect(one.log.text).toMatch(/#\d+ \d+\.\d{3} out-2\n/)
    expect(one.log.text).toMatch(/#\d+ DONE \d+\.\ds\n/)
    const image = await engine().docker.getImage(first.reference).inspect()
    expect(image.Id).toBe(built.imageId)
    expect(image.Config.Labels).toMatchObject({ color: 'green' })

    const two = io()
    const again = await builder().build({ ...first, context: memoryContext({ ...files }) }, two)
    expect(again.imageId).toBe(built.imageId)
    expect(again.transfer.files).toBe(0)
    expect(again.steps.cached).toBe(2)
    expect(two.log.text).toMatch(/#\d+ CACHED\n/)

    const changed = await builder().build(
      { ...first, context: memoryContext({ ...files, 'a/x': fresh() }) },
      io(),
    )
    expect(changed.transfer).toMatchObject({ files: 1 })
    expect(changed.imageId).not.toBe(built.imageId)
  })

  test('sends only the paths that the Dockerfile copies', async () => {
    const files = {
      Dockerfile: `FROM ${BASE}\nCOPY part/ /p/\nCOPY *.txt /t/\nRUN find /p /t -type f | sort`,
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
        Dockerfile: `FROM ${BASE}\nCOPY ["a, b", "/x/"]\nCOPY c /x/\nRUN cat "/x/a, b"`,
        'a, b': `comma ${fresh()}`,
        c: 'c',
      }),
      log,
    )
    expect(log.log.text).toContain('comma')
  })

  test('a build secret reaches RUN, and neither the image nor its history', async () => {
    const secret = `s3cret-${fresh()}`
    const build = input(
      {
        Dockerfile: `FROM ${BASE}\nRUN --mount=type=secret,id=token md5sum /run/secrets/token && wc -c < /run/secrets/token`,
      },
      { secrets: { token: Buffer.from(secret) }, cache: false },
    )
    const log = io()
    await builder().build(build, log)
    expect(log.log.text).toMatch(new RegExp(` ${secret.length}\n`))
    const image = engine().docker.getImage(build.reference)
    expect(JSON.stringify([await image.inspect(), await image.history()])).not.toContain(secret)
  })

  test('a secret that nobody has is named', async () => {
    const error = await failure(
      builder().build(
        input({
          Dockerfile: `FROM ${BASE}\nRUN --mount=type=secret,id=nope,required=true cat /run/secrets/nope ${fresh()}`,
        }),
        io(),
      ),
    )
    expect(error.kind).toBe('build_failed')
    expect(error.message).toContain('nope')
  })

  test('without cache every step runs again', async () => {
    const build = input({ Dockerfile: `FROM ${BASE}\nRUN date +%N > /now ${fresh()} || date +%N > /now` })
    const one = await builder().build(build, io())
    expect((await builder().build(build, io())).imageId).toBe(one.imageId)
    const anew = await builder().build({ ...build, cache: false }, io())
    expect(anew.imageId).not.toBe(one.imageId)
    expect(anew.steps.cached).toBe(0)
  })

  test('a failing RUN is a result: its step, its output, its exit code', async () => {
    const log = io()
    const error = await failure(
      builder().build(input({ Dockerfile: `FROM ${BASE}\nRUN echo about-to-fail && exit 7` }), log),
    )
    expect(error).toMatchObject({ kind: 'build_failed', retryable: false })
    expect(error.advice).toBe('[2/2] RUN echo about-to-fail && exit 7 ended with exit code 7')
    expect(log.log.text).toMatch(/about-to-fail\n/)
    expect(log.log.text).toMatch(/#\d+ ERROR: /)
  })

  test.each([
    [
      'COPY of a file that is not there',
      `FROM ${BASE}\nCOPY missing /x`,
      '"/missing" is not in the build context',
    ],
    ['an unknown instruction', `FROM ${BASE}\nFETCH x`, 'unknown instruction: FETCH'],
    ['an empty Dockerfile', '# nothing\n', 'file with no instructions'],
    ['a base image that the registry does not have', 'FROM REGISTRY/no/such:tag', 'no/such:tag: not found'],
  ])('%s is a result', async (_, dockerfile, message) => {
    const error = await failure(
      builder().build(input({ Dockerfile: dockerfile.replace('REGISTRY', registry.host) }), io()),
    )
    expect(error).toMatchObject({ kind: 'build_failed', retryable: false })
    expect(error.message).toContain(message)
  })

  test('a base image in a registry that is down is an error worth another try', async () => {
    const error = await failure(builder().build(input({ Dockerfile: 'FROM 127.0.0.1:1/base:1' }), io()))
    expect(error).toMatchObject({ kind: 'unavailable', retryable: true })
    expect(error.message).toContain('connection refused')
  })

  test('an engine that is down is an error that says what to do', async () => {
    const docker = new Docker({ socketPath: '/nonexistent/docker.sock' })
    const nowhere = engineBuilder({ docker, credentials: NOBODY })
    const error = await failure(nowhere.build(input({ Dockerfile: `FROM ${BASE}` }), io()))
    expect(error).toMatchObject({ kind: 'unavailable', retryable: true })
    expect(error.advice).toMatch(
      /the Docker engine did not open a build session: connect ENOENT.*docker version/,
    )
    expect((await failure(nowhere.isWarm('x'))).advice).toMatch(/engine does not answer: .*set DOCKER_HOST/)
  })

  test('aborting ends the step that runs in the engine', async () => {
    const marker = `sleep 1${process.pid}`
    const abort = new AbortController()
    const log = io(abort.signal)
    const building = builder().build(input({ Dockerfile: `FROM ${BASE}\nRUN echo started; ${marker}` }), log)
    const ended = expect(building).rejects.toThrow('enough')
    await expect.poll(() => log.log.text).toMatch(/ started\n/)
    abort.abort(new Error('enough'))
    await ended
    // The engine of this machine runs its steps as processes of this machine.
    await expect.poll(() => processes(marker), { timeout: 20_000 }).toEqual([])
  })

  test('output is kept to the byte, in lines, and a step whose output the engine clips is named', async () => {
    const log = io()
    await builder().build(
      input({
        Dockerfile: `FROM ${BASE}\nRUN echo ${fresh()}; yes 0123456789012345678901234567890123456789012345678901234567890123456789 | head -c 4000000; printf 'the end'`,
      }),
      log,
    )
    expect(log.log.text).toMatch(/warning: the engine clipped the output of #\d+ \[2\/2\] RUN echo/)
  })
})

describe('tidy', () => {
  test('keeps the newest images of a repository, and all of others', async () => {
    const able = engineBuilder({ docker: engine().docker, credentials: NOBODY, keepImages: 2 })
    const { reference } = input({})
    const name = reference.replace(/:1$/, '')
    const other = input({}).reference
    for (const tag of [`${name}:a`, `${name}:b`, `${name}:c`, `${name}-not:a`, other]) {
      const files = { Dockerfile: `FROM ${BASE}\nRUN echo ${fresh()} > /x` }
      await able.build({ ...input(files), reference: tag }, io())
      // The engine tells the age of images in whole seconds.
      await sleep(1000 - (Date.now() % 1000))
    }
    await able.tidy(name)
    const left = async (prefix: string) => {
      const images = await engine().docker.listImages()
      return images
        .flatMap(({ RepoTags }) => RepoTags ?? [])
        .filter((tag) => tag.startsWith(prefix))
        .sort()
    }
    expect(await left(name)).toEqual([`${name}-not:a`, `${name}:b`, `${name}:c`])
    expect(await left(other)).toEqual([other])
  })
})

describe('prefetch', () => {
  const digests = async (name: string) => {
    const images = await engine().docker.listImages({ filters: { reference: [name] } })
    return images.flatMap(({ RepoDigests }) => RepoDigests ?? [])
  }

  test('the layers are there for one build; the image counts for nothing, and is tidied away', async () => {
    const able = builder()
    const old = input({ Dockerfile: `FROM ${BASE}\nRUN echo ${fresh()} > /x` })
    const name = old.reference.replace(/:1$/, '')
    await able.build(old, io())
    const digest = await able.push(old.reference, io())
    await engine().docker.getImage(old.reference).remove()

    await able.prefetch(name, digest, new AbortController().signal)
    expect(await digests(name)).toEqual([`${name}@${digest}`])
    expect(await able.isWarm(name)).toBe(false)
    await able.tidy(name)
    expect(await digests(name)).toEqual([`${name}@${digest}`])

    const next = {
      ...input({ Dockerfile: `FROM ${BASE}\nRUN echo ${fresh()} > /x` }),
      reference: `${name}:2`,
    }
    await able.build(next, io())
    await able.tidy(name)
    expect(await digests(name)).toEqual([])
    expect(await able.isWarm(name)).toBe(true)
  })

  test('an image that is not there is an error', async () => {
    const name = `${registry.host}/never/built`
    const digest = `sha256:${'0'.repeat(64)}`
    const gone = await failure(builder().prefetch(name, digest, new AbortController().signal))
    expect(gone.message).toContain(`${name}@${digest}`)
  })
})

describe('push', () => {
  test('pushes to a registry that asks for a login, and to one that does not', async () => {
    for (const host of [registry.host, locked.host]) {
      const build = input({ Dockerfile: `FROM ${BASE}\nRUN echo ${fresh()} > /x` })
      const reference = build.reference.replace(registry.host, host)
      const credentials = { forHost: async (asked: string) => (asked === locked.host ? LOGIN : null) }
      const able = builder(credentials)
      await able.build({ ...build, reference }, io())
      const log = io()
      const digest = await able.push(reference, log)
      expect(digest).toMatch(/^sha256:[0-9a-f]{64}$/)
      expect(log.log.text).toMatch(/Pushed\n/)
      expect(await able.isWarm(reference.replace(/:1$/, ''))).toBe(true)
    }
    expect(await builder().isWarm(`${registry.host}/never/built`)).toBe(false)
  })

  test('a base image behind a login is pulled with it', async () => {
    const credentials = { forHost: async (host: string) => (host === locked.host ? LOGIN : null) }
    const base = input({ Dockerfile: `FROM ${BASE}\nRUN echo base-${fresh()} > /base` })
    const reference = base.reference.replace(registry.host, locked.host)
    await builder(credentials).build({ ...base, reference }, io())
    await builder(credentials).push(reference, io())
    await engine().docker.getImage(reference).remove()

    const child = { Dockerfile: `FROM ${reference}\nRUN cat /base` }
    const refused = await failure(builder().build(input(child), io()))
    expect(refused).toMatchObject({ kind: 'build_failed', retryable: false })
    expect(refused.hint).toContain('docker login')
    const log = io()
    await builder(credentials).build(input(child), log)
    expect(log.log.text).toMatch(/ base-/)
  })

  test('a refused login is final, and names the image', async () => {
    const build = input({ Dockerfile: `FROM ${BASE}\nRUN echo ${fresh()} > /x` })
    const reference = build.reference.replace(registry.host, locked.host)
    await builder().build({ ...build, reference }, io())
    const error = await failure(builder().push(reference, io()))
    expect(error).toMatchObject({ kind: 'unauthorized', retryable: false })
    expect(error.message).toContain(reference)
    expect(error.hint).toContain(`docker login ${locked.host}`)
  })

  test('a registry that is down is tried again, and then an error worth another attempt', async () => {
    await using gone = await startRegistry()
    const build = input({ Dockerfile: `FROM ${BASE}\nRUN echo ${fresh()} > /x` })
    const reference = build.reference.replace(registry.host, gone.host)
    await builder().build({ ...build, reference }, io())
    await gone.stop()
    const log = io()
    const error = await failure(builder().push(reference, log))
    expect(error).toMatchObject({ kind: 'unavailable', retryable: true })
    expect(error.advice).toMatch(/pushing .* failed: .*connection refused.*Check that the registry runs/)
    expect(log.log.text.match(/push failed, trying again/g)).toHaveLength(2)

    await gone.start()
    await builder().push(reference, io())
  })
})

/** Ids of processes whose command line has `text` in it. */
async function processes(text: string): Promise<string[]> {
  const { readdir, readFile } = await import('node:fs/promises')
  const found: string[] = []
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    // A process may end while we look.
    const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    if (command.replaceAll('\0', ' ').includes(text)) found.push(pid)
  }
  return found
}
