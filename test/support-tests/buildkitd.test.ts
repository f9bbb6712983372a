import { randomInt, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { readdir, readFile, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { BinaryWriter } from '@bufbuild/protobuf/wire'
import { Client, credentials } from '@grpc/grpc-js'
import { expect, it } from 'vitest'
import { startBuildkitd, type TestBuildkitd } from '../support/engines/buildkitd.ts'
import { engine } from '../support/global-setup.ts'
import { BUSYBOX_IMAGE, publishBusybox } from '../support/images/base-images.ts'
import { makeCertificates, type TlsFiles } from '../support/network/certificates.ts'
import { isRunning, projectRoot, start } from '../support/processes.ts'
import { startRegistry } from '../support/registry/registry.ts'
import { tempDir } from '../support/temp.ts'

/** Calls a method of BuildKit's Control service with encoded messages. Without TLS, on its socket. */
async function call(one: TestBuildkitd, tls: Partial<TlsFiles> | null, method: string, request: Uint8Array) {
  const pem = async (file: string | undefined) => (file ? await readFile(file) : null)
  const client = tls
    ? new Client(
        one.address.replace('tcp://', ''),
        credentials.createSsl(await pem(tls.ca), await pem(tls.key), await pem(tls.cert)),
        { 'grpc.ssl_target_name_override': 'localhost' },
      )
    : new Client(one.socket, credentials.createInsecure())
  const asIs = (bytes: Uint8Array) => Buffer.from(bytes)
  try {
    return await new Promise<string>((resolve, reject) => {
      client.makeUnaryRequest(
        `/moby.buildkit.v1.Control/${method}`,
        asIs,
        (bytes) => bytes.toString('latin1'),
        request,
        (error, response) => (error ? reject(error) : resolve(response ?? '')),
      )
    })
  } finally {
    client.close()
  }
}

/** Builds a Dockerfile, which BuildKit fetches by URL. */
async function build(one: TestBuildkitd, dockerfile: string): Promise<void> {
  const server = createServer((_, response) => response.end(dockerfile)).listen(0, '127.0.0.1')
  try {
    await once(server, 'listening')
    const context = `http://127.0.0.1:${(server.address() as AddressInfo).port}/Dockerfile`
    const request = new BinaryWriter().uint32(10).string(randomUUID()).uint32(50).string('dockerfile.v0')
    request.uint32(58).fork().uint32(10).string('context').uint32(18).string(context).join()
    await call(one, one.tls, 'Solve', request.finish())
  } finally {
    server.close()
  }
}

/** The command lines of all processes on this machine that contain this text. */
async function processesWith(text: string): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name))
  const lines = pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => ''))
  return (await Promise.all(lines))
    .map((line) => line.replaceAll('\0', ' '))
    .filter((line) => line.includes(text))
}

const NOTHING = new Uint8Array()

it('a private buildkitd requires a certificate of its CA, except on its socket', async () => {
  await using folder = await tempDir()
  await using one = await startBuildkitd()
  const worker = /org\.mobyproject\.buildkit\.worker\.executor\W+oci/
  expect(await call(one, null, 'ListWorkers', NOTHING)).toMatch(worker)
  expect(await call(one, one.tls, 'ListWorkers', NOTHING)).toMatch(worker)

  const stranger = (await makeCertificates(folder.path)).client
  const { ca, cert, key } = one.tls
  await expect(call(one, { ca }, 'ListWorkers', NOTHING)).rejects.toThrow(/certificate required/)
  await expect(call(one, { ...stranger, ca }, 'ListWorkers', NOTHING)).rejects.toThrow(
    /unknown ca|bad certificate/,
  )
  await expect(call(one, { ca: stranger.ca, cert, key }, 'ListWorkers', NOTHING)).rejects.toThrow(
    /certificate/,
  )
})

it('a buildkitd that is killed leaves nothing behind, and starts again on its cache', async () => {
  await using registry = await startRegistry()
  await publishBusybox(engine().docker, registry.host)
  await using folder = await tempDir()
  await using one = await startBuildkitd({ dataDir: folder.path, hub: registry.host })
  await build(one, `FROM ${BUSYBOX_IMAGE}\nRUN test "$(id -u)" = 0\n`)
  await expect(build(one, `FROM ${registry.host}/${BUSYBOX_IMAGE}\nRUN exit 7\n`)).rejects.toThrow(
    /exit code: 7/,
  )

  const sleep = `sleep ${randomInt(100_000, 1_000_000)}` // a unique number to find it by
  const lost = build(one, `FROM ${BUSYBOX_IMAGE}\nRUN ${sleep}; true\n`).catch((error: unknown) => error)
  await expect.poll(() => processesWith(sleep)).not.toEqual([])
  const { pid, address } = one
  await one.stop('SIGKILL')
  expect(await lost).toBeInstanceOf(Error)
  expect(await isRunning(pid)).toBe(false)
  expect(await processesWith(sleep)).toEqual([])

  await registry.stop()
  await one.start()
  expect(one.address).toBe(address)
  expect(await call(one, one.tls, 'DiskUsage', NOTHING)).toContain(BUSYBOX_IMAGE)
})

it('a buildkitd ends when its owner is killed', async () => {
  const script = `
    import { startBuildkitd } from ${JSON.stringify(join(projectRoot, 'test/support/engines/buildkitd.ts'))}
    const { pid, socket } = await startBuildkitd()
    console.log('pid', pid, socket)`
  await using owner = await start(process.execPath, ['--input-type=module', '-e', script])
  const [, pid, folder = ''] = await owner.waitFor(/pid (\d+) unix:\/\/(\S+)\/buildkitd.sock/)
  expect(await isRunning(Number(pid))).toBe(true)
  await owner.kill('SIGKILL')
  await expect.poll(() => isRunning(Number(pid))).toBe(false)
  expect(await processesWith(folder)).toEqual([])
  await rm(folder, { recursive: true })
})
