import { randomUUID } from 'node:crypto'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { ConveyorError } from '../../src/lib/core/errors.ts'
import type { RunInput, Runner } from '../../src/lib/runner/runner.ts'
import type { BuilderImage } from '../support/images/builder-images.ts'
import { memoryLog } from '../support/memory-log.ts'

/** Where the Runner under test runs its containers. */
export interface RunnerSubject extends AsyncDisposable {
  /** Makes a builder image with this name wherever a container may run. */
  makeImage(name: string, image: BuilderImage): Promise<void>
  /** A Runner of this image, with a container `data` that holds `secret`. */
  builder(image: string): Runner
  /** The content of `/var/run/conveyor/.ssh/id_rsa` in the containers. */
  secret: string
  /**
   * The names of everything of a build in the engine, or on any node: containers, services, tasks. Empty afterwards.
   */
  remains(buildId: string): Promise<string[]>
  /** The names of all volumes of the engine, or of every node. */
  volumes(): Promise<string[]>
}

const SHA = '827fecd2d36ebeaa2fd05aa8ef3eed1e56a8cd57'
/** An image that runs the name of the branch as a script (in hex, because a branch has no spaces). */
const PROGRAM = 'printf "%b" "$BRANCH" > /program; exec sh /program\n'
const hex = (script: string) => [...Buffer.from(script)].map((byte) => `\\x${byte.toString(16)}`).join('')

/** A build whose container runs this script. */
export function scripted(script: string, rest: Partial<RunInput> = {}): RunInput {
  const build = { repository: 'Acme/Web', sha: SHA, dry: false, cache: true, cacheNamespace: 'its-own' }
  return { buildId: randomUUID(), attempt: 1, branch: hex(script), ...build, ...rest }
}

