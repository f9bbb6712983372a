import { once } from 'node:events'
import { type IncomingHttpHeaders, request } from 'node:http'
import { text } from 'node:stream/consumers'

interface Answer {
  status: number
  headers: IncomingHttpHeaders
  body: string
}

/** Sends any headers, including Host, which fetch does not allow. */
export async function sendAny(
  method: string,
  url: string,
  headers: Record<string, string> = {},
  body?: string,
): Promise<Answer> {
  const sent = request(url, { method, headers, agent: false })
  sent.end(body)
  const [answer] = await once(sent, 'response')
  return { status: answer.statusCode ?? 0, headers: answer.headers, body: await text(answer) }
}
