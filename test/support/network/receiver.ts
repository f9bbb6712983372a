import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { start } from '../processes.ts'
import { tempDir } from '../temp.ts'

/** A webhook as it arrived. */
export interface Received {
  path: string
  headers: IncomingMessage['headers']
  body: string
  /** The parsed body. */
  json: Record<string, unknown>
}

/** Receives webhooks on this machine. */
export interface Receiver extends AsyncDisposable {
  /** Without a path. */
  url: string
  port: number
  received: Received[]
  /** Answers the following ones; 200 by default. */
  answer: (request: Received, response: ServerResponse) => void
}

/** @param port of an earlier receiver; by default a free one */
export async function startReceiver(port = 0): Promise<Receiver> {
  const received: Received[] = []
  const server = createServer(async (request, response) => {
    const body = await text(request).catch(() => null)
    if (body === null) return
    const path = request.url ?? ''
    const one = { path, headers: request.headers, body, json: JSON.parse(body) as Received['json'] }
    received.push(one)
    receiver.answer(one, response)
  }).listen(port, '127.0.0.1')
  await once(server, 'listening')
  const at = (server.address() as AddressInfo).port
  const receiver: Receiver = {
    url: `http://127.0.0.1:${at}`,
    port: at,
    received,
    answer: (_request, response) => void response.end('thanks'),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
  return receiver
}

/** Whether the signature of a webhook is that of this secret, as OpenSSL computes it. */
export async function isSigned({ headers, body }: Received, secret: string): Promise<boolean> {
  await using dir = await tempDir()
  const file = join(dir.path, 'signed')
  await writeFile(file, `${headers['x-conveyor-timestamp']}.${body}`)
  await using program = await start('openssl', ['dgst', '-sha256', '-hmac', secret, file])
  const { code } = await program.exited
  if (code !== 0) throw new Error(`openssl: ${program.stderr()}`)
  return headers['x-conveyor-signature-256'] === `sha256=${/([0-9a-f]{64})\s*$/.exec(program.stdout())?.[1]}`
}