/** What every Runner promises. `makeSubject` prepares the engine that it runs on. */
export function runnerContract(name: string, makeSubject: () => Promise<RunnerSubject>): void {
  describe(`${name} (build container contract)`, () => {
    const image = `conveyor-test/contract:${randomUUID()}`
    let subject: RunnerSubject
    beforeAll(async () => {
      subject = await makeSubject()
      await subject.makeImage(image, { script: PROGRAM, dockerfile: 'VOLUME /scratch' })
      await subject.makeImage(`${image}-env`, { script: 'env; echo to-stderr >&2\n' })
    })
    afterAll(() => subject[Symbol.asyncDispose]())

    const run = async (build: RunInput) => {
      const log = memoryLog()
      await subject.builder(image).run(build, { log, signal: new AbortController().signal })
      expect(await subject.remains(build.buildId)).toEqual([])
      return log.text
    }

    test('the image gets the build in its environment, and both stdout and stderr go to the log', async () => {
      const log = memoryLog()
      const build = scripted('', { branch: 'feature/x' })
      const io = { log, signal: new AbortController().signal }
      await subject.builder(`${image}-env`).run(build, io)
      const lines = log.text.split('\n')
      for (const line of [
        'REPOSITORY=acme/web',
        `SHA=${SHA}`,
        'BRANCH=feature/x',
        'DRY=',
        'CACHE=on',
        'BUILDKIT_CACHE_MOUNT_NS=its-own',
      ]) {
        expect(lines).toContain(line)
      }
      expect(lines).toContain('to-stderr')
      expect(await subject.remains(build.buildId)).toEqual([])
    })

    test('no branch, a dry run and no cache are passed as the contract says', async () => {
      const log = memoryLog()
      const io = { log, signal: new AbortController().signal }
      const build = scripted('', { branch: null, dry: true, cache: false })
      await subject.builder(`${image}-env`).run(build, io)
      const lines = log.text.split('\n')
      for (const line of ['BRANCH=', 'DRY=true', 'CACHE=off']) expect(lines).toContain(line)
    })

    test('the secrets are mounted where the image expects them', async () => {
      expect(await run(scripted('cat /var/run/conveyor/.ssh/id_rsa'))).toContain(subject.secret)
    })

    test('a status other than 0 is a build failure, and the log is complete', async () => {
      const build = scripted('echo so far; exit 3')
      const log = memoryLog()
      const failed = failure(subject.builder(image).run(build, { log, signal: new AbortController().signal }))
      expect(await failed).toMatchObject({ kind: 'build_failed', retryable: false })
      expect((await failed).message).toMatch(/\b3\b/)
      expect(log.text).toBe('so far\n')
      expect(await subject.remains(build.buildId)).toEqual([])
    })

    test('a lot of output of both streams arrives completely, even with a slow reader', async () => {
      const line = '0123456789'.repeat(9)
      const count = (stream: string) =>
        `i=0; while [ $i -lt 100 ]; do yes "${stream} ${line}" | head -n 400; i=$((i+1)); done`
      const build = scripted(`(${count('err')}) >&2 & (${count('out')}); wait`)
      let text = ''
      let writes = 0
      const log = {
        ...memoryLog(),
        async write(chunk: Uint8Array | string) {
          text += Buffer.from(chunk).toString('latin1')
          // A store that is slower than the container, and stalls at its end.
          if (writes++ % 50 === 0) await sleep(2)
          if (writes === 2000) await sleep(3000)
        },
      }
      await subject.builder(image).run(build, { log, signal: new AbortController().signal })
      const counts = { out: 0, err: 0, other: 0 }
      for (const one of text.split('\n').filter((l) => l !== '')) {
        if (one === `out ${line}`) counts.out++
        else if (one === `err ${line}`) counts.err++
        else counts.other++
      }
      expect(counts).toEqual({ out: 40_000, err: 40_000, other: 0 })
    })

    test('keeps bytes that are not UTF-8, in lines of any length, and in an unterminated last line', async () => {
      const script =
        "printf '\\377\\376\\000x'; head -c 300000 /dev/zero | tr '\\0' '\\200'; printf 'the end'"
      const pieces: Buffer[] = []
      const log = {
        ...memoryLog(),
        async write(chunk: Uint8Array | string) {
          pieces.push(Buffer.from(chunk))
        },
      }
      await subject.builder(image).run(scripted(script), { log, signal: new AbortController().signal })
      const start = Buffer.from([0xff, 0xfe, 0, 0x78])
      const expected = Buffer.concat([start, Buffer.alloc(300_000, 0x80), Buffer.from('the end')])
      const got = Buffer.concat(pieces)
      // An engine may terminate the last line.
      const end = got.at(-1) === 0x0a ? -1 : got.length
      expect(got.subarray(0, end).equals(expected)).toBe(true)
    })

    test('cancelling stops the container gracefully, and its last output is in the log', async () => {
      const script = "trap 'echo cleaning up; exit 0' TERM; echo begun; while :; do sleep 1 & wait $!; done"
      const build = scripted(script)
      const abort = new AbortController()
      const log = memoryLog()
      const running = failure(subject.builder(image).run(build, { log, signal: abort.signal }))
      await expect.poll(() => log.text).toContain('begun')
      const reason = new ConveyorError('cancelled', 'enough')
      abort.abort(reason)
      expect(await running).toBe(reason)
      expect(log.text).toContain('cleaning up')
      expect(await subject.remains(build.buildId)).toEqual([])
    })

    test('a container that ignores SIGTERM is killed', async () => {
      const build = scripted("trap '' TERM; echo begun; while :; do sleep 1; done")
      const abort = new AbortController()
      const log = memoryLog()
      const running = failure(subject.builder(image).run(build, { log, signal: abort.signal }))
      await expect.poll(() => log.text).toContain('begun')
      abort.abort(new ConveyorError('timeout', 'too long'))
      expect(await running).toMatchObject({ kind: 'timeout' })
      expect(await subject.remains(build.buildId)).toEqual([])
    })

    test('a build that is already cancelled starts no container', async () => {
      const build = scripted('echo ran')
      const log = memoryLog()
      const reason = new ConveyorError('cancelled', 'before it began')
      const running = subject.builder(image).run(build, { log, signal: AbortSignal.abort(reason) })
      expect(await failure(running)).toBe(reason)
      expect(log.text).toBe('')
    })

    test('anonymous volumes are removed with the container', async () => {
      // The mount of a volume shows its directory, .../volumes/NAME/_data.
      const text = await run(scripted('echo x > /scratch/x; grep " /scratch " /proc/self/mountinfo'))
      const volume = /\/volumes\/([^/ ]+)\/_data \/scratch /.exec(text)?.[1]
      expect(volume, text).toBeDefined()
      expect(await subject.volumes()).not.toContain(volume)
    })

    test('the next attempt removes what the last one left behind', async () => {
      const script = 'echo cache is $CACHE; [ $CACHE = off ] || exec sleep 1000'
      const build = scripted(script)
      const log = memoryLog()
      const lost = failure(subject.builder(image).run(build, { log, signal: new AbortController().signal }))
      await expect.poll(() => log.text).toContain('cache is on')
      expect(await run({ ...build, cache: false })).toBe('cache is off\n')
      // To the worker that lost the build this is not a result: the Dockerfile is not at fault.
      expect(await lost).toMatchObject({ kind: 'unavailable', retryable: true })
    })

    test('what runs is found without the process that started it, and can be removed', async () => {
      const build = scripted('echo begun; exec sleep 1000', { attempt: 3 })
      const log = memoryLog()
      const lost = failure(subject.builder(image).run(build, { log, signal: new AbortController().signal }))
      await expect.poll(() => log.text).toContain('begun')
      const { buildId } = build
      const other = subject.builder(image)
      expect(await other.containers(randomUUID())).toEqual([])
      expect(await other.containers()).toContainEqual(expect.objectContaining({ buildId, attempt: 3 }))
      const [found] = await other.containers(buildId)
      expect(found).toMatchObject({ buildId, attempt: 3 })
      await found?.remove()
      expect(await lost).toMatchObject({ kind: 'unavailable', retryable: true })
      await expect.poll(() => subject.remains(buildId)).toEqual([])
      await found?.remove()
    })

    test('a missing image is an error with a hint', async () => {
      const missing = '127.0.0.1:1/conveyor-test/missing:1'
      const build = scripted('')
      const io = { log: memoryLog(), signal: new AbortController().signal }
      const error = await failure(subject.builder(missing).run(build, io))
      expect(error.advice).toContain(missing)
      expect(error.hint).toBeDefined()
      expect(await subject.remains(build.buildId)).toEqual([])
    })
  })
}

/** The error that a run ended with, which must be one of ours. */
export async function failure(work: Promise<unknown>): Promise<ConveyorError> {
  const thrown = await work.then(
    () => new Error('it succeeded'),
    (error: unknown) => error,
  )
  expect(thrown).toBeInstanceOf(ConveyorError)
  return thrown as ConveyorError
}
