import { createHash, createPrivateKey, randomUUID, sign, X509Certificate } from 'node:crypto'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { buffer } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import { onTestFinished } from 'vitest'
import { ConveyorError } from '../../../src/lib/core/errors.ts'
import { type RegistryClientOptions, registryClient } from '../../../src/lib/registry/client.ts'
import { dockerCredentials } from '../../../src/lib/registry/docker-credentials.ts'
import type { CredentialStore, Manifest, RegistryCredential } from '../../../src/lib/registry/registry.ts'
import { freePort, start } from '../processes.ts'
import { tempDir } from '../temp.ts'

/** One request that a double received. */
export interface Seen {
  method: string
  url: string
  authorization: string | undefined
  body: string
}

export interface HttpDouble extends AsyncDisposable {
  /** `127.0.0.1:PORT` */
  host: string
  seen: Seen[]
}

type Handler = (req: IncomingMessage, res: ServerResponse, body: Buffer) => void

/** An HTTP server that records its requests. */
export async function httpDouble(handle: Handler): Promise<HttpDouble> {
  const seen: Seen[] = []
  const server = createServer(async (req, res) => {
    const body = await buffer(req).catch(() => null)
    // The client disconnected before its request was complete.
    if (!body) return void res.destroy()
    const { method = '', url = '', headers } = req
    seen.push({ method, url, authorization: headers.authorization, body: body.toString() })
    handle(req, res, body)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

/**
 * A proxy in front of a real registry that passes everything on, except what `fault` responds to itself (then it
 * returns true). It numbers requests from 1.
 */
export function frontOf(
  registryHost: string,
  fault: (req: IncomingMessage, res: ServerResponse, count: number, body: Buffer) => boolean = () => false,
): Promise<HttpDouble> {
  let count = 0
  return httpDouble((req, res, body) => {
    count += 1
    if (fault(req, res, count, body)) return
    const { method, url: path, headers } = req
    const [host, port] = registryHost.split(':')
    const onward = request({ host, port, method, path, headers }, (answer) => {
      res.writeHead(answer.statusCode ?? 502, answer.headers)
      answer.pipe(res)
    })
    onward.on('error', () => res.destroy())
    onward.end(body)
  })
}

/** Uploads a blob the way docker does, in one request, and returns its digest. */
export async function pushBlob(
  base: string,
  path: string,
  bytes: Buffer,
  headers: Record<string, string> = {},
) {
  const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`
  const begun = await fetch(`${base}/v2/${path}/blobs/uploads/`, { method: 'POST', headers })
  const place = new URL(begun.headers.get('location') ?? '', base)
  place.searchParams.set('digest', digest)
  const done = await fetch(place, { method: 'PUT', body: new Uint8Array(bytes), headers })
  if (done.status !== 201) throw new Error(`blob upload: HTTP ${begun.status}, ${done.status}`)
  return { digest, size: bytes.length }
}

export interface TokenRegistry extends AsyncDisposable {
  host: string
  /** The requests to the token server. */
  tokens: Seen[]
  /** The lifetime that a token states, in seconds. */
  life: number
}

/**
 * A real registry with `auth: token`, and its token server, which signs what the accounts may do as described in
 * https://distribution.github.io/distribution/spec/auth/jwt/. Anyone may pull from `public/`; `accounts` (and holders
 * of `refreshToken`) may do everything.
 */
export async function tokenRegistry(
  accounts: Record<string, string>,
  refreshToken: string,
): Promise<TokenRegistry> {
  await using resources = new AsyncDisposableStack()
  const folder = resources.use(await tempDir('conveyor-registry-'))
  const file = (name: string) => join(folder.path, name)

  const { key, certificate } = await selfSigned(folder.path, 'token-server')
  const result = { life: 300 }
  const tokens = resources.use(
    await httpDouble((req, res, body) => {
      const url = new URL(req.url ?? '', 'http://x')
      const form = new URLSearchParams(body.toString())
      const query = req.method === 'POST' ? form : url.searchParams
      const login = /^Basic (.*)$/.exec(req.headers.authorization ?? '')?.[1]
      const [user = '', password] = login ? Buffer.from(login, 'base64').toString().split(':') : []
      // https://distribution.github.io/distribution/spec/auth/oauth/
      if (req.method === 'POST' && !(form.has('service') && form.has('client_id'))) {
        res.writeHead(400).end('{"error": "invalid_request"}')
        return
      }
      const granted: Record<string, () => boolean> = {
        refresh_token: () => form.get('refresh_token') === refreshToken,
        password: () => accounts[form.get('username') ?? ''] === form.get('password'),
      }
      const known =
        req.method === 'POST'
          ? granted[form.get('grant_type') ?? '']?.()
          : login && accounts[user] === password
      if (!known && (login || req.method === 'POST')) {
        res.writeHead(401).end('{"errors": [{"code": "UNAUTHORIZED"}]}')
        return
      }
      const scopes = query.getAll('scope').flatMap((scope) => scope.split(' ').filter(Boolean))
      const access = scopes.map((scope) => {
        const [type, name = '', actions = ''] = scope.split(':')
        const allowed = known ? actions.split(',') : name.startsWith('public/') ? ['pull'] : []
        return { type, name, actions: allowed }
      })
      const token = jwt(key, certificate, { aud: query.get('service'), access })
      res.end(JSON.stringify({ [known ? 'access_token' : 'token']: token, expires_in: result.life }))
    }),
  )

  const host = `127.0.0.1:${await freePort()}`
  const settings = {
    version: '0.1',
    log: { accesslog: { disabled: true }, level: 'warn' },
    storage: { filesystem: { rootdirectory: file('data') } },
    http: { addr: host },
    auth: {
      token: {
        realm: `http://${tokens.host}/token`,
        service: 'the, "registry"',
        issuer: 'conveyor-test',
        rootcertbundle: file('token-server.crt'),
      },
    },
  }
  await writeFile(file('config.json'), JSON.stringify(settings))
  resources.use(await start('docker-registry', ['serve', file('config.json')]))
  await answers(`http://${host}/v2/`)

  const owned = resources.move()
  return Object.assign(result, {
    host,
    tokens: tokens.seen,
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  })
}

