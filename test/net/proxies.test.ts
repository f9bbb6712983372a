import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { parseProxy, proxiesOf, proxyFor } from '../../src/lib/net/proxies.ts'
import { tunnelAgent } from '../../src/lib/net/proxy-agent.ts'
import { sqsQueue } from '../../src/lib/queue/sqs/queue.ts'
import { startAws } from '../support/aws/aws.ts'
import { type GitHubDouble, startGitHubDouble } from '../support/github/double.ts'
import { type Certificates, makeCertificates } from '../support/network/certificates.ts'
import { startProxy, startTls } from '../support/network/proxy.ts'
import { basicEnv, runConveyor } from '../support/processes.ts'
import { startRegistry, type TestRegistry } from '../support/registry/registry.ts'
import { type TempDir, tempDir } from '../support/temp.ts'
import { sha, startTestServer } from '../support/test-server.ts'

/** A machine that can only connect through a proxy: only the proxy knows where `*.test` is. */

const LOGIN = 'me:p%40ss%'

let scratch: TempDir
let certificates: Certificates
let registry: TestRegistry
let github: GitHubDouble
beforeAll(async () => {
  scratch = await tempDir()
  certificates = await makeCertificates(scratch.path, [
    'registry.test',
    'github.test',
    'ci.test',
    'aws.test',
    'sts.test',
  ])
  registry = await startRegistry()
  github = await startGitHubDouble()
})
afterAll(async () => {
  await github[Symbol.asyncDispose]()
  await registry[Symbol.asyncDispose]()
  await scratch[Symbol.asyncDispose]()
})

const hostOf = (url: string) => new URL(url).host

describe('doctor', () => {
  async function doctor(env: NodeJS.ProcessEnv) {
    const { stdout } = await runConveyor(['doctor', '--json', '--response-timeout', '1m'], {
      env: {
        ...{ DATA_DIR: scratch.path, DOCKER_HOST: 'tcp://127.0.0.1:1', DOCKER_CONFIG: scratch.path },
        ...{ GIT_URL: 'https://git.test/{repository}.git', NODE_EXTRA_CA_CERTS: certificates.server.ca },
        ...env,
      },
    })
    const parts = JSON.parse(stdout) as { part: string; found: string; ok: boolean }[]
    return (name: string) => parts.find(({ part }) => part === name)
  }

  test('reaches registry and GitHub through HTTP_PROXY, with its login', async () => {
    const hosts = { 'registry.test': registry.host, 'github.test': hostOf(github.url) }
    await using proxy = await startProxy(hosts, 'me:p@ss%')
    const of = await doctor({
      ...{ REGISTRY: 'http://registry.test', GITHUB_URL: 'http://github.test' },
      HTTP_PROXY: `http://${LOGIN}@${proxy.host}`,
    })
    expect(of('registry')).toMatchObject({ ok: true })
    expect(of('github')).toMatchObject({ ok: true })
    expect(proxy.asked).toContain('GET http://registry.test/v2/')
    expect(proxy.asked.some((line) => line.startsWith('GET http://github.test/'))).toBe(true)
    expect(proxy.refused).toEqual([])
  })

  test('reaches them over TLS through HTTPS_PROXY', async () => {
    await using registryTls = await startTls(certificates.server, registry.host)
    await using githubTls = await startTls(certificates.server, hostOf(github.url))
    const hosts = { 'registry.test': registryTls.host, 'github.test': githubTls.host }
    await using proxy = await startProxy(hosts, 'me:p@ss%')
    const of = await doctor({
      ...{ REGISTRY: 'registry.test', GITHUB_URL: 'https://github.test' },
      https_proxy: `${LOGIN}@${proxy.host}`,
    })
    expect(of('registry')).toMatchObject({ ok: true })
    expect(of('github')).toMatchObject({ ok: true })
    expect(new Set(proxy.asked)).toEqual(new Set(['CONNECT registry.test:443', 'CONNECT github.test:443']))
    expect(proxy.refused).toEqual([])
  })

  test('bypasses it for NO_PROXY and this machine, and reports what is wrong with it', async () => {
    await using proxy = await startProxy({ 'github.test': hostOf(github.url) }, 'me:right')
    const of = await doctor({
      ...{ REGISTRY: registry.host, GITHUB_URL: 'http://github.test' },
      ...{ HTTP_PROXY: `http://me:wrong-hush@${proxy.host}`, HTTPS_PROXY: 'socks5://127.0.0.1:1' },
    })
    expect(of('registry')).toMatchObject({ ok: true })
    expect(of('github')).toMatchObject({ ok: false, found: expect.stringContaining('407') })
    expect(JSON.stringify([of('github'), of('registry')])).not.toContain('hush')
    expect(proxy.asked).toEqual([])

    const without = await doctor({
      ...{ REGISTRY: registry.host, GITHUB_URL: 'http://github.test' },
      ...{ HTTP_PROXY: `http://me:right@${proxy.host}`, NO_PROXY: '.test' },
    })
    // Without a network, a resolver has no answer.
    expect(without('github')).toMatchObject({
      ok: false,
      found: expect.stringMatching(/ENOTFOUND|EAI_AGAIN/),
    })
    expect(proxy.asked).toEqual([])
  })
})

