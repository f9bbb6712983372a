import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { parseConfig } from '../../src/lib/config/config.ts'
import { SECRET_OPTIONS } from '../../src/lib/config/options.ts'
import { withSecretFiles } from '../../src/lib/config/secret-files.ts'
import { basicEnv, runConveyor } from '../support/processes.ts'
import { tempDir } from '../support/temp.ts'
import { GITHUB_TOKEN, startWorld, WEBHOOK_SECRET } from '../support/world.ts'

/** The ways to pass secrets: files, variables, and flags. */

async function folder(files: Record<string, string>): Promise<(name: string) => string> {
  const dir = await tempDir()
  onTestFinished(() => dir[Symbol.asyncDispose]())
  for (const [name, content] of Object.entries(files)) await writeFile(join(dir.path, name), content)
  return (name) => join(dir.path, name)
}

test('every secret of a server can be in a file', async () => {
  const at = await folder({ token: `${GITHUB_TOKEN}\n`, secret: `${WEBHOOK_SECRET}\r\n`, auth: 'ci:hush\n' })
  await using world = await startWorld()
  await using server = await world.startServer({
    env: {
      ...{ GITHUB_TOKEN: '', GITHUB_TOKEN_FILE: at('token') },
      ...{ GITHUB_SECRET: '', GITHUB_SECRET_FILE: at('secret') },
      BASIC_AUTH_FILE: at('auth'),
    },
  })
  const git = await world.git.create('files/app')
  const sha = await git.commit({ Dockerfile: 'FROM conveyor-test/busybox:1\n' })
  // The webhook is signed; git and GitHub require the token.
  await world.push(server, { repository: 'files/app', sha })
  await world.github.waitForStatus((status) => status.sha === sha && status.state === 'success')

  const asked = ['build', `files/app:${sha}`, '--url', server.url]
  for (const variable of ['CONVEYOR_AUTH_FILE', 'BASIC_AUTH_FILE']) {
    const built = await runConveyor(asked, { env: { ...basicEnv(), [variable]: at('auth') } })
    expect(built).toMatchObject({ code: 0, stdout: expect.stringMatching(/^\S+@sha256:\w{64}\n$/) })
  }
  const wrong = await runConveyor(asked, { env: { ...basicEnv(), CONVEYOR_AUTH_FILE: at('none') } })
  expect(wrong.code).toBe(2)
  expect(wrong.stderr.replace(/\s+(›\s+)?/g, ' ')).toMatch(
    /CONVEYOR_AUTH_FILE is "\S+\/none", which does not exist/,
  )
})

test('and so can options whose URL may contain a password', async () => {
  const at = await folder({
    db: 'postgres://me:hush@db.lan/conveyor\n',
    queue: 'postgres://me:hush@q.lan/jobs\n',
  })
  const { values, problems } = withSecretFiles({}, SECRET_OPTIONS, {
    DATABASE_URL_FILE: at('db'),
    QUEUE_FILE: at('queue'),
  })
  expect(problems).toEqual([])
  expect(parseConfig(values)).toMatchObject({
    db: { kind: 'postgres', url: 'postgres://me:hush@db.lan/conveyor' },
    queue: { kind: 'postgres', url: 'postgres://me:hush@q.lan/jobs' },
  })
})

test('problems with files are reported together with all others, and without secrets', async () => {
  const at = await folder({ empty: '\n', large: 'x'.repeat(70_000), full: 'of the file' })
  const given = {
    GITHUB_TOKEN_FILE: at('empty'),
    GITHUB_SECRET_FILE: at('large'),
    BASIC_AUTH_FILE: 'ci:hush',
    ...{ DATABASE_URL: 'sqlite:///x', DATABASE_URL_FILE: at('full') },
    QUEUE_FILE: at('.'),
  }
  const { code, stderr } = await runConveyor(['server', '--port', 'x'], { env: { ...basicEnv(), ...given } })
  const text = stderr.replace(/\s+(›\s+)?/g, ' ')
  expect(code).toBe(2)
  expect(text).toContain('the configuration has 6 problems:')
  expect(text).toMatch(
    /--github\.token \(GITHUB_TOKEN_FILE\) is "\S+\/empty", which is empty: expected a file/,
  )
  expect(text).toMatch(/--github\.secret \(GITHUB_SECRET_FILE\) is "\S+\/large", which is larger than 64 KiB/)
  expect(text).toContain('--auth (BASIC_AUTH_FILE) is a file name, which does not exist')
  expect(text).toContain('--db (DATABASE_URL_FILE) and DATABASE_URL cannot be combined: set only one of them')
  expect(text).toMatch(/--queue \(QUEUE_FILE\) is "\S+", which is a directory/)
  expect(text).not.toContain('hush')
})

test('a flag takes precedence over a file, with a warning that does not show the value', async () => {
  const at = await folder({ token: 'of-the-file' })
  const flags = [
    '--github.token',
    'ghp_hush',
    '--auth',
    'none',
    '--db',
    'postgres://me:hu#sh@db.lan/conveyor',
  ]
  const { stderr } = await runConveyor(['server', ...flags, '--port', 'x'], {
    env: { ...basicEnv(), GITHUB_TOKEN_FILE: at('token') },
  })
  const warnings = stderr.split('\n').filter((line) => line.startsWith('warning: '))
  const where = 'on the command line is visible to everyone on this machine'
  expect(warnings).toEqual([
    `warning: --github.token ${where}; use GITHUB_TOKEN, or a file in GITHUB_TOKEN_FILE`,
    `warning: --db ${where}; use DATABASE_URL, or a file in DATABASE_URL_FILE`,
  ])
  expect(stderr).not.toMatch(/hush|hu#sh/)
})

test.each([
  [
    { 'github.secret': '"hush"' },
    '--github.secret (GITHUB_SECRET) begins and ends with quotes, which are part of',
  ],
  [{ auth: "'ci:hush'" }, '--auth (BASIC_AUTH) begins and ends with quotes, which are part of the value'],
  [
    { 'github.secret': 'hush\n' },
    '--github.secret (GITHUB_SECRET) contains line breaks, which are part of the value',
  ],
  [{ 'github.secret': ' hush' }, '--github.secret (GITHUB_SECRET) begins or ends with spaces'],
])('a secret that is probably a mistake causes a warning: %j', (values, warning) => {
  const { warnings } = parseConfig(values)
  expect(warnings).toEqual([expect.stringContaining(warning)])
  expect(warnings.join()).not.toContain('hush')
})

test('and if the file cannot be used at all, the error mentions it', () => {
  expect(() => parseConfig({ 'github.token': 'ghp_x\n' })).toThrow(
    '--github.token (GITHUB_TOKEN) is not usable: expected a token without spaces or line breaks; it contains line breaks',
  )
  expect(() => parseConfig({ db: '"postgres://me:hush@db.lan/x"' })).toThrow(
    '; it begins and ends with quotes',
  )
})
