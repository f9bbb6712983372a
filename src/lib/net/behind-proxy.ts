import { isLoopback } from './loopback.ts'

/**
 * Whether something else must serve a server's public URL, as the server itself has no TLS. It may run on the same machine
 * and pass on what others send without a trace: nginx since 1.29.7 sends HTTP/1.1 to `127.0.0.1:8080`, and no header of
 * its own.
 */
export function isBehindProxy(publicUrl: string): boolean {
  const { hostname, protocol } = new URL(publicUrl)
  return protocol === 'https:' && !isLoopback(hostname.replace(/\.$/, ''))
}
