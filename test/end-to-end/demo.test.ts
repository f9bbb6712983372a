import { readdir, readFile } from 'node:fs/promises'
import { stripVTControlCharacters } from 'node:util'
import { expect, test } from 'vitest'
import { engine } from '../support/global-setup.ts'
import { basicEnv, projectRoot, type Running, start } from '../support/processes.ts'
import { tempDir } from '../support/temp.ts'

/** Starts `npm run demo` as a user would, in its own process group, with `folder` as /tmp. */
const startDemo = (folder: string) =>
  start('npm', ['run', '--silent', 'demo'], {
    cwd: projectRoot,
    env: { ...basicEnv(), DOCKER_HOST: engine().dockerHost, TMPDIR: folder },
    detached: true,
  })

test('the demo completes, shows the image, and leaves nothing behind', async () => {
  await using folder = await tempDir()
  await using demo = await startDemo(folder.path)
  const { code } = await demo.exited
  const output = stripVTControlCharacters(demo.stdout())
  expect(code, output + demo.stderr()).toBe(0)

  const image = /^ {2}image +(127\.0\.0\.1:\d+\/acme\/greeter)@(sha256:[0-9a-f]{64})$/m.exec(output)
  expect(image, output).not.toBeNull()
  expect(output).toMatch(/^ {2}GET \/Ada +Hello, Ada!\n/m)
  expect(output).toMatch(/^ {2}GET \/Ada +Good morning, Ada!\n/m)
  expect(output).toMatch(/^ {2}only the README changed( +\d+\.\d\d){6} +nothing built$/m)
  expect(output).toMatch(/\$ echo \$IMAGE\n {2}127\.0\.0\.1:\d+\/acme\/greeter@sha256:/)
  await expectNothingLeft(demo, folder.path, image?.[1] ?? '')
})

test('Ctrl-C during a build stops it, and leaves nothing behind', async () => {
  await using folder = await tempDir()
  await using demo = await startDemo(folder.path)
  const [, registry = ''] = await demo.waitFor(/registry +http:\/\/(127\.0\.0\.1:\d+)/)
  await demo.waitFor(/RUN node --run test/)
  process.kill(-demo.pid, 'SIGINT') // like a terminal: to the whole group
  expect((await demo.exited).code).not.toBe(0)
  const output = stripVTControlCharacters(demo.stdout())
  expect(output).toMatch(/\nInterrupted\. Cleaning up\.\n$/)
  await expectNothingLeft(demo, folder.path, `${registry}/acme/greeter`)
})

/** No process of its group, no temporary folder of ours, and no image remain. */
async function expectNothingLeft(demo: Running, folder: string, image: string): Promise<void> {
  expect(await processesOfGroup(demo.pid)).toEqual([])
  expect((await readdir(folder)).filter((name) => name.startsWith('conveyor-'))).toEqual([])
  expect(image).toMatch(/^127/)
  expect(await engine().docker.listImages({ filters: { reference: [image] } })).toEqual([])
}

async function processesOfGroup(group: number): Promise<string[]> {
  const found: string[] = []
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    // A process that has ended in the meantime has no files to read.
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')
    const [state, , pgrp] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    if (state !== 'Z' && Number(pgrp) === group) found.push(stat)
  }
  return found
}
