import { once } from 'node:events'
import { rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import { BodySpool, SpoolFull } from '../../src/lib/server/webhook/spooled-body.ts'
import { tempDir } from '../support/temp.ts'

const MiB = 1024 * 1024

test('bodies that could not be written to the disk do not use up its quota', async () => {
  await using temp = await tempDir('conveyor-spool-')
  const dir = join(temp.path, 'spool')
  const spool = new BodySpool({ signature: null, dir })
  const server = createServer(async (request, response) => {
    const status = await spool.receive(request, response, '127.0.0.1').then(
      () => 200,
      (error: unknown) => (error instanceof SpoolFull ? 503 : 500),
    )
    response.writeHead(status, { connection: 'close' }).end()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  onTestFinished(() => void server.close())
  const { port } = server.address() as AddressInfo
  const send = async (bytes: number) => {
    const body = new Uint8Array(bytes)
    return (await fetch(`http://127.0.0.1:${port}/`, { method: 'POST', body })).status
  }

  // A file stands where the folder should be. Each of these reserves some 200 KiB, of 125 MiB for an address.
  await writeFile(dir, '')
  for (let i = 0; i < 800; i++) expect(await send(MiB / 4 + 1)).toBe(500)
  await rm(dir)
  expect(await send(MiB)).toBe(200)
})
