import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { start } from '../processes.ts'

/** Paths of PEM files: the certificate and key of one side of a TLS connection, and the authority that it trusts. */
export interface TlsFiles {
  readonly ca: string
  readonly cert: string
  readonly key: string
}

/** A test's certificate authority, which both sides trust. */
export interface Certificates {
  /** For a server on 127.0.0.1 or localhost. */
  readonly server: TlsFiles
  readonly client: TlsFiles
}

/**
 * Creates an authority, and a server and a client certificate, in the folder, all valid for a day.
 * @param hosts names of the server, in addition to 127.0.0.1
 */
export async function makeCertificates(
  folder: string,
  hosts: readonly string[] = ['localhost'],
): Promise<Certificates> {
  const file = (name: string) => join(folder, name)
  const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '1']
  await openssl(
    ...['req', '-x509', ...key, '-subj', '/CN=conveyor-test authority'],
    ...['-addext', 'keyUsage=critical,keyCertSign', '-keyout', file('ca.key'), '-out', file('ca.pem')],
  )
  const signed = async (name: string, use: string): Promise<TlsFiles> => {
    const names = ['subjectAltName=IP:127.0.0.1', ...hosts.map((host) => `DNS:${host}`)].join(',')
    await openssl(
      ...['req', ...key, '-subj', `/CN=conveyor-test ${name}`],
      ...['-keyout', file(`${name}.key`), '-out', file(`${name}.csr`)],
    )
    await writeFile(file(`${name}.ext`), `${names}\nextendedKeyUsage=${use}\n`)
    await openssl(
      ...['x509', '-req', '-in', file(`${name}.csr`), '-extfile', file(`${name}.ext`), '-days', '1'],
      ...['-CA', file('ca.pem'), '-CAkey', file('ca.key'), '-CAcreateserial', '-out', file(`${name}.pem`)],
    )
    return { ca: file('ca.pem'), cert: file(`${name}.pem`), key: file(`${name}.key`) }
  }
  return { server: await signed('server', 'serverAuth'), client: await signed('client', 'clientAuth') }
}

async function openssl(...args: string[]): Promise<void> {
  await using program = await start('openssl', args)
  const { code } = await program.exited
  if (code !== 0) throw new Error(`openssl ${args[0]}: ${program.stderr()}`)
}
