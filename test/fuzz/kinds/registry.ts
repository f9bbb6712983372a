import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { createServer, type Socket } from 'node:net'
import { registryClient } from '../../../src/lib/registry/client.ts'
import type { Chance } from '../generate/chance.ts'
import { mutated, mutatedBytes, ODD, pieces } from '../generate/mutate.ts'
import { excerpt, type Kind, mayRefuse, type Subject } from '../kind.ts'

const DIGEST = `sha256:${'a'.repeat(64)}`
const TYPES = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json; charset=x',
  'text/html',
  '',
  'application/json',
]
const CODES = [
  ...[
    'UNAUTHORIZED',
    'DENIED',
    'NAME_UNKNOWN',
    'MANIFEST_UNKNOWN',
    'TOOMANYREQUESTS',
    'TAG_INVALID',
    'UNSUPPORTED',
    'SIZE_INVALID',
  ],
  ...[
    'MANIFEST_INVALID',
    'BLOB_UPLOAD_UNKNOWN',
    'UNAVAILABLE',
    'RepositoryNotFoundException',
    'ImageTagAlreadyExistsException',
    'UNKNOWN',
  ],
]
const MESSAGES = [
  ...[
    '',
    'x',
    'Quota has been exceeded on namespace',
    "Failed to process request due to 'a:1' configured as immutable.",
  ],
  ...[
    'adding 2.1 MiB of storage resource, which when updated to current usage of 8.3 MiB will exceed the configured upper limit of 10.0 MiB.',
  ],
  ...['requested access to the resource is denied', '\u0000\u0007\u202e', 'a\r\nb: c'],
]
const STATUSES = [
  200, 200, 200, 201, 202, 204, 206, 301, 302, 303, 307, 308, 400, 401, 401, 401, 403, 404, 405, 409, 412,
  413, 415, 429, 500, 501, 502, 503, 507, 599, 100, 999, 0,
]
/** None between one second and the longest wait that is honored. */
const WAITS = [
  '0',
  '99999',
  '-1',
  '1e3',
  'Thu, 01 Jan 1970 00:00:00 GMT',
  'Fri, 31 Dec 9999 23:59:59 GMT',
  'x',
  '9'.repeat(400),
]
const WORDS = [
  'Bearer ',
  'Basic ',
  'realm="',
  'scope="',
  'service=',
  ',',
  '"',
  '\\',
  '=',
  ' ',
  '\r\n',
  'HTTP/1.1 ',
  ': ',
  'content-length: ',
  '\0',
  ...ODD.filter((one) => /^[ -~]*$/.test(one)),
]

/** Responses of registries and token servers, truncated anywhere. */
export const registryKind: Kind = {
  share: 2.5,
  least: 1500,
  parsers: [
    'registry/client.ts',
    'registry/http.ts',
    'registry/auth.ts',
    'registry/json.ts',
    'registry/response.ts',
  ],
  async open(): Promise<Subject> {
    const server = await startAnswering()
    const { host } = server
    let number = 0
    return {
      draw(chance) {
        // The maximum number of requests: a challenge, a token, redirects, a retry.
        const answers = Array.from({ length: 8 }, () => drawAnswer(chance, host))
        const [what, digest, login] = [chance.whole(0, 4), chance.percent(30), chance.one(LOGINS)]
        const backoffMs = chance.one([[], [], [], [1], [1, 1]])
        const cuts = answers.map((answer) => pieces(chance, answer))
        return {
          shown: () => excerpt(Buffer.concat([...answers.slice(0, 3)])),
          async run() {
            server.answers = cuts
            const client = registryClient({
              credentials: { forHost: async () => login },
              mayBeLocal: () => true,
              backoffMs,
            })
            number += 1
            const image = `${host}/acme/app${number}`
            const reference = digest ? DIGEST : 'main'
            try {
              await mayRefuse(async () => {
                if (what === 0) await client.manifest(image, reference)
                else if (what === 1) await client.head(image, reference)
                else if (what === 2) await client.ping(host)
                else if (what === 3) await client.deleteTag(image, reference)
                else
                  await client.putManifest(image, 'main', {
                    digest: DIGEST,
                    mediaType: TYPES[0] ?? '',
                    bytes: Buffer.from('{}'),
                  })
              })
            } finally {
              await client.close()
            }
          },
        }
      },
      [Symbol.asyncDispose]: () => server.close(),
    }
  },
}

const LOGINS = [null, { username: 'ci', password: 'secret' }, { username: '<token>', password: 'refresh' }]

