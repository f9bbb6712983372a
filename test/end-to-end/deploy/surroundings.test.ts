import { chmod, readdir, readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { projectRoot, start } from '../../support/processes.ts'
import { tempDir } from '../../support/temp.ts'

/** The machines on which people start the program. */

async function run(command: string[], env: NodeJS.ProcessEnv = {}) {
  const [program = '', ...args] = command
  await using running = await start(program, args, { env: { PATH: process.env.PATH, ...env } })
  const { code } = await running.exited
  return { code, stdout: running.stdout(), stderr: running.stderr() }
}

test('the error about an outdated Node names it, and the required version', async () => {
  // Like Node 20, where npm only warns: the Node that runs here pretends to be that version.
  const old = 'Object.defineProperty(process.versions, "node", { value: "20.20.2" })'
  const { code, stdout, stderr } = await run([
    ...[process.execPath, '--import', `data:text/javascript,${encodeURIComponent(old)}`],
    ...[`${projectRoot}bin/run.js`, '--help'],
  ])
  const { engines } = JSON.parse(await readFile(`${projectRoot}package.json`, 'utf8')) as {
    engines: { node: string }
  }
  const needed = engines.node.replace('>=', '')
  expect(stderr).toMatch(
    /^conveyor needs Node \d+\.\d+ or newer, and \/\S+ is v\S+\. Install a newer one: \S+\n$/,
  )
  expect(stderr).toContain(`Node ${needed} or newer`)
  expect({ code, stdout }).toEqual({ code: 3, stdout: '' })
  // Before the versions are compared, no import by name of anything that an old Node lacks, and none of our own files.
  const text = await readFile(`${projectRoot}bin/run.js`, 'utf8')
  expect(text.match(/^import .*/gm)).toEqual([
    "import { readFileSync } from 'node:fs'",
    "import * as modules from 'node:module'",
    "import { userInfo } from 'node:os'",
    "import { join } from 'node:path'",
  ])
})

test('compiled code is never taken from where other users write', async () => {
  await using temp = await tempDir()
  await using cache = await tempDir()
  await chmod(temp.path, 0o777)
  const env = { TMPDIR: temp.path, NODE_COMPILE_CACHE: cache.path }
  expect((await run([process.execPath, `${projectRoot}bin/run.js`, '--version'], env)).code).toBe(0)
  expect(await readdir(cache.path)).not.toEqual([])
  const stranger = ['setpriv', '--reuid=54321', '--regid=54321', '--clear-groups']
  const reader = ['--inh-caps=+dac_read_search', '--ambient-caps=+dac_read_search']
  const version = [process.execPath, `${projectRoot}bin/run.js`, '--version']
  expect((await run([...stranger, ...reader, ...version], { TMPDIR: temp.path })).code).toBe(0)
  expect(await readdir(temp.path)).toEqual([])
})

test.each([
  ['as OpenShift starts containers', { HOME: '/' }],
  ['without any HOME', {}],
])('a user missing from /etc/passwd, %s', async (_, env) => {
  const nobody = ['setpriv', '--reuid=54321', '--regid=54321', '--clear-groups']
  // It may read the checkout, wherever that is.
  const reader = ['--inh-caps=+dac_read_search', '--ambient-caps=+dac_read_search']
  const conveyor = [process.execPath, `${projectRoot}bin/run.js`]
  const help = await run([...nobody, ...reader, ...conveyor, 'server', '--help'], env)
  expect(help).toMatchObject({ code: 0, stderr: '' })
  expect(help.stdout).toContain('--data-dir=<dir>')
  const server = await run([...nobody, ...reader, ...conveyor, 'server'], env)
  expect(server.code).toBe(3)
  expect(server.stderr.replace(/\s+(›\s+)?/g, ' ')).toMatch(
    /cannot create database \/\S+: EACCES: permission denied, .* or choose another directory with --data-dir/,
  )
})
