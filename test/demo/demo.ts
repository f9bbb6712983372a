// Watch a git push become an image. Everything is real (git, the Docker Engine, a registry, the Conveyor
// server as you would run it); only GitHub's API is played by a double, which lives on this machine.
// The demo checks what it shows: it ends with status 1 as soon as something is not as it says.
import assert from 'node:assert/strict'
import type { Files } from '../support/git/repository.ts'
import { NODE_IMAGE } from '../support/images/base-images.ts'
import { lastLines, runConveyor } from '../support/processes.ts'
import { type PushResult, push } from './push.ts'
import { runImage } from './run-image.ts'
import * as show from './show.ts'
import { applicationFiles, type Surroundings, startSurroundings } from './surroundings.ts'

const REPOSITORY = 'acme/greeter'

interface Commit {
  sha: string
  message: string
}

async function story(around: Surroundings, signal: AbortSignal): Promise<void> {
  const { docker, git, server } = around
  const repository = await git.create(REPOSITORY)
  const commit = async (files: Files, message: string) => {
    return { message, sha: await repository.commit(files, { message, date: new Date() }) }
  }
  /** Sends the push of a commit and shows what comes of it; `live` shows its whole log, not the summary. */
  const pushed = async ({ sha, message }: Commit, { branch = 'main', live = false } = {}) => {
    show.fact('push', `${sha.slice(0, 12)} "${message}" to ${branch}`)
    const result = await push(around, {
      ...{ repository: REPOSITORY, sha, branch, message, signal },
      onAnswer: ({ status, ms, body }) =>
        show.fact('webhook', `answered ${status} in ${ms} ms: ${body.outcome} build ${body.id}`),
      onLog: (line) => live && show.logLine(line),
      onStatus: ({ state, description }) => show.status(state, description),
    })
    if (!live) show.fact('log', result.summary)
    return result
  }

  show.heading('2. A first push: a small web service, tested and compiled by its Dockerfile')
  const files = await applicationFiles()
  const first = await pushed(await commit(files, 'Greet people'), { live: true })
  show.fact('image', first.image)
  show.fact('tags', (await checkTags(around, first, [first.sha, 'main', 'latest'])).join('\n'))

  show.heading('3. The image runs')
  await runs(around, first.image, 'Hello, Ada!')

  show.heading('4. One line changes')
  const source = String(files['src/greeting.ts']).replace('Hello,', 'Good morning,')
  const changed = await commit({ 'src/greeting.ts': source }, 'Greet by the time of day')
  show.diff(await changedLines(repository.git('diff', '--unified=0', first.sha, changed.sha)))
  const second = await pushed(changed)
  await checkTags(around, second, [second.sha, 'main', 'latest'])
  assert.notEqual(second.image, first.image, 'the change is not in the new image')
  await runs(around, second.image, 'Good morning, Ada!')

  show.heading('5. Nothing changes that the image is made of')
  const readme = `${files['README.md']}\nIt speaks English, French and Icelandic.\n`
  const documented = await commit({ 'README.md': readme }, 'Say more in the README')
  const third = await pushed(documented)
  await checkTags(around, third, [third.sha, 'main', 'latest'])

  show.heading('6. The same commit on another branch')
  const fourth = await pushed(documented, { branch: 'release/1.0' })
  assert.equal(fourth.image, third.image, 'the commit was built twice')
  show.fact('tags', (await checkTags(around, fourth, ['release-1.0', 'latest'])).join('\n'))

  show.heading('7. Seconds from the webhook to the last commit status, and where they went')
  show.table([
    ['', 'seconds', 'fetch', 'build', 'push', 'tag', 'rest', 'steps cached'],
    figures('first push', first),
    figures('one line changed', second),
    figures('only the README changed', third),
    figures('same commit, other branch', fourth),
  ])
  const megabytes = Math.round((await docker.getImage(NODE_IMAGE).inspect()).Size / 1e6)
  show.paragraph(
    `push of the first: the registry was empty, so the base image (${megabytes} MB) went there too`,
  )
  show.paragraph('rest: the answer to the webhook, the queue, the commit statuses')

  show.heading('8. The image of a commit, from a script')
  const target = `${REPOSITORY}:${second.sha}`
  show.paragraph(`$ IMAGE=$(conveyor build ${target})`)
  const asked = await runConveyor(['build', target, '--url', server.url])
  assert.equal(asked.code, 0, `conveyor build ended with status ${asked.code}: ${asked.stderr}`)
  assert.equal(asked.stdout, `${second.image}\n`, 'conveyor build printed another image')
  show.paragraph(`$ echo $IMAGE\n${asked.stdout.trimEnd()}`)
}

