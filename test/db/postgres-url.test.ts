import { execFile } from 'node:child_process'
import { join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parseConfig, secretsOf } from '../../src/lib/config/config.ts'
import { Postgres } from '../../src/lib/db/postgres.ts'
import { makeCertificates } from '../support/network/certificates.ts'
import { startPostgres, type TestPostgres } from '../support/postgres.ts'
import { runConveyor } from '../support/processes.ts'
import { type TempDir, tempDir } from '../support/temp.ts'

/** The URL of a database as people write it, and the errors when the database cannot be reached. */

const run = promisify(execFile)

let scratch: TempDir
let server: TestPostgres
let url: URL
beforeAll(async () => {
  scratch = await tempDir()
  await makeCertificates(scratch.path)
  const authority = { cert: join(scratch.path, 'server.pem'), key: join(scratch.path, 'server.key') }
  server = await startPostgres({ tls: authority })
  url = new URL(await server.database())
})
afterAll(async () => {
  await server[Symbol.asyncDispose]()
  await scratch[Symbol.asyncDispose]()
})

/** Logs in with the URL, as the program reads it. */
async function answer(db: string): Promise<unknown> {
  const config = parseConfig({ db })
  if (config.db.kind !== 'postgres') throw new Error('that is no database of Postgres')
  const postgres = new Postgres({ url: config.db.url })
  try {
    return await postgres.query('select current_user as name')
  } catch (error) {
    const { kind, message, hint, retryable } = error as Record<string, unknown>
    return { kind, message, hint, retryable }
  } finally {
    await postgres.close()
  }
}

describe('a password', () => {
  const taken = [
    'a%b',
    '%',
    'a%40b',
    'p@ss',
    'a:b',
    'a%zz%20',
    '100%ff',
    'a b',
    "it's+&=[]",
    'ü%',
    'a%2Fb',
    'a\\b',
  ]
  test.each(taken)('%s is read as it is written', async (written) => {
    // Percent-encoding is decoded where valid; any other % is kept.
    const meant = { 'a%40b': 'a@b', 'a%zz%20': 'a%zz ', 'a%2Fb': 'a/b' }[written] ?? written
    const admin = new pg.Client({ connectionString: url.href })
    await admin.connect()
    try {
      await admin.query('drop role if exists somebody')
      await admin.query(`create role somebody login password ${pg.escapeLiteral(meant)}`)
    } finally {
      await admin.end()
    }
    const db = `postgres://somebody:${written}@${url.host}${url.pathname}`
    expect(await answer(db)).toEqual([{ name: 'somebody' }])
    expect(secretsOf(parseConfig({ db }))).toContain(meant)
  })

  test.each(['a/b', 'a#b', 'a?b', '12/3', '12#3', '12?3', 'a@b/c'])(
    '%s is refused with an explanation',
    (password) => {
      for (const name of ['db', 'queue']) {
        const given = `postgres://me:${password}@db.lan/conveyor`
        const parse = () => parseConfig({ db: 'postgres://db.lan/x', [name]: given })
        expect(parse).toThrow(
          /is "postgres:\/\/\[redacted\]@db\.lan\/conveyor": expected .*%2F for \/, %3F for \? and %23/,
        )
      }
    },
  )

  test.each([
    'postgres://db.lan/x?user=me@azure&password=hush',
    'postgresql://db.lan?user=a@b',
    'postgres:///x?host=/run',
  ])('an @ elsewhere is not part of a password: %s', (db) =>
    expect(parseConfig({ db }).db).toEqual({ kind: 'postgres', url: db }),
  )

  test('as a parameter is a secret, too', () => {
    expect(secretsOf(parseConfig({ db: 'postgres://db.lan/x?password=hush' }))).toEqual(['hush'])
  })
})

