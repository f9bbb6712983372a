import { afterAll, beforeAll, expect, test } from 'vitest'
import { github } from '../../src/lib/forge/github/github.ts'
import { gitMirrors } from '../../src/lib/source/mirrors.ts'
import { type GitServer, startGitServer } from '../support/git/server.ts'
import { startGitHubDouble } from '../support/github/double.ts'
import { type Certificates, makeCertificates } from '../support/network/certificates.ts'
import { startTls } from '../support/network/proxy.ts'
import { basicEnv, runConveyor } from '../support/processes.ts'
import { type TempDir, tempDir } from '../support/temp.ts'
import { sha, startTestServer } from '../support/test-server.ts'

/** Servers whose certificates are signed by a private authority, as in many companies. */

const NODE_HINT =
  'Its certificate is not trusted: set NODE_EXTRA_CA_CERTS to the file of its CA certificate, or of its own certificate if it is self-signed'

let scratch: TempDir
let certificates: Certificates
let git: GitServer
beforeAll(async () => {
  scratch = await tempDir()
  certificates = await makeCertificates(scratch.path)
  git = await startGitServer()
})
afterAll(async () => {
  await git[Symbol.asyncDispose]()
  await scratch[Symbol.asyncDispose]()
})

const hostOf = (url: string) => new URL(url).host

test('GitHub Enterprise', async () => {
  await using double = await startGitHubDouble()
  await using tls = await startTls(certificates.server, hostOf(double.url))
  const forge = github({ baseUrl: `https://${tls.host}`, retryDelaysMs: [] })
  await expect(forge.account()).rejects.toMatchObject({ kind: 'unavailable', hint: NODE_HINT })
})

test('a git server: the advice helps', async () => {
  const commit = await (await git.create('acme/app')).commit({ a: '1' })
  await using tls = await startTls(certificates.server, hostOf(git.url))
  const url = `https://${tls.host}/{repository}.git`
  const fetch = async (environment: NodeJS.ProcessEnv) => {
    await using dir = await tempDir()
    const source = gitMirrors({ dir: dir.path, url, environment: { ...basicEnv(), ...environment } })
    return await source.fetch('acme/app', commit).finally(() => source.close())
  }
  await expect(fetch({})).rejects.toMatchObject({
    kind: 'unavailable',
    retryable: false,
    hint: 'Set GIT_SSL_CAINFO to the file of its CA certificate, or of its own certificate if it is self-signed',
  })
  await expect(fetch({ GIT_SSL_CAINFO: certificates.server.ca })).resolves.toMatchObject({ sha: commit })
})

test('a Conveyor server', async () => {
  await using server = await startTestServer()
  await using tls = await startTls(certificates.server, hostOf(server.url))
  const asked = ['build', `acme/app:${sha('a')}`, '--detach', '--url', `https://${tls.host}`]
  const text = async (env: NodeJS.ProcessEnv) => {
    const { code, stdout, stderr } = await runConveyor(asked, { env: { ...basicEnv(), ...env } })
    return { code, text: `${stdout}${stderr.replace(/\s+(›\s+)?/g, ' ')}` }
  }
  expect(await text({})).toMatchObject({ code: 3, text: expect.stringContaining(NODE_HINT) })
  expect(await text({ NODE_EXTRA_CA_CERTS: certificates.server.ca })).toMatchObject({ code: 0 })
})