describe('conveyor build', () => {
  test.each(['http', 'https'])('reaches its server through the proxy, over %s', async (scheme) => {
    await using server = await startTestServer()
    await using tls = await startTls(certificates.server, hostOf(server.url))
    await using proxy = await startProxy(
      { 'ci.test': scheme === 'https' ? tls.host : hostOf(server.url) },
      'me:p@ss%',
    )
    const asked = ['build', `acme/app:${sha('a')}`, '--detach', '--url', `${scheme}://ci.test`]
    const env = {
      ...basicEnv(),
      [`${scheme}_proxy`]: `http://${LOGIN}@${proxy.host}`,
      NODE_EXTRA_CA_CERTS: certificates.server.ca,
      CONVEYOR_AUTH: 'none',
    }
    const { code, stderr } = await runConveyor(asked, { env })
    // The server rejects the request for other reasons, but it was reached.
    expect(stderr.replace(/\s+(›\s+)?/g, ' ')).toContain('the server only accepts requests from this machine')
    expect(code).toBe(2)
    expect(proxy.asked).toEqual([scheme === 'https' ? 'CONNECT ci.test:443' : 'POST http://ci.test/builds'])
    const wrong = await runConveyor(asked, {
      env: { ...env, [`${scheme}_proxy`]: `http://me:hush@${proxy.host}` },
    })
    expect(wrong.code).not.toBe(0)
    expect(wrong.stderr).toContain('407')
    expect(wrong.stderr).not.toContain('hush')
  })
})

test('the AWS SDK uses the proxy', async () => {
  await using aws = await startAws()
  const { url } = await aws.queue()
  await using tls = await startTls(certificates.server, hostOf(url))
  await using proxy = await startProxy({ 'aws.test': tls.host })
  const proxies = proxiesOf({ HTTPS_PROXY: proxy.host })
  const agent = tunnelAgent(proxies, { keepAlive: true, ca: await readFile(join(scratch.path, 'ca.pem')) })
  const said: string[] = []
  const queue = await sqsQueue({
    url: url.replace(/^http:\/\/[^/]+/, 'https://aws.test'),
    clientConfig: { ...aws.clientConfig, endpoint: 'https://aws.test' },
    httpsAgent: agent,
    log: (line) => said.push(line),
  })
  await queue.send({ buildId: 'one', repository: 'acme/app' })
  await queue.close()
  agent.destroy()
  expect(said).toEqual([])
  expect(new Set(proxy.asked)).toEqual(new Set(['CONNECT aws.test:443']))
})

test('the AWS SDK gets its credentials through the proxy, too', async () => {
  await using aws = await startAws()
  const { url } = await aws.queue()
  const requested: string[] = []
  const sts = createServer(async (request, response) => {
    requested.push(await text(request))
    response.setHeader('content-type', 'text/xml').end(ASSUMED)
  }).listen(0, '127.0.0.1')
  await once(sts, 'listening')
  const stsHost = `127.0.0.1:${(sts.address() as AddressInfo).port}`
  await using awsTls = await startTls(certificates.server, hostOf(url))
  await using stsTls = await startTls(certificates.server, stsHost)
  await using proxy = await startProxy({ 'aws.test': awsTls.host, 'sts.test': stsTls.host })
  const token = join(scratch.path, 'web-identity')
  await writeFile(token, 'the-token-of-the-pod')
  // As Kubernetes does it for a service account with a role.
  const { stdout, stderr } = await runConveyor(['doctor', '--json', '--response-timeout', '1m'], {
    env: {
      ...{ DATA_DIR: scratch.path, DOCKER_HOST: 'tcp://127.0.0.1:1', DOCKER_CONFIG: scratch.path },
      ...{ REGISTRY: registry.host, HTTPS_PROXY: proxy.host, NODE_EXTRA_CA_CERTS: certificates.server.ca },
      ...{ AWS_ENDPOINT_URL_SQS: 'https://aws.test', AWS_ENDPOINT_URL_STS: 'https://sts.test' },
      ...{ AWS_ROLE_ARN: 'arn:aws:iam::123456789012:role/conveyor', AWS_WEB_IDENTITY_TOKEN_FILE: token },
      ...{
        AWS_REGION: 'us-east-1',
        DATABASE_URL: 'postgres://x:x@127.0.0.1:1/x',
        QUEUE: url.replace(/^http:\/\/[^/]+/, 'sqs://aws.test'),
      },
    },
  })
  sts.close()
  const parts = JSON.parse(stdout) as { part: string; found: string; ok: boolean }[]
  expect(parts.find(({ part }) => part === 'queue')).toMatchObject({ ok: true })
  expect(requested[0]).toContain('Action=AssumeRoleWithWebIdentity')
  expect(requested[0]).toContain('WebIdentityToken=the-token-of-the-pod')
  expect(proxy.asked).toContain('CONNECT sts.test:443')
  expect(proxy.asked).toContain('CONNECT aws.test:443')
  expect(stdout + stderr).not.toContain('the-token-of-the-pod')
})

