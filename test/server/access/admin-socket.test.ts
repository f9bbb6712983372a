import { once } from 'node:events'
import { chmod, mkdir, readdir, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { request } from 'node:http'
import { createServer } from 'node:net'
import { dirname, join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { isTokenText, newTokenText, tokenHash } from '../../../src/lib/core/access/access-token.ts'
import { type AdminSocket, openAdminSocket } from '../../../src/lib/server/access/admin-socket.ts'
import type { BuildStore } from '../../../src/lib/store/build-store.ts'
import { sqliteBuildStore } from '../../../src/lib/store/sqlite/sqlite.ts'
import { type TempDir, tempDir } from '../../support/temp.ts'
import { startTestServer } from '../../support/test-server.ts'

/** The API of tokens, on the socket of the server's user and over HTTP. */

let dir: TempDir
let store: BuildStore
let socket: AdminSocket | null = null
let lines: string[]
const path = () => join(dir.path, 'admin', 'sock')
const open = async (at = path()) => {
  socket = await openAdminSocket({ path: at, store, log: (line) => lines.push(line) })
  return socket
}
beforeEach(async () => {
  dir = await tempDir()
  await chmod(dir.path, 0o700)
  store = await sqliteBuildStore({ file: ':memory:' })
  lines = []
})
afterEach(async () => {
  await socket?.close()
  socket = null
  await store.close()
  await dir[Symbol.asyncDispose]()
})

async function ask(method: string, url: string, body?: unknown, headers: Record<string, string> = {}) {
  const sent = request({ socketPath: path(), method, path: url, headers, agent: false })
  sent.end(body === undefined ? undefined : typeof body === 'string' ? body : JSON.stringify(body))
  const [answer] = await once(sent, 'response')
  return { status: answer.statusCode as number, body: JSON.parse(await text(answer)) }
}

describe('the admin socket', () => {
  test('is for the user of the server alone, and creates, lists, and revokes tokens', async () => {
    await open()
    expect((await stat(path())).mode & 0o777).toBe(0o600)
    const created = await ask('POST', '/tokens', {
      name: 'ci',
      scope: 'build',
      repositories: ['acme/*'],
      expires_in: '90d',
    })
    expect(created).toEqual({
      status: 201,
      body: expect.objectContaining({
        name: 'ci',
        scope: 'build',
        state: 'active',
        token: expect.any(String),
      }),
    })
    const { token, ...shown } = created.body
    expect(isTokenText(token)).toBe(true)
    expect(await store.tokens.find(tokenHash(token))).toMatchObject({ name: 'ci' })
    expect(await ask('GET', '/tokens')).toEqual({ status: 200, body: { tokens: [shown] } })
    expect(await ask('DELETE', '/tokens/ci')).toEqual({ status: 200, body: { ...shown, state: 'revoked' } })
    expect((await ask('DELETE', '/tokens/ci')).status).toBe(404)
    expect(JSON.stringify(lines)).not.toContain(token)
    expect(lines.filter((line) => /created|revoked/.test(line))).toHaveLength(2)
    expect((await ask('GET', '/builds', undefined, { accept: 'text/html' })).status).toBe(404)
    await socket?.close()
    socket = null
    expect(await readdir(dirname(path()))).toEqual([])
  })

  test.each([
    ['not json', undefined],
    [{ scope: 'read' }, 'name'],
    [{ name: 'a b', scope: 'read' }, 'name'],
    [{ name: newTokenText(), scope: 'read' }, 'name'],
    [{ name: 'x', scope: 'root' }, 'scope'],
    [{ name: 'x', scope: 'read', repository: 'acme/*' }, 'repository'],
    [{ name: 'x', scope: 'read', repositories: 'acme/*' }, 'repositories'],
    [{ name: 'x', scope: 'read', repositories: ['acme'] }, 'repositories'],
    [{ name: 'x', scope: 'admin', repositories: ['acme/*'] }, 'repositories'],
    [{ name: 'x', scope: 'read', expires_in: '0d' }, 'expires_in'],
    [{ name: 'x', scope: 'read', expires_in: 90 }, 'expires_in'],
    [{ name: 'x', scope: 'read', expires_in: '99999d' }, 'expires_in'],
  ])('refuses %j, and names the field', async (body, field) => {
    await open()
    const answer = await ask('POST', '/tokens', body)
    expect(answer.status).toBe(400)
    expect(answer.body.field).toBe(field)
    expect(await store.tokens.list()).toEqual([])
  })

  test('replaces what a killed server has left, and leaves alone what another one uses', async () => {
    await mkdir(dirname(path()))
    const other = createServer().listen(path())
    await once(other, 'listening')
    expect(await open()).toBeNull()
    expect(lines).toEqual([expect.stringContaining('another process serves')])
    other.close()
    await once(other, 'close')
    // Node removes it on close; a killed process cannot.
    const { spawnSync } = await import('node:child_process')
    const bind = `import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])`
    expect(spawnSync('python3', ['-c', bind, path()]).status).toBe(0)
    expect((await stat(path())).isSocket()).toBe(true)
    expect(await open()).not.toBeNull()
    expect((await ask('GET', '/tokens')).status).toBe(200)
  })

  test.each([
    ['a file', () => writeFile(path(), 'mine')],
    ['a link', () => symlink('/dev/null', path())],
  ])('does not replace %s', async (_what, make) => {
    await mkdir(dirname(path()))
    await make()
    expect(await open()).toBeNull()
    expect(lines).toEqual([expect.stringContaining('is not a socket')])
  })

  test('is in a folder of its own where others may write to the data directory', async () => {
    await chmod(dir.path, 0o775)
    expect(await open()).not.toBeNull()
    expect((await stat(dirname(path()))).mode & 0o777).toBe(0o700)
    expect((await ask('GET', '/tokens')).status).toBe(200)
  })

  test('is not created where other users could replace it, nor where its path would be cut off', async () => {
    await symlink(dir.path, dirname(path()))
    expect(await open()).toBeNull()
    await rm(dirname(path()))
    await mkdir(dirname(path()))
    await chmod(dirname(path()), 0o770)
    expect(await open()).toBeNull()
    await chmod(dirname(path()), 0o700)
    expect(await open(join(dir.path, 'a'.repeat(108), 'admin.sock'))).toBeNull()
    expect(lines).toEqual([
      expect.stringContaining(`${dirname(path())} is not a folder`),
      expect.stringContaining(`chmod go-w ${dirname(path())}`),
      expect.stringMatching(/has \d+ bytes, and a Unix socket can have 107; choose a shorter --data-dir/),
    ])
    expect(await readdir(dirname(path()))).toEqual([])
  })
})

describe('over HTTP', () => {
  test('tokens are for admins: not for this machine without a login, nor for other scopes', async () => {
    await using server = await startTestServer({ auth: null })
    const token = async (scope: 'build' | 'admin') => {
      const made = newTokenText()
      const asked = { name: scope, scope, repositories: [], createdBy: 'test', expiresInSeconds: null }
      await server.store.tokens.create(asked, tokenHash(made))
      return { authorization: `Bearer ${made}` }
    }
    const build = await token('build')
    const admin = await token('admin')
    const tokens = (method: string, headers = {}, at = '', body?: string) =>
      fetch(`${server.url}/tokens${at}`, { method, headers, ...(body !== undefined && { body }) })
    const order = JSON.stringify({ name: 'new', scope: 'admin' })
    for (const headers of [{}, build]) {
      expect((await tokens('GET', headers)).status).toBe(403)
      expect((await tokens('POST', headers, '', order)).status).toBe(403)
      expect((await tokens('DELETE', headers, '/admin')).status).toBe(403)
    }
    const created = await tokens('POST', admin, '', order)
    expect(created.status).toBe(201)
    const { token: made, created_by: by } = (await created.json()) as { token: string; created_by: string }
    expect(by).toBe('admin')
    const second = { authorization: `Bearer ${made}` }
    expect((await tokens('DELETE', second, '/admin')).status).toBe(200)
    expect((await tokens('GET', admin)).status).toBe(401)
    expect((await tokens('GET', second)).status).toBe(200)
  })
})
