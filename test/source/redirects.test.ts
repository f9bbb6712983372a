import { expect, onTestFinished, test } from 'vitest'
import { gitHistory } from '../../src/lib/source/git/history.ts'
import { gitMirrors } from '../../src/lib/source/mirrors.ts'
import { type GitServer, startGitServer } from '../support/git/server.ts'
import { basicEnv } from '../support/processes.ts'
import { tempDir } from '../support/temp.ts'

const TOKEN = 'ghp_of-one-server-alone'

async function gitServer(token?: string): Promise<GitServer> {
  const server = await startGitServer(token === undefined ? {} : { token })
  onTestFinished(() => server[Symbol.asyncDispose]())
  return server
}

/** The service's clients of a git server. */
async function clientsOf(url: string) {
  const dir = await tempDir()
  const options = { url, token: TOKEN, environment: basicEnv() }
  const source = gitMirrors({ ...options, dir: `${dir.path}/mirrors` })
  const history = gitHistory({ ...options, dir: `${dir.path}/history` })
  onTestFinished(async () => {
    await source.close()
    await dir[Symbol.asyncDispose]()
  })
  return { source, history }
}

/** A repository with two commits that has been renamed. */
async function renamed(server: GitServer, to: GitServer = server) {
  const repository = await to.create('acme/new')
  const first = await repository.commit({ Dockerfile: 'FROM scratch\n' })
  const second = await repository.commit({ more: 'x' })
  server.move('acme/old', `${to.url}/acme/new`)
  return { first, second }
}

const loginsOf = (server: GitServer) => new Set(server.requests.map(({ login }) => login))

test('a repository that was renamed is fetched under its old name, too', async () => {
  const server = await gitServer(TOKEN)
  const { first, second } = await renamed(server)
  const { source, history } = await clientsOf(server.urlTemplate)
  await expect(source.fetch('acme/old', second)).resolves.toMatchObject({ sha: second })
  await expect(history.head('acme/old', null)).resolves.toMatchObject({ sha: second })
  await expect(history.contains('acme/old', second, first)).resolves.toBe(true)
})

test('a redirect to another origin is followed without the token', async () => {
  const [server, other] = [await gitServer(TOKEN), await gitServer()]
  const { first, second } = await renamed(server, other)
  const { source, history } = await clientsOf(server.urlTemplate)
  await expect(source.fetch('acme/old', second)).resolves.toMatchObject({ sha: second })
  await expect(history.head('acme/old', null)).resolves.toMatchObject({ sha: second })
  await expect(history.contains('acme/old', second, first)).resolves.toBe(true)
  expect(loginsOf(server)).toContain(`x-access-token:${TOKEN}`)
  expect(other.requests.length).toBeGreaterThan(5)
  expect(loginsOf(other)).toEqual(new Set([null]))
})

test('another origin that requires a login does not get the token', async () => {
  const [server, other] = [await gitServer(TOKEN), await gitServer('another token')]
  const { second } = await renamed(server, other)
  const { source, history } = await clientsOf(server.urlTemplate)
  const here = new URL(server.url).host
  const message = `${here} redirects acme/old to another server, which requires a login; the credentials for ${here} are not sent there`
  await expect(source.fetch('acme/old', second)).rejects.toMatchObject({
    kind: 'unauthorized',
    message,
    hint: 'If you trust that server with them, set --git.url (GIT_URL) to its address',
  })
  await expect(history.head('acme/old', null)).rejects.toMatchObject({ kind: 'unauthorized' })
  expect(other.requests.length).toBeGreaterThan(0)
  expect(loginsOf(other)).toEqual(new Set([null]))
})
