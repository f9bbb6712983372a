import { mkdir, readdir, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { engine } from '../support/global-setup.ts'
import { basicEnv, projectRoot, start } from '../support/processes.ts'
import { type TempDir, tempDir } from '../support/temp.ts'

/** What bin/setup.sh does on machines that lack something. It must never get as far as apt-get here. */

/** A PATH with all programs of this machine but these. */
async function pathWithout(folder: TempDir, ...missing: string[]): Promise<string> {
  const bin = join(folder.path, 'bin')
  await mkdir(bin)
  // As the shell does it: the first one of a name counts.
  const known = new Set([...missing, 'apt-get'])
  for (const place of (process.env.PATH ?? '').split(':')) {
    for (const name of await readdir(place).catch(() => [])) {
      if (known.has(name)) continue
      known.add(name)
      await symlink(join(place, name), join(bin, name))
    }
  }
  return bin
}

async function setup(args: string[], env: NodeJS.ProcessEnv) {
  const command = await start(`${projectRoot}bin/setup.sh`, args, { env: { ...basicEnv(), ...env } })
  const { code } = await command.exited
  return { code, stderr: command.stderr() }
}

test('a machine with its own engine is told which packages to install', async () => {
  await using folder = await tempDir()
  const PATH = await pathWithout(folder, 'docker-registry', 'busybox', 'dockerd')
  expect(await setup([], { PATH, DOCKER_HOST: engine().dockerHost })).toEqual({
    code: 1,
    stderr: `setup: this machine has its own Docker, so nothing is installed automatically. Missing for tests and demo: docker-registry busybox-static
setup: on Debian or Ubuntu, run: apt-get install --no-install-recommends docker-registry busybox-static
`,
  })
})

test('a machine with its own engine, and all else, needs no packages for a private one', async () => {
  await using folder = await tempDir()
  const PATH = await pathWithout(folder, 'dockerd', 'debootstrap')
  expect(await setup([], { PATH, DOCKER_HOST: engine().dockerHost })).toEqual({ code: 0, stderr: '' })
})

test('a machine without an engine, where nothing can be installed, is told what is missing', async () => {
  await using folder = await tempDir()
  const PATH = await pathWithout(folder, 'docker-registry', 'dockerd')
  const { code, stderr } = await setup([], { PATH, DOCKER_HOST: `unix://${folder.path}/none.sock` })
  expect(
    stderr,
  ).toBe(`setup: no Docker engine answers at unix://${folder.path}/none.sock: start one, or set DOCKER_HOST
setup: or run this as root on Debian, where it installs: docker-registry docker.io
`)
  expect(code).toBe(1)
})
