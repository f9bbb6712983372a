import { isLoopback } from './loopback.ts'

/**
 * Whether others reach a server itself at its public URL. If not, a proxy on this machine may pass on what they send
 * without a trace: nginx since 1.29.7 sends HTTP/1.1 to `127.0.0.1:8080`, and no header of its own.
 * @param port where the server listens, without TLS
 */
export function isServedHere(publicUrl: string, port: number | undefined): boolean {
  const { hostname, protocol, port: publicPort } = new URL(publicUrl)
  return (
    isLoopback(hostname.replace(/\.$/, '')) || (protocol === 'http:' && Number(publicPort || 80) === port)
  )
}
