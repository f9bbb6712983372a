import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Files } from '../../support/git/repository.ts'
import type { ConveyorServer } from '../../support/processes.ts'
import { pushToEnd, startWorld, type World } from '../../support/world.ts'

let world: World
let server: ConveyorServer
beforeAll(async () => {
  world = await startWorld()
  server = await world.startServer()
})
afterAll(async () => {
  await server.kill()
  await world[Symbol.asyncDispose]()
})

let repositories = 0
/** Pushes a commit; returns its final status, and the output of its steps. */
async function push(files: Record<string, unknown>, date?: Date) {
  const repository = `odd/r${process.pid}-${repositories++}`
  const git = await world.git.create(repository)
  const sha = await git.commit(files as Files, date ? { date } : {})
  const { status, log } = await pushToEnd(world, server, { repository, sha })
  const printed = [...log.matchAll(/^#\d+ \d+\.\d+ (.*)$/gm)].map(([, line]) => line)
  return { state: status.state, printed, log }
}

/** A Dockerfile that prints the contents of /ctx, file by file in bytes. */
const shows = (copy: string) =>
  `FROM conveyor-test/busybox:1\n${copy}\nRUN echo ${randomUUID()} >/dev/null; cd /ctx; find . -type f | sort | while read -r f; do echo "$f $(od -An -c "$f" | tr -d ' ')"; done\n`

test.each<[string, string, Record<string, string>, string[]]>([
  [
    'COPY *',
    'COPY * /ctx/',
    { '.env': 'e', a: 'a', '.dockerignore': 'Docker*\n.docker*\n' },
    ['./.env e', './a a'],
  ],
  [
    'COPY of a folder with a wildcard',
    'COPY conf/* /ctx/',
    { 'conf/.htaccess': 'h', 'conf/x': 'x' },
    ['./.htaccess h', './x x'],
  ],
  ['parentheses', 'COPY *(1).txt /ctx/', { 'a(1).txt': '1', 'a.txt': 'a' }, ['./a(1).txt 1']],
  ['names outside ASCII', 'COPY test-äöü.txt /ctx/', { 'test-äöü.txt': 'u', a: 'a' }, ['./test-äöü.txt u']],
  ['a comma', 'COPY ["a, b", "/ctx/"]', { a: 'a', b: 'b', 'a, b': 'c' }, ['./a, b c']],
  [
    'line ends that a checkout converts',
    'COPY . /ctx',
    {
      '.gitattributes': '*.bat text eol=crlf\n',
      '.dockerignore': 'Dockerfile\n.*\n',
      'run.bat': 'x\ny\n',
      z: 'x\ny\n',
    },
    ['./run.bat x\\r\\ny\\r\\n', './z x\\ny\\n'],
  ],
  [
    'line ends that a checkout converts of whatever looks like text',
    'COPY . /ctx',
    { '.gitattributes': '* text=auto eol=crlf\n', '.dockerignore': 'Dockerfile\n.*\n', a: 'x\n', b: 'x\0\n' },
    ['./a x\\r\\n', './b x\\0\\n'],
  ],
])('%s', async (_, copy, files, expected) => {
  const { state, printed } = await push({ Dockerfile: shows(copy), ...files })
  expect(printed).toEqual(expected)
  expect(state).toBe('success')
})

test.each([9_999_999_999_999, 253_402_300_800])('a commit at the second %i', async (seconds) => {
  const date = { getTime: () => seconds * 1000 } as Date
  const { state } = await push({ Dockerfile: shows('COPY a /ctx/'), a: 'a' }, date)
  expect(state).toBe('success')
})
