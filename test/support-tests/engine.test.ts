import { randomInt } from 'node:crypto'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it, vi } from 'vitest'
import { docker, startEngine, startPrivateEngine } from '../support/engines/engine.ts'
import { engine } from '../support/global-setup.ts'
import { BUSYBOX_IMAGE, ensureBaseImages, NODE_IMAGE } from '../support/images/base-images.ts'
import { tar } from '../support/images/tar.ts'
import { isRunning, projectRoot, start } from '../support/processes.ts'
import { tempDir } from '../support/temp.ts'

/** Builds a Dockerfile with BuildKit; resolves to the messages of the engine's stream. */
async function build(dockerfile: string, tag: string, shared = engine()): Promise<Record<string, unknown>[]> {
  const context = tar([{ path: 'Dockerfile', content: dockerfile }])
  const options = { version: '2', t: tag, networkmode: shared.network ?? 'default' } as const
  const stream = await shared.docker.buildImage(context, options)
  return new Promise((resolve, reject) => {
    shared.docker.modem.followProgress(stream, (error: Error | null, messages: Record<string, unknown>[]) =>
      error ? reject(error) : resolve(messages),
    )
  })
}

/** The command lines of all processes on this machine, words separated by spaces. */
async function commandLines(): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const read = (pid: string) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
  return (await Promise.all(pids.map(read))).map((line) => line.replaceAll('\0', ' '))
}

describe('engine and base images', () => {
  it.each([
    [
      BUSYBOX_IMAGE,
      'test "$(whoami)" = root && test -d /tmp && echo it-ran-$((6 * 7)) | tee /out',
      /it-ran-42/,
    ],
    [NODE_IMAGE, 'node -p "process.version" | tee /out', /^v24\./],
  ])('BuildKit builds FROM %s without a registry, and the result runs', async (base, command, expected) => {
    const { docker, network } = engine()
    const tag = `conveyor-test/support:${base.includes('node') ? 'node' : 'busybox'}`
    const messages = await build(`FROM ${base}\nRUN ${command}\nCMD ["cat", "/out"]\n`, tag)
    expect(messages.filter((message) => message.error)).toEqual([])
    expect(messages.some((message) => message.id === 'moby.buildkit.trace')).toBe(true)

    const container = await docker.createContainer({
      Image: tag,
      ...(network && { HostConfig: { NetworkMode: network } }),
    })
    try {
      await container.start()
      expect(await container.wait()).toMatchObject({ StatusCode: 0 })
      const logs = await container.logs({ stdout: true })
      expect(logs.subarray(8).toString()).toMatch(expected) // each frame begins with 8 bytes
    } finally {
      await container.remove({ force: true })
      await docker.getImage(tag).remove({ force: true })
    }
  })

  it('keeps base images that are up to date', async () => {
    const { docker } = engine()
    const before = await docker.getImage(NODE_IMAGE).inspect()
    await ensureBaseImages(docker)
    expect((await docker.getImage(NODE_IMAGE).inspect()).Id).toBe(before.Id)
  })

  it('starts a private engine that survives being killed in the middle of a build', async () => {
    await using folder = await tempDir()
    await using own = await startPrivateEngine(folder.path)
    const client = docker(own)
    await expect(startPrivateEngine(folder.path)).rejects.toThrow('another engine is using')
    await ensureBaseImages(client)

    const shared = { docker: client, dockerHost: own.dockerHost, network: own.network }
    const sleep = `sleep ${randomInt(100_000, 1_000_000)}` // a unique number, to find it in the process list
    const context = tar([{ path: 'Dockerfile', content: `FROM ${BUSYBOX_IMAGE}\nRUN ${sleep}; true\n` }])
    const stream = await client.buildImage(context, { version: '2', networkmode: 'host' })
    const lost = new Promise((resolve) => stream.once('error', resolve))
    stream.resume()
    await expect.poll(commandLines).toContain(`${sleep} `)
    const { pid } = own
    await own.stop('SIGKILL')
    expect(await lost).toMatchObject({ message: 'aborted' })
    expect(await isRunning(pid)).toBe(false)
    expect(await commandLines()).not.toContain(`${sleep} `)
    expect(await readFile('/proc/self/mounts', 'utf8')).not.toContain(folder.path)

    await own.start()
    expect(own.pid).not.toBe(pid)
    expect(await client.getImage(BUSYBOX_IMAGE).inspect()).toHaveProperty('Id')
    const again = await build(`FROM ${BUSYBOX_IMAGE}\nRUN echo fine\n`, 'again', shared)
    expect(again.filter((message) => message.error)).toEqual([])
  })

  it('ends a private engine whose owner was killed, and starts again on its data', async () => {
    await using folder = await tempDir()
    const script = `
      import { startPrivateEngine } from ${JSON.stringify(join(projectRoot, 'test/support/engines/engine.ts'))}
      const engine = await startPrivateEngine(process.argv[1])
      console.log('pid', engine.pid)`
    await using owner = await start(process.execPath, ['--input-type=module', '-e', script, folder.path])
    const pid = Number((await owner.waitFor(/pid (\d+)/))[1])
    expect(await isRunning(pid)).toBe(true)
    const leftover = await readFile(join(folder.path, 'run-dir'), 'utf8')
    await owner.kill('SIGKILL')

    await using next = await startPrivateEngine(folder.path)
    expect(await isRunning(pid)).toBe(false)
    expect(await docker(next).version()).toHaveProperty('ApiVersion')
    await expect(readdir(leftover)).rejects.toThrow('ENOENT')
  })

  it('gives two concurrent runs an engine each', async () => {
    vi.stubEnv('DOCKER_HOST', 'unix:///no/such/engine.sock')
    try {
      await using first = await startEngine()
      await using second = await startEngine()
      expect(first).toMatchObject({ own: true, network: 'host' })
      expect(second.dockerHost).not.toBe(first.dockerHost)
      const folders = await Promise.all(
        [first, second].map(async (one) => (await docker(one).info()).DockerRootDir),
      )
      expect(folders[0]).not.toBe(folders[1])
    } finally {
      vi.unstubAllEnvs()
    }
  })

  it('reports why a private engine does not start', async () => {
    await using folder = await tempDir()
    await writeFile(join(folder.path, 'data'), 'in the way')
    await expect(startPrivateEngine(folder.path)).rejects.toThrow(
      /ended with status 1.*canonical path points to a file/s,
    )
  })
})