/**
 * Docker's login with an identity token, as `az acr login` leaves it in `config.json`, or with the token in a
 * credential helper.
 */
export async function identityToken(
  folder: string,
  host: string,
  token: string,
  stored: boolean,
): Promise<CredentialStore> {
  const auth = Buffer.from('00000000-0000-0000-0000-000000000000:').toString('base64')
  const config = stored
    ? { auths: { [host]: { auth, identitytoken: token } } }
    : { credHelpers: { [host]: `conveyor-test-${process.pid}` } }
  await writeFile(join(folder, 'config.json'), JSON.stringify(config))
  const helper = join(folder, `docker-credential-conveyor-test-${process.pid}`)
  const answer = JSON.stringify({ ServerURL: host, Username: '<token>', Secret: token })
  await writeFile(helper, `#!/bin/sh\ncat > /dev/null\necho '${answer}'\n`, { mode: 0o755 })
  const path = process.env.PATH
  process.env.PATH = `${folder}:${path}`
  onTestFinished(() => {
    process.env.PATH = path
  })
  return dockerCredentials({ configDir: folder })
}

async function answers(url: string): Promise<void> {
  for (let tries = 0; ; tries++) {
    const status = await fetch(url).then(
      (answer) => answer.status,
      () => 0,
    )
    if (status !== 0) return
    if (tries > 500) throw new Error(`no response from ${url}`)
    await delay(20)
  }
}

/** A key and a self-signed certificate for it. */
export async function selfSigned(dir: string, name: string): Promise<{ key: string; certificate: string }> {
  const [key, crt] = [join(dir, `${name}.key`), join(dir, `${name}.crt`)]
  const args = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  args.push('-subj', `/CN=${name}`, '-addext', `subjectAltName=DNS:${name}`, '-days', '2')
  const openssl = await start('openssl', [...args, '-keyout', key, '-out', crt])
  if ((await openssl.exited).code !== 0) throw new Error(openssl.stderr())
  return { key: await readFile(key, 'utf8'), certificate: await readFile(crt, 'utf8') }
}

function jwt(key: string, certificate: string, claims: object): string {
  const encode = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
  const now = Math.floor(Date.now() / 1000)
  const header = { typ: 'JWT', alg: 'ES256', x5c: [new X509Certificate(certificate).raw.toString('base64')] }
  const times = { iat: now, nbf: now - 10, exp: now + 300, jti: randomUUID() }
  const text = `${encode(header)}.${encode({ iss: 'conveyor-test', sub: 'x', ...times, ...claims })}`
  const signature = sign('sha256', Buffer.from(text), {
    key: createPrivateKey(key),
    dsaEncoding: 'ieee-p1363',
  })
  return `${text}.${signature.toString('base64url')}`
}

export const OCI = 'application/vnd.oci.image.manifest.v1+json'
export const OCI_INDEX = 'application/vnd.oci.image.index.v1+json'
export const DOCKER = 'application/vnd.docker.distribution.manifest.v2+json'
export const DOCKER_LIST = 'application/vnd.docker.distribution.manifest.list.v2+json'

/** A client with credentials only for the hosts in `logins`; it records which hosts were looked up. */
export function clientWith(
  logins: Record<string, RegistryCredential> = {},
  options: Partial<RegistryClientOptions> = {},
) {
  const asked: string[] = []
  const credentials = {
    async forHost(host: string) {
      asked.push(host)
      return logins[host] ?? null
    },
  }
  const client = registryClient({ credentials, backoffMs: [5, 5, 5], mayBeLocal: () => true, ...options })
  onTestFinished(() => client.close())
  return Object.assign(client, { asked })
}

/** A manifest of this type, with one part that must be in the repository. */
export function manifestOf(mediaType: string, part: { digest: string; size: number }): Manifest {
  const child = {
    mediaType: mediaType === OCI_INDEX ? OCI : DOCKER,
    ...part,
    platform: { os: 'linux', architecture: 'amd64' },
  }
  const isList = mediaType === OCI_INDEX || mediaType === DOCKER_LIST
  const config = { mediaType: 'application/vnd.oci.image.config.v1+json', ...part }
  const content = isList ? { manifests: [child] } : { config, layers: [] }
  // The odd whitespace is intentional: only the exact bytes count.
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, ...content }, null, 3))
  return { mediaType, bytes, digest: `sha256:${createHash('sha256').update(bytes).digest('hex')}` }
}

/** The ConveyorError that the work rejects with; success or any other error fails the test. */
export async function failure(work: Promise<unknown>): Promise<ConveyorError> {
  const error = await work.then(
    () => new Error('it did not fail'),
    (e: unknown) => e,
  )
  if (!(error instanceof ConveyorError)) throw error
  return error
}