/** Runs an image and checks how it greets Ada. */
async function runs({ docker }: Surroundings, image: string, expected: string): Promise<void> {
  const { printed, answer } = await runImage(docker, image, '/Ada')
  show.fact('run', printed)
  show.fact('GET /Ada', answer)
  assert.equal(answer, expected, `the image answers ${answer}, not ${expected}`)
}

const MANIFEST_TYPES = [
  'application/vnd.docker.distribution.manifest.v2+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.oci.image.index.v1+json',
]

/** Checks in the registry that tags point at the image. @returns their full names */
async function checkTags(
  { registry }: Surroundings,
  { image }: PushResult,
  tags: string[],
): Promise<string[]> {
  const [name = '', digest] = image.split('@')
  for (const tag of tags) {
    const url = `${registry.url}/v2/${REPOSITORY}/manifests/${tag}`
    const answer = await fetch(url, { method: 'HEAD', headers: { accept: MANIFEST_TYPES.join(', ') } })
    const found = answer.headers.get('docker-content-digest')
    assert.equal(found, digest, `the tag ${tag} points at ${found}, not at ${digest}`)
  }
  return tags.map((tag) => `${name}:${tag}`)
}

async function changedLines(diff: Promise<string>): Promise<string> {
  const lines = (await diff).split('\n').filter((line) => /^[+-](?![+-]{2})/.test(line))
  assert.equal(lines.length, 2, 'more than one line has changed')
  return lines.join('\n')
}

/** A row of the table, from a summary like `fetch 0.03 s (...), build 0.61 s (3 of 4 steps cached), ...`. */
function figures(label: string, { seconds, summary }: PushResult): string[] {
  const phases = ['fetch', 'build', 'push', 'tag'].map((phase) =>
    Number(summary.match(new RegExp(`\\b${phase} (\\d+\\.\\d+) s`))?.[1] ?? 0),
  )
  const rest = seconds - phases.reduce((sum, phase) => sum + phase, 0)
  const cached = /\d+ of \d+(?= steps cached)/.exec(summary)?.[0] ?? 'nothing built'
  return [label, ...[seconds, ...phases, rest].map((figure) => figure.toFixed(2)), cached]
}

function farewell(ownEngine = false): void {
  show.heading('All that was started has ended; its images and temporary folders are gone.')
  show.paragraph(
    ownEngine
      ? 'The base image and the build cache are kept in .conveyor/ for the next time; `make clean` removes them.'
      : `Docker keeps the base image and its build cache: \`docker image rm ${NODE_IMAGE}\`, \`docker builder prune\`.`,
  )
  show.heading('To look further')
  show.paragraph('README.md                                         how it works, the API, every option')
  show.paragraph('test/demo/demo.ts                                 what you have just seen')
  show.paragraph('node_modules/.bin/node bin/run.js server --help   options of `conveyor server`')
  show.paragraph('make test                                         all tests, on the same real parts')
}

const stop = new AbortController()
// Only the first counts: npm passes on a Ctrl-C that the terminal has sent to everybody already.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stop.abort())
process.stdout.on('error', () => stop.abort()) // whoever read this has gone

const resources = new AsyncDisposableStack()
let around: Surroundings | undefined
let exitCode = 0
try {
  show.title('Conveyor: a git push becomes an image')
  show.heading('1. What it needs, all of it on this machine')
  around = await startSurroundings(resources, stop.signal)
  await story(around, stop.signal)
} catch (error) {
  exitCode = stop.signal.aborted ? 130 : 1
  if (stop.signal.aborted) show.failure('Interrupted: ending what was started.')
  else {
    show.failure(`The demo failed: ${(error as Error).message}`)
    if (around) show.fact('server', lastLines(around.server.stderr()))
  }
}
try {
  await resources.disposeAsync()
} catch (error) {
  exitCode ||= 1
  show.failure(`Something may be left: ${(error as Error).message}`)
}
if (exitCode === 0) farewell(around?.engine.own)
// Not by itself: after an interruption something may still be waited for.
process.exit(exitCode)