describe('a database that cannot be reached', () => {
  const at = (host: string, query = '') => `postgres://me:hush@${host}/x${query}`

  test('with a certificate from an unknown CA', async () => {
    const error = await answer(`${url.href}?sslmode=verify-full`)
    expect(error).toEqual({
      kind: 'unavailable',
      message: expect.stringMatching(/^database \S+ has an untrusted certificate: unable to verify/),
      hint: 'Add its CA certificate, or its own certificate if it is self-signed, to its URL: ?sslmode=verify-full&sslrootcert=FILE',
      retryable: false,
    })
    // The advice works.
    const authority = join(scratch.path, 'ca.pem')
    expect(await answer(`${url.href}?sslmode=verify-full&sslrootcert=${authority}`)).toEqual([
      { name: 'conveyor' },
    ])
    expect(await answer(`${url.href}?sslmode=verify-full&sslrootcert=/not/there`)).toMatchObject({
      message: expect.stringContaining('cannot be reached: ENOENT'),
      hint: 'Correct the path of sslrootcert, sslcert or sslkey in its URL',
      retryable: false,
    })
  })

  test('with a self-signed certificate for another name', async () => {
    const own = { cert: join(scratch.path, 'own.pem'), key: join(scratch.path, 'own.key') }
    const made = [
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-days',
      '1',
      '-subj',
      '/CN=db',
      '-addext',
      'subjectAltName=DNS:db',
    ]
    await run('openssl', ['req', '-x509', ...made, '-keyout', own.key, '-out', own.cert])
    await using other = await startPostgres({ tls: own })
    const there = await other.database()
    expect(await answer(`${there}?sslmode=verify-full`)).toMatchObject({
      message: expect.stringContaining('has an untrusted certificate: self-signed certificate'),
    })
    const trusted = `${there}?sslmode=verify-full&sslrootcert=${own.cert}`
    expect(await answer(trusted)).toMatchObject({
      message: expect.stringContaining('has a certificate for other host names: '),
      hint: 'Use one of them as the host in its URL',
      retryable: false,
    })
  })

  test('with a host name without an address', async () => {
    expect(await answer(at('db.invalid'))).toMatchObject({
      message: expect.stringContaining(
        'database postgres://db.invalid/x has a host name that cannot be resolved',
      ),
      hint: 'Check the host in its URL, and the DNS settings of this machine',
      retryable: true,
    })
  })

  test('without a listening server', async () => {
    expect(await answer(at('127.0.0.1:1'))).toMatchObject({
      message: expect.stringContaining('does not respond'),
      hint: 'Check that the Postgres server is running, and the host and port in its URL',
    })
  })

  test('without TLS', async () => {
    await using plain = await startPostgres()
    expect(await answer(`${await plain.database()}?sslmode=verify-full`)).toMatchObject({
      message: expect.stringContaining('does not support TLS'),
      retryable: false,
    })
  })
})

test.each([
  [
    'an address of another machine',
    ['--host', '192.0.2.1'],
    /Set --host \(HOST\) to an address of this machine/,
  ],
  [
    'a name without an address',
    ['--host', 'here.invalid'],
    /Set --host \(HOST\) to an address of this machine/,
  ],
])('the server cannot listen on %s, which is not its port', async (_, flags, hint) => {
  const env = { DATA_DIR: join(scratch.path, 'data'), DOCKER_HOST: 'tcp://127.0.0.1:1' }
  const { code, stderr } = await runConveyor(['server', '--port', '0', ...flags], { env })
  expect(code).toBe(3)
  expect(stderr.replace(/\s+(›\s+)?/g, ' ')).toMatch(hint)
})

test('nor on a port that is in use', async () => {
  const env = { DATA_DIR: join(scratch.path, 'data'), DOCKER_HOST: 'tcp://127.0.0.1:1' }
  const flags = ['--host', '127.0.0.1', '--port', `${server.port}`]
  const { stderr } = await runConveyor(['server', ...flags], { env })
  expect(stderr.replace(/\s+(›\s+)?/g, ' ')).toContain(
    'Set another --port (PORT), or stop the program that uses this one',
  )
})
