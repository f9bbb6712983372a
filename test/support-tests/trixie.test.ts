import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { readdir, readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import type Docker from 'dockerode'
import { describe, expect, it } from 'vitest'
import { docker } from '../support/engines/engine.ts'
import { BUSYBOX_IMAGE, ensureBusybox } from '../support/images/base-images.ts'
import { tar } from '../support/images/tar.ts'
import { isRunning, projectRoot, start } from '../support/processes.ts'
import { startRegistry } from '../support/registry/registry.ts'
import { tempDir } from '../support/temp.ts'
import { startTrixieEngine } from '../support/trixie.ts'

const TRIXIE = join(projectRoot, '.conveyor/trixie')

/**
 * Builds a Dockerfile with BuildKit, which fetches it by URL: with the containerd store, this engine does not accept a
 * tar as context.
 */
async function build(client: Docker, reference: string, dockerfile: string): Promise<void> {
  const server = createServer((_, response) => response.end(dockerfile)).listen(0, '127.0.0.1')
  try {
    await once(server, 'listening')
    const remote = `http://127.0.0.1:${(server.address() as AddressInfo).port}/Dockerfile`
    const options = { version: '2', remote, t: reference, networkmode: 'host' } as const
    await finish(client, await client.buildImage(tar([]), options))
  } finally {
    server.close()
  }
}

/** Reads a stream of JSON messages to its end; rejects at the first error in it. */
function finish(client: Docker, stream: NodeJS.ReadableStream): Promise<void> {
  return new Promise<void>((resolve, reject) => {
    client.modem.followProgress(stream, (error: Error | null, messages: { error?: string }[]) => {
      const failure = error ?? messages.find((message) => message.error)?.error
      if (failure) reject(failure)
      else resolve()
    })
  })
}

/** The command lines of all processes on this machine that contain this text. */
async function processesWith(text: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const lines = pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => ''))
  return (await Promise.all(lines))
    .map((line) => line.replaceAll('\0', ' '))
    .filter((line) => line.includes(text))
}

/** Every mount that any process on this machine sees and that contains this text. */
async function mountsWith(text: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const lists = pids.map((pid) => readFile(`/proc/${pid}/mountinfo`, 'utf8').catch(() => ''))
  return (await Promise.all(lists)).flatMap((list) => list.split('\n')).filter((line) => line.includes(text))
}

describe.each(['classic', 'containerd'] as const)("Debian trixie's engine with the %s store", (store) => {
  it('builds, pushes to a registry on this machine, and survives being killed in the middle', async () => {
    await using registry = await startRegistry()
    await using folder = await tempDir()
    await using engine = await startTrixieEngine({ store, dataDir: folder.path })
    const client = docker(engine)
    const { Driver, ServerVersion } = await client.info()
    expect([Driver, ServerVersion]).toEqual([
      store === 'containerd' ? 'overlayfs' : 'overlay2',
      expect.stringMatching(/^26\./),
    ])

    await ensureBusybox(client)
    const image = `${registry.host}/team/app`
    const check = 'test "$(id -u)" = 0 && echo $((6 * 7)) >/answer'
    await build(client, `${image}:1`, `FROM ${BUSYBOX_IMAGE}\nRUN ${check}\n`)
    await finish(client, await client.getImage(`${image}:1`).push({ authconfig: {} }))
    expect((await fetch(`${registry.url}/v2/team/app/manifests/1`)).status).toBe(200)

    const sleep = `sleep ${randomInt(100_000, 1_000_000)}` // a unique number to find it by
    const lost = build(client, `${image}:2`, `FROM ${BUSYBOX_IMAGE}\nRUN ${sleep}; true\n`).catch(
      (error: unknown) => error,
    )
    await expect.poll(() => processesWith(sleep)).not.toEqual([])
    const { pid } = engine
    await engine.stop('SIGKILL')
    expect(await lost).toMatchObject({ code: 'ECONNRESET' })
    expect(await isRunning(pid)).toBe(false)
    expect(await processesWith(sleep)).toEqual([])
    expect(await mountsWith(folder.path)).toEqual([])

    await engine.start()
    await build(client, `${image}:3`, `FROM ${image}:1\nRUN grep 42 /answer\n`)
  })
})

describe("Debian trixie's engine", () => {
  it('runs in parallel with another one of the same directory, and changes nothing in it', async () => {
    const before = await listing()
    await using one = await startTrixieEngine({ store: 'classic' })
    await using other = await startTrixieEngine({ store: 'classic' })
    const ids = await Promise.all([one, other].map(async (engine) => (await docker(engine).info()).ID))
    expect(ids[0]).not.toBe(ids[1])
    expect(await listing()).toEqual(before)
  })

  it('ends when its owner is killed, and starts again on its data', async () => {
    await using folder = await tempDir()
    const script = `
      import { startTrixieEngine } from ${JSON.stringify(join(projectRoot, 'test/support/trixie.ts'))}
      const engine = await startTrixieEngine({ store: 'containerd', dataDir: process.argv[1] })
      console.log('pid', engine.pid)`
    await using owner = await start(process.execPath, ['--input-type=module', '-e', script, folder.path])
    const pid = Number((await owner.waitFor(/pid (\d+)/))[1])
    expect(await isRunning(pid)).toBe(true)
    await owner.kill('SIGKILL')
    await expect.poll(() => isRunning(pid)).toBe(false)
    await expect.poll(() => processesWith(folder.path)).toEqual([])
    expect(await mountsWith(folder.path)).toEqual([])

    await using next = await startTrixieEngine({ store: 'containerd', dataDir: folder.path })
    expect(await docker(next).version()).toHaveProperty('ApiVersion')
  })
})

/** Names and times of the folder's contents. */
async function listing(): Promise<string> {
  await using find = await start('find', [TRIXIE, '-xdev', '-printf', '%p %T@ %s\\n'])
  await find.exited
  return find.stdout()
}
