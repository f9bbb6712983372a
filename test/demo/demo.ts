// Watch a git push become an image. Everything is real (git, the Docker Engine, a registry, and the Conveyor server as
// you would run it) except GitHub's API, which is replaced by a local test double. The demo verifies what it shows, and
// exits with status 1 on the first mismatch.
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
  /** Sends the push of a commit and shows its build; `live` shows the whole log instead of the summary. */
  const pushed = async ({ sha, message }: Commit, { branch = 'main', live = false } = {}) => {
    show.fact('push', `${sha.slice(0, 12)} "${message}" to ${branch}`)
    const result = await push(around, {
      ...{ repository: REPOSITORY, sha, branch, message, signal },
      onAnswer: ({ status, ms, body }) =>
        show.fact('webhook', `${status} in ${ms} ms: ${body.outcome} build ${body.id}`),
      onLog: (line) => live && show.logLine(line),
      onStatus: ({ state, description }) => show.status(state, description),
    })
    if (!live) show.fact('log', result.summary)
    return result
  }

  show.heading('2. The first push: a small web service that its Dockerfile tests and compiles')
  const files = await applicationFiles()
  const first = await pushed(await commit(files, 'Greet people'), { live: true })
  show.fact('image', first.image)
  show.fact('tags', (await checkTags(around, first, [first.sha, 'main', 'latest'])).join('\n'))

  show.heading('3. Run the image')
  await runs(around, first.image, 'Hello, Ada!')

  show.heading('4. Change one line')
  const source = String(files['src/greeting.ts']).replace('Hello,', 'Good morning,')
  const changed = await commit({ 'src/greeting.ts': source }, 'Greet by the time of day')
  show.diff(await changedLines(repository.git('diff', '--unified=0', first.sha, changed.sha)))
  const second = await pushed(changed)
  await checkTags(around, second, [second.sha, 'main', 'latest'])
  assert.notEqual(second.image, first.image, 'the new image does not contain the change')
  await runs(around, second.image, 'Good morning, Ada!')

  show.heading('5. Change a file that is not part of the image')
  const readme = `${files['README.md']}\nIt speaks English, French and Icelandic.\n`
  const documented = await commit({ 'README.md': readme }, 'Say more in the README')
  const third = await pushed(documented)
  await checkTags(around, third, [third.sha, 'main', 'latest'])

  show.heading('6. Push the same commit to another branch')
  const fourth = await pushed(documented, { branch: 'release/1.0' })
  assert.equal(fourth.image, third.image, 'the commit was built twice')
  show.fact('tags', (await checkTags(around, fourth, ['release-1.0', 'latest'])).join('\n'))

  show.heading('7. Where the time went: seconds from the webhook to the final commit status')
  show.table([
    ['', 'seconds', 'fetch', 'build', 'push', 'tag', 'rest', 'steps cached'],
    figures('first push', first),
    figures('one line changed', second),
    figures('only the README changed', third),
    figures('same commit, other branch', fourth),
  ])
  const megabytes = Math.round((await docker.getImage(NODE_IMAGE).inspect()).Size / 1e6)
  show.paragraph(
    `the first push also uploaded the base image (${megabytes} MB), because the registry was empty`,
  )
  show.paragraph('rest: answering the webhook, queueing, commit statuses')

  show.heading('8. Get the image of a commit in a script')
  const target = `${REPOSITORY}:${second.sha}`
  show.paragraph(`$ IMAGE=$(conveyor build ${target})`)
  const asked = await runConveyor(['build', target, '--url', server.url])
  assert.equal(asked.code, 0, `conveyor build exited with status ${asked.code}: ${asked.stderr}`)
  assert.equal(asked.stdout, `${second.image}\n`, 'conveyor build printed a different image')
  show.paragraph(`$ echo $IMAGE\n${asked.stdout.trimEnd()}`)
}

/** Runs an image and checks how it greets Ada. */
async function runs({ docker }: Surroundings, image: string, expected: string): Promise<void> {
  const { printed, answer } = await runImage(docker, image, '/Ada')
  show.fact('run', printed)
  show.fact('GET /Ada', answer)
  assert.equal(answer, expected, `the image answered ${answer}, expected ${expected}`)
}

const MANIFEST_TYPES = [
  'application/vnd.docker.distribution.manifest.v2+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.oci.image.index.v1+json',
]

/** Checks in the registry that tags point to the image. @returns their full names */
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
    assert.equal(found, digest, `the tag ${tag} points to ${found}, expected ${digest}`)
  }
  return tags.map((tag) => `${name}:${tag}`)
}

async function changedLines(diff: Promise<string>): Promise<string> {
  const lines = (await diff).split('\n').filter((line) => /^[+-](?![+-]{2})/.test(line))
  assert.equal(lines.length, 2, 'more than one line changed')
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
  show.heading('Stopped everything, and removed the images and temporary folders.')
  show.paragraph(
    ownEngine
      ? 'The base image and the build cache stay in .conveyor/ for the next run; `make clean` removes them.'
      : `The base image and the build cache stay in Docker. To remove them: \`docker image rm ${NODE_IMAGE}\`, \`docker builder prune\`.`,
  )
  show.heading('Next steps')
  show.paragraph('README.md                                         how it works, and how to set it up')
  show.paragraph('test/demo/demo.ts                                 the code of this demo')
  show.paragraph('node_modules/.bin/node bin/run.js server --help   options of `conveyor server`')
  show.paragraph('make test                                         all tests, with the same real parts')
}

const stop = new AbortController()
// Only the first signal counts: npm forwards a Ctrl-C that the terminal has already sent to the whole group.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stop.abort())
process.stdout.on('error', () => stop.abort()) // the reader of the output is gone

const resources = new AsyncDisposableStack()
let around: Surroundings | undefined
let exitCode = 0
try {
  show.title('Conveyor: a git push becomes an image')
  show.heading('1. Start everything it needs on this machine')
  around = await startSurroundings(resources, stop.signal)
  await story(around, stop.signal)
} catch (error) {
  exitCode = stop.signal.aborted ? 130 : 1
  if (stop.signal.aborted) show.failure('Interrupted. Cleaning up.')
  else {
    show.failure(`The demo failed: ${(error as Error).message}`)
    if (around) show.fact('server', lastLines(around.server.stderr()))
  }
}
try {
  await resources.disposeAsync()
} catch (error) {
  exitCode ||= 1
  show.failure(`Cleanup failed, something may be left behind: ${(error as Error).message}`)
}
if (exitCode === 0) farewell(around?.engine.own)
// Exit explicitly: after an interruption, something may still keep the process alive.
process.exit(exitCode)
