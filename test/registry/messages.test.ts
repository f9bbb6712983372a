import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { buildError } from '../../src/lib/builder/build-errors.ts'
import { ConveyorError } from '../../src/lib/core/errors.ts'
import { parseRegistryMessage } from '../../src/lib/registry/messages.ts'
import type { RegistryResponse } from '../../src/lib/registry/response.ts'
import { failingSteps } from '../support/images/failing-steps.ts'
import { ANSWERS } from '../support/registry/answers.ts'
import type { Recording } from '../support/registry/record-texts.ts'
import { threadTime } from '../support/timing/thread-time.ts'

/** Recorded messages of each version of the engine and of BuildKit: see test/support/registry/record-texts.ts. */
const FOLDER = join(import.meta.dirname, '../support/registry/recordings')
const recordings = readdirSync(FOLDER).map((file): [string, Recording[]] => [
  file.replace('.json', ''),
  JSON.parse(readFileSync(join(FOLDER, file), 'utf8')) as Recording[],
])

/** The status and error code of a planned response. */
function planned(name: string): RegistryResponse | null {
  const answer = ANSWERS[name]
  if (!answer || answer.status < 400) return null
  const [first] = /^\{/.test(answer.body)
    ? (JSON.parse(answer.body) as { errors: [{ code: string }] }).errors
    : []
  return { status: answer.status, code: first?.code ?? '', message: '' }
}

/** Whether what we read agrees with the registry's response, as far as the message tells. */
function agrees(said: RegistryResponse, really: RegistryResponse): boolean {
  const codeIsRight = said.code === '' || said.code === really.code
  if (said.status !== null) return said.status === really.status && (codeIsRight || said.code === 'UNKNOWN')
  // Engines that push by themselves report "unknown" for codes that are not in the specification.
  return said.code !== '' && (codeIsRight || (said.code === 'UNKNOWN' && really.code === 'PRECONDITION'))
}

/** The cases in which messages differ from the registry's response, and what they say instead. */
function exception({ phase, request, answer }: Recording, version: string): RegExp | null {
  const itself = phase !== 'pull' && /classic|20\.10/.test(version)
  if (!itself) return answer === 'no scope' || request === 'token' ? /401|40\d|unreachable/ : /"status":404/
  // The pinged registry had no token server.
  if (request === 'ping') return answer === 'no scope' ? /404/ : /"status":\d|unreachable|UNAUTHORIZED/
  // They treat any response of a token server as a missing login; pulls fall back to another kind of request.
  if (request === 'token' || answer === 'no scope' || answer === 'no login')
    return /UNAUTHORIZED|DENIED|"status":401/
  if (answer === 'no repository') return /BLOB_UPLOAD_UNKNOWN|MANIFEST_UNKNOWN|unknown blob|UNKNOWN/
  if (request === 'HEAD blob') return /"status":\d|"code":"UN/
  return /DENIED|"status":401|MANIFEST_UNKNOWN|UNAUTHORIZED/
}

describe.each(recordings)('%s', (version, all) => {
  test('the recordings cover all requests and responses', () => {
    const failures = all.filter(({ text }) => text !== null)
    expect(new Set(failures.map(({ answer }) => answer))).toEqual(
      new Set([...Object.keys(ANSWERS), '', 'nobody listens', 'no such host', 'closed at once']),
    )
    expect(failures.length).toBeGreaterThan(150)
  })

  test.each(['push', 'pull', 'image pull'])(
    "the message about a %s gives the registry's response",
    (phase) => {
      const wrong: string[] = []
      for (const one of all.filter((each) => each.phase === phase)) {
        if (one.text === null) continue
        const said = parseRegistryMessage(one.text)
        const really = planned(one.answer)
        if (said?.kind === 'answer' && really && agrees(said.answer, really)) continue
        if (said?.kind === 'unreachable' && !really) continue
        if (said && exception(one, version)?.test(JSON.stringify(said))) continue
        wrong.push(`${one.request}, ${one.answer}: ${one.text} is read as ${JSON.stringify(said)}`)
      }
      expect(wrong).toEqual([])
    },
  )

  test("a base image that cannot be pulled is named, with its registry's response", async () => {
    for (const { phase, answer, request, text, failed } of all) {
      if (phase !== 'pull' || text === null || request === 'connection') continue
      const error = await errorOf(text, failed)
      const passes = answer === 'cut off' || (planned(answer)?.status ?? 0) >= 429
      expect(`${answer}: ${error.kind}`).toBe(`${answer}: ${passes ? 'unavailable' : 'build_failed'}`)
      expect(error.retryable).toBe(passes)
      expect(error.message).toMatch(
        request === 'GET layer'
          ? /^a layer of (a base image:|the base image \S+:)|^base image /
          : /^base image registry\.test:5000\/acme\/app/,
      )
      if (planned(answer)?.status === 403)
        expect(error.hint).toMatch(/^Run `docker login registry\.test:5000`/)
    }
  })

  const errorOf = (text: string, failed: Recording['failed'], dockerfile = '') =>
    buildError(
      { thrown: new Error(text), ours: undefined, failed: failed ?? undefined },
      { dockerfile: async () => dockerfile },
    )
  const contexts = failingSteps('http://files.test')

  test.each(Object.keys(contexts))('%s', async (request) => {
    const one = all.find((each) => each.phase === 'step' && each.request === request)
    if (!one) throw new Error('it was not recorded')
    if (one.text === null) return expect(WORKS_SINCE).toContain(request)
    const error = await errorOf(one.text, one.failed, String(contexts[request]?.Dockerfile))
    const expected = STEPS[request]
    if (!expected) throw new Error('nothing is expected of it')
    expect(error.advice).toMatch(expected)
    const passes = /URL that fails|at which nobody|of no host|cut off|FROM of a stage/.test(request)
    expect(error).toMatchObject({ kind: passes ? 'unavailable' : 'build_failed', retryable: passes })
  })
})

const NOT_IN_CONTEXT =
  /is not in the build context\. Check the path .* committed and not excluded by \.dockerignore$/
const IN_STAGE =
  /"\/(app|app\/dist|nope)" is not in the stage build\. Check the path .* that the stage build creates it$/
const NEWER = (what: string) =>
  new RegExp(
    `does not support ${what}\\. Start the Dockerfile with \`# syntax=docker/dockerfile:1(-labs)?\`, or use a newer engine$`,
  )

/** Steps that only some versions support. */
const WORKS_SINCE = [
  'a heredoc of RUN',
  'a heredoc of COPY',
  'COPY --link',
  'ADD --link',
  'COPY of a pattern that matches nothing',
]
const STEPS: Record<string, RegExp> = {
  'COPY of the context': NOT_IN_CONTEXT,
  'COPY of the context, in a folder': NOT_IN_CONTEXT,
  'COPY of two, of which one is missing': NOT_IN_CONTEXT,
  'ADD of the context': NOT_IN_CONTEXT,
  'COPY of what a heredoc made': new RegExp(`${NOT_IN_CONTEXT.source}|${NEWER('heredocs').source}`),
  'COPY --from of a stage': IN_STAGE,
  'COPY --from of a stage, a pattern': IN_STAGE,
  'COPY --from of an image': /"\/app" is not in the image registry\.test:5000\/base:1\./,
  'a mount of a missing path': /"\/nope" is not in the stage build\./,
  'a heredoc of RUN': NEWER('heredocs'),
  'a heredoc of COPY': NEWER('heredocs'),
  'COPY --link': NEWER('--link'),
  'ADD --link': NEWER('--link'),
  'COPY --parents': NEWER('--parents'),
  'COPY --exclude': NEWER('--exclude'),
  'ADD --checksum': new RegExp(`^digest mismatch |${NEWER('--checksum').source}`),
  'ADD of a URL that is not there': /http:\/\/files\.test\/404 answered HTTP 404\. Check the URL/,
  'ADD of a URL that may not be read': /http:\/\/files\.test\/403 answered HTTP 403\. Check the URL/,
  'ADD of a URL that fails': /http:\/\/files\.test\/503 answered HTTP 503\. The server/,
  'ADD of a URL at which nobody listens':
    /http:\/\/127\.0\.0\.1:1\/file could not be downloaded: .*connection refused/,
  'ADD of a URL of no host': /http:\/\/no-such-host\.invalid\/file could not be downloaded: .*no such host/,
  'ADD of a URL that is cut off': /http:\/\/files\.test\/cut could not be downloaded: unexpected EOF/,
  'ADD of a git repository that is not there':
    /^\[3\/3\] ADD http:\/\/files\.test\/no\/such\.git \/x: |^http:\/\/files\.test\/no\/such\.git answered HTTP 404\./,
  'ADD of a damaged tar.gz': /^\[3\/3\] ADD damaged\.tar\.gz \/x\/: /,
  'FROM of a stage that is not there':
    /^base image docker\.io\/library\/nowhere:latest: the registry does not respond: /,
  'an unknown instruction': /^dockerfile parse error (on )?line 3: unknown instruction: CPOY/,
  'a RUN that fails': /^\[3\/3\] RUN exit 3 failed with exit code 3$/,
  'a syntax line that is not there':
    /^base image registry\.test:5000\/no\/such:1: the registry does not have it/,
  'a target that is not there': /^target stage "?nowhere"? could not be found$/,
}

describe('single words and numbers in a text prove nothing', () => {
  test.each([
    'failed to export sha256:5035030000000000000000000000000000000000000000000000000000005030 from 403 Forbidden',
    'the 429 Too Many Requests of registry.test: denied: EOF',
    'x: unexpected status: 503 Service Unavailable, and then some more\n',
  ])('%s', (text) => expect(parseRegistryMessage(text)).toBeNull())

  test('nor do file names, or the text of a server', async () => {
    const step = { name: '[2/2] COPY "503 EOF" /', error: '' }
    const thrown = new Error(
      'failed to compute cache key: "/503 Service Unavailable: EOF" not found: not found',
    )
    const error = await buildError({ thrown, ours: undefined, failed: step })
    expect(error).toMatchObject({ kind: 'build_failed', retryable: false })
    const said = parseRegistryMessage('denied: unexpected status: 503 Service Unavailable')
    expect(said).toMatchObject({ answer: { status: null, code: 'DENIED' } })
  })

  test('very long texts are parsed quickly', () => {
    const taken = threadTime()
    for (const text of ['failed to copy: ', '"', ' x: ', 'unknown: <html>', '<h1>', 'not found: ']) {
      expect(parseRegistryMessage(text.repeat(200_000)) instanceof ConveyorError).toBe(false)
    }
    expect(taken()).toBeLessThan(5000)
  })
})