/** Sends the next response to any request, and then closes the connection or keeps it open. */
async function startAnswering() {
  const sockets = new Set<Socket>()
  const state = { host: '', answers: [] as Buffer[][] }
  const server = createServer((socket) => {
    sockets.add(socket)
    socket.setNoDelay(true)
    // A client may disconnect at any time.
    socket.on('error', () => {}).on('close', () => sockets.delete(socket))
    socket.on('data', (bytes) => {
      // A TLS handshake, which is not supported here.
      if (bytes[0] === 0x16) return void socket.end('no TLS')
      if (!bytes.includes('\r\n\r\n')) return
      for (const piece of state.answers.shift() ?? []) socket.write(piece)
      socket.end()
    })
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  state.host = `127.0.0.1:${(server.address() as AddressInfo).port}`
  return Object.assign(state, {
    async close() {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  })
}

function drawAnswer(chance: Chance, host: string): Buffer {
  const status = chance.one(STATUSES)
  const body = drawBody(chance)
  const headers = [
    chance.percent(70) ? `content-type: ${chance.one(TYPES)}` : '',
    chance.percent(30)
      ? `docker-content-digest: ${chance.one([DIGEST, 'sha256:x', '', DIGEST.toUpperCase()])}`
      : '',
    chance.percent(15) ? `retry-after: ${chance.one(WAITS)}` : '',
    status === 401 || chance.percent(5) ? `www-authenticate: ${drawChallenge(chance, host)}` : '',
    status > 300 && status < 309
      ? `location: ${chance.one([`http://${host}/x`, '/y', 'http://127.0.0.1:1/z', 'ftp://a', '//', 'http://', 'https://[', ''])}`
      : '',
    chance.one([
      `content-length: ${body.length}`,
      `content-length: ${body.length}`,
      `content-length: ${chance.one([0, 1, 1e12, -1])}`,
      'transfer-encoding: chunked',
      '',
    ]),
  ].filter((line) => line !== '')
  const head = `HTTP/1.1 ${status} ${chance.one(['OK', '', 'x y'])}\r\n${headers.map((line) => `${line}\r\n`).join('')}\r\n`
  const text = chance.percent(15) ? mutated(chance, head, WORDS) : head
  const bytes = Buffer.concat([Buffer.from(text, 'latin1'), body])
  return chance.percent(15) && bytes.length < 1 << 16 ? mutatedBytes(chance, bytes) : bytes
}

function drawChallenge(chance: Chance, host: string): string {
  const realm = chance.one([
    `http://${host}/token`,
    `http://${host}/token?x=1`,
    `https://${host}/token`,
    `https://${host}/token`,
    'https://127.0.0.1:1/token',
    'https://127.0.0.1:1/token',
    'https://169.254.1.1/token',
    'x',
    '',
    'http://',
    'file:///etc/passwd',
  ])
  const scope = chance.one(['', ',scope="repository:a/b:pull,push"', ',scope="a b  c"'])
  const bearer = `Bearer realm="${realm}",service="a, \\"b\\""${scope}`
  const text = chance.one([
    bearer,
    bearer,
    bearer,
    'Basic realm="x"',
    `Digest x=1, ${bearer}, Basic realm=y`,
    'Negotiate',
    '',
  ])
  if (chance.percent(2)) return chance.one(['a', 'a=', 'a="', ', ', '\\', 'a ', '"']).repeat(8000)
  return chance.percent(20)
    ? mutated(
        chance,
        text,
        WORDS.filter((word) => !/[\r\n\0]/.test(word)),
      )
    : text
}

function drawBody(chance: Chance): Buffer {
  if (chance.percent(0.5)) {
    const piece = chance.one(['[', '[],', '{"a":', 'x', ' ', '{"errors":[{"message":"', '\\n', '€', '1,'])
    return Buffer.from(
      chance.one(['', '[', '{"errors":[{"message":"', '{"errors":[{"message":[', '{"token":"']) +
        piece.repeat(chance.one([1 << 16, 4 << 20]) / Buffer.byteLength(piece)),
    )
  }
  const message = chance.one([...MESSAGES, 'x'.repeat(1000)])
  const errors = JSON.stringify({ errors: [{ code: chance.one(CODES), message }] })
  const text = chance.one([
    errors,
    errors,
    JSON.stringify({
      errors: chance.one([null, [], 'x', [null], [{ code: { toString: 1 }, message: [[]] }], {}]),
    }),
    JSON.stringify({
      token: chance.one(['a-token', '', 1, null, 'a\nb', {}]),
      access_token: 'b',
      expires_in: chance.one([60, 0, -1, 1e308, 'x']),
    }),
    '{"token":"a-token"}',
    JSON.stringify({ schemaVersion: 2, mediaType: chance.one(TYPES), config: { digest: DIGEST } }),
    chance.one(['null', '1', '"x"', '[]', '', '<html>']),
  ])
  return chance.percent(20) ? mutatedBytes(chance, Buffer.from(text)) : Buffer.from(text)
}
