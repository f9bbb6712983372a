import { execFile } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { chmod, mkdir, readFile, stat, writeFile } from 'node:fs/promises'
import type { IncomingMessage } from 'node:http'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterEach, beforeEach } from 'vitest'
import { demultiplex } from '../../../src/lib/docker/container-logs.ts'
import { engine } from '../global-setup.ts'
import { runConveyor } from '../processes.ts'
import { type TempDir, tempDir } from '../temp.ts'
import { BUSYBOX_IMAGE } from './base-images.ts'

const run = promisify(execFile)

export interface MachineOptions {
  /** Whether an SSH key already exists: generating an RSA key takes seconds. */
  withKey?: boolean
}

/** A machine for `conveyor bootstrap`: new for each test, except for its engine. */
export function machines({ withKey = false }: MachineOptions = {}) {
  let folder: TempDir
  let data: string
  beforeEach(async () => {
    folder = await tempDir()
    data = `conveyor-test-bootstrap-${randomUUID()}`
    for (const name of ['bin', 'docker']) await mkdir(path(name))
    if (!withKey) return
    await mkdir(path('data/ssh'), { recursive: true })
    await run('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', path('data/ssh/id_rsa')])
  })
  afterEach(async () => {
    const { docker } = engine()
    const found = await docker.listContainers({ all: true, filters: { name: [data] } })
    for (const { Id } of found) await docker.getContainer(Id).remove({ force: true, v: true })
    await folder[Symbol.asyncDispose]()
  })

  /** A path in the folder that commands run in. */
  const path = (...parts: string[]) => join(folder.path, ...parts)

  const environment = (): Record<string, string> => ({
    DOCKER_HOST: engine().dockerHost,
    DOCKER_CONFIG: path('docker'),
    DATA_DIR: path('data'),
    BUILDER_DATA: data,
    PATH: `${path('bin')}:${process.env.PATH}`,
  })

  return {
    path,
    environment,
    /** Name of the data container. */
    data: () => data,
    /** Runs the command; most tests need no builder image. */
    bootstrap: (args: string[] = ['--no-image'], env: Record<string, string> = {}) =>
      runConveyor(['bootstrap', ...args], { cwd: folder.path, env: { ...environment(), ...env } }),
    file: (...parts: string[]) => readFile(path(...parts), 'utf8'),
    modeOf: async (...parts: string[]) => (await stat(path(...parts))).mode & 0o777,
    /** Writes docker's config.json. */
    dockerConfig: (config: unknown) => writeFile(path('docker/config.json'), JSON.stringify(config)),
    /** Installs a credential helper, a shell script. */
    async helper(name: string, script: string): Promise<void> {
      const program = path(`bin/docker-credential-${name}`)
      await writeFile(program, `#!/bin/sh\n${script}\n`)
      await chmod(program, 0o755)
    },
    /** The output of a script that runs like a builder image, with the volumes of the data container. */
    async inside(script: string, { user = 'root', write = false } = {}): Promise<string> {
      const container = await engine().docker.createContainer({
        ...{ Image: BUSYBOX_IMAGE, Cmd: ['sh', '-c', script], User: user },
        HostConfig: {
          VolumesFrom: [`${data}:${write ? 'rw' : 'ro'}`],
          NetworkMode: engine().network ?? 'default',
        },
      })
      try {
        const output = await container.attach({ stream: true, stdout: true, stderr: true })
        await container.start()
        let text = ''
        for await (const bytes of demultiplex(output as unknown as IncomingMessage)) text += bytes.toString()
        return text
      } finally {
        await container.remove({ force: true })
      }
    },
  }
}

/** The state of a thing, found by the beginning of its line. */
export function stateOf(output: string, what: string): string | undefined {
  return new RegExp(`^(created|updated|ok|MISSING) +${what}`, 'm').exec(output)?.[1]
}
