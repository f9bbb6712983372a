import { createHmac } from 'node:crypto'

/**
 * Headers that prove who sent a body, and when: the HMAC-SHA256 of `TIMESTAMP.BODY`. Receivers reject an old timestamp, so
 * that nobody can send the same again later.
 */
export function signatureHeaders(secret: string, body: string, sentAt: Date): Record<string, string> {
  const timestamp = String(Math.floor(sentAt.getTime() / 1000))
  const signature = createHmac('sha256', secret).update(`${timestamp}.${body}`).digest('hex')
  return { 'x-conveyor-timestamp': timestamp, 'x-conveyor-signature-256': `sha256=${signature}` }
}