/** As in the AWS STS API Reference, AssumeRoleWithWebIdentity. */
const ASSUMED = `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
  <AssumeRoleWithWebIdentityResult>
    <Credentials>
      <SessionToken>the-session-token</SessionToken>
      <SecretAccessKey>the-secret-access-key</SecretAccessKey>
      <Expiration>2100-01-01T00:00:00Z</Expiration>
      <AccessKeyId>ASIAIOSFODNN7EXAMPLE</AccessKeyId>
    </Credentials>
  </AssumeRoleWithWebIdentityResult>
</AssumeRoleWithWebIdentityResponse>`

describe('choice of proxy', () => {
  const env = { http_proxy: 'http://one:1', HTTP_PROXY: 'http://two:2', HTTPS_PROXY: 'three:3' }
  const through = (url: string, more: NodeJS.ProcessEnv = {}) =>
    proxyFor(new URL(url), proxiesOf({ ...env, ...more }))?.url.host ?? null

  test.each([
    ['http://a.test', {}, 'one:1'],
    ['https://a.test', {}, 'three:3'],
    ['https://a.test', { HTTPS_PROXY: '', ALL_PROXY: 'http://all:4' }, 'all:4'],
    // The proxy for http is not used instead: curl and Go do the same.
    ['https://a.test', { HTTPS_PROXY: '' }, null],
    ['http://127.0.0.1:5000', {}, null],
    ['http://127.8.8.8', {}, null],
    ['http://[::1]:5000', {}, null],
    ['http://localhost', {}, null],
    ['http://[::ffff:127.0.0.1]', {}, null],
    // Where clouds serve a machine's metadata.
    ['http://169.254.169.254/latest', {}, null],
    ['http://[fe80::1]', {}, null],
    ['http://168.63.129.16', {}, null],
    ['http://[::ffff:100.100.100.200]', {}, null],
    ['http://[fd00:ec2::23]', {}, null],
    ['http://a.test', { NO_PROXY: '*' }, null],
    ['http://a.test', { NO_PROXY: 'x.test, a.test' }, null],
    ['http://a.test', { no_proxy: 'b.test', NO_PROXY: 'a.test' }, 'one:1'],
    ['http://b.a.test', { NO_PROXY: 'a.test' }, null],
    ['http://b.a.test', { NO_PROXY: '.a.test' }, null],
    ['http://b.a.test', { NO_PROXY: '*.a.test' }, null],
    ['http://ba.test', { NO_PROXY: 'a.test' }, 'one:1'],
    ['http://A.test.', { NO_PROXY: 'a.TEST' }, null],
    ['http://a.test:8080', { NO_PROXY: 'a.test:8080' }, null],
    ['http://a.test', { NO_PROXY: 'a.test:8080' }, 'one:1'],
    ['https://a.test', { NO_PROXY: 'a.test:443' }, null],
    ['http://10.1.2.3', { NO_PROXY: '10.0.0.0/8' }, null],
    ['http://11.1.2.3', { NO_PROXY: '10.0.0.0/8' }, 'one:1'],
    ['http://10.1.2.3', { NO_PROXY: '10.1.2.3' }, null],
    ['http://110.1.2.3', { NO_PROXY: '10.1.2.3,0.1.2.3' }, 'one:1'],
    ['http://[fd00::1]', { NO_PROXY: 'fd00::/8' }, null],
    ['http://[fd00::1]:80', { NO_PROXY: '[fd00::1]:80' }, null],
    ['http://a.test', { NO_PROXY: '10.0.0.0/99,/8,://' }, 'one:1'],
  ])('%s with %j: %s', (url, more, proxy) => expect(through(url, more)).toBe(proxy))

  test('proxies that only git supports are named', () => {
    expect(proxiesOf({ ALL_PROXY: 'socks5://x:1' })).toMatchObject({
      http: null,
      https: null,
      unusable: ['ALL_PROXY'],
    })
  })

  test.each([
    ['http://me:a%b@p:1', 'me:a%b'],
    ['http://me:a@b#c/d@p:1', 'me:a@b#c/d'],
    ['me:a%40b@p:1', 'me:a@b'],
  ])('the login of %s is read', (text, login) => {
    const proxy = parseProxy(text)
    expect(proxy?.url.host).toBe('p:1')
    expect(Buffer.from(proxy?.authorization?.slice('Basic '.length) ?? '', 'base64').toString()).toBe(login)
  })
})
