import { once } from 'node:events'
import { rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { GetObjectCommand, HeadObjectCommand } from '@aws-sdk/client-s3'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { startAws, type TestAws } from '../support/aws/aws.ts'
import { startS3Front } from '../support/aws/s3-front.ts'
import { engine } from '../support/global-setup.ts'
import { BUSYBOX_IMAGE } from '../support/images/base-images.ts'
import { machines, stateOf } from '../support/images/bootstrap.ts'

/** What `conveyor bootstrap` copies: Docker's logins to the data container, and the SSH key to a bucket. */

const { path, data, bootstrap, file, dockerConfig, helper, inside } = machines({ withKey: true })

describe('the data container', () => {
  test('contains key and logins where builder images expect them, readable by root and the user of the server', async () => {
    await dockerConfig({
      auths: { 'registry.example.com': { auth: 'cm9ib3Q6c2VjcmV0' } },
      HttpHeaders: { x: 'y' },
    })
    expect((await bootstrap()).code).toBe(0)
    const list =
      'cd /var/run/conveyor; stat -c "%u:%g %a %n" .ssh .ssh/id_rsa .ssh/id_rsa.pub .docker .docker/config.json'
    expect(await inside(list)).toBe(
      '1000:1000 700 .ssh\n1000:1000 600 .ssh/id_rsa\n1000:1000 600 .ssh/id_rsa.pub\n1000:1000 700 .docker\n1000:1000 600 .docker/config.json\n',
    )
    const read = 'cat /var/run/conveyor/.ssh/id_rsa /var/run/conveyor/.docker/config.json'
    const key = await file('data/ssh/id_rsa')
    const config = { auths: { 'registry.example.com': { auth: 'cm9ib3Q6c2VjcmV0' } } }
    for (const user of ['root', '1000:1000']) {
      const text = await inside(read, { user })
      expect(text.startsWith(key)).toBe(true)
      expect(JSON.parse(text.slice(key.length))).toEqual(config)
    }
    // It does not run, and its image contains only these files.
    const { State, Config } = await engine().docker.getContainer(data()).inspect()
    expect(State.Status).toBe('created')
    expect((await engine().docker.getImage(Config.Image).inspect()).Size).toBe(0)
  })

  test('gets a new login, and keeps the key', async () => {
    await bootstrap()
    await dockerConfig({ auths: { 'registry.example.com': { auth: 'cm9ib3Q6c2VjcmV0' } } })
    const { stdout } = await bootstrap()
    expect(stdout).toMatch(new RegExp(`^updated +container ${data()}: new \\.docker/config\\.json$`, 'm'))
    expect(await inside('cat /var/run/conveyor/.docker/config.json')).toContain('cm9ib3Q6c2VjcmV0')
    expect(await inside('cat /var/run/conveyor/.ssh/id_rsa')).toBe(await file('data/ssh/id_rsa'))
  })

  test('that bootstrap did not create keeps its files, and gets missing ones', async () => {
    await engine().docker.createContainer({
      name: data(),
      Image: BUSYBOX_IMAGE,
      Volumes: { '/var/run/conveyor': {} },
    })
    await inside('cd /var/run/conveyor; mkdir .ssh; echo theirs > .ssh/id_rsa', { write: true })
    const { stdout, code } = await bootstrap()
    expect(code).toBe(0)
    expect(stdout).toMatch(/^updated +container .*not created by bootstrap, so its \.ssh\/id_rsa was kept$/m)
    expect(await inside('cat /var/run/conveyor/.ssh/id_rsa')).toBe('theirs\n')
    expect(await inside('cat /var/run/conveyor/.docker/config.json')).toContain('auths')
  })

  test('does not replace an unrelated container', async () => {
    await engine().docker.createContainer({ name: data(), Image: BUSYBOX_IMAGE, Volumes: { '/srv': {} } })
    const { stdout, code } = await bootstrap()
    expect(code).toBe(3)
    expect(stdout).toMatch(/^MISSING +data container: .*no volume at \/var\/run\/conveyor.*--builder\.data/m)
  })
})

describe('Docker logins', () => {
  const copied = async () =>
    JSON.parse(await inside('cat /var/run/conveyor/.docker/config.json')) as {
      auths: Record<string, object>
    }

  test('are read from working credential helpers', async () => {
    const list = '{"https://index.docker.io/v1/":"me","registry.example.com":"robot"}'
    await helper(
      'store',
      `read -r server\ncase $1 in list) echo '${list}';; get) case $server in
        registry.example.com) echo '{"Username":"robot","Secret":"from the store"}';;
        *) echo '{"Username":"<token>","Secret":"an identity token"}';; esac;; esac`,
    )
    await helper('one', `echo '{"Username":"one","Secret":"for one"}'`)
    await dockerConfig({
      credsStore: 'store',
      credHelpers: { 'ghcr.io': 'one' },
      auths: { 'registry.example.com': {} },
    })
    const { stdout, code } = await bootstrap()
    expect(code).toBe(0)
    expect(stdout).toMatch(
      /Docker logins: ghcr\.io, https:\/\/index\.docker\.io\/v1\/, registry\.example\.com$/m,
    )
    expect(stdout).not.toMatch(/from the store|for one|identity token/)
    const base64 = (text: string) => Buffer.from(text).toString('base64')
    expect(await copied()).toEqual({
      auths: {
        'ghcr.io': { auth: base64('one:for one') },
        'https://index.docker.io/v1/': { identitytoken: 'an identity token' },
        'registry.example.com': { auth: base64('robot:from the store') },
      },
    })
  })

  test('that cannot be copied are named with the reason; the others are copied', async () => {
    await helper('broken', 'exit 9')
    await dockerConfig({
      auths: { 'good.example.com': { auth: 'cm9ib3Q6c2VjcmV0' } },
      credHelpers: {
        'broken.example.com': 'broken',
        'absent.example.com': 'nowhere',
        '123456789012.dkr.ecr.eu-central-1.amazonaws.com': 'ecr-login',
      },
    })
    const { stdout, code } = await bootstrap()
    expect(code).toBe(3)
    const line = /^MISSING +Docker logins: good\.example\.com, but not (.*)$/m.exec(stdout)?.[1]
    expect(line).toContain('docker-credential-broken (named in ')
    expect(line).toContain('docker-credential-nowhere (named in ')
    expect(line).toContain('which docker-credential-ecr-login issues for a short time only')
    expect(Object.keys((await copied()).auths)).toEqual(['good.example.com'])
  })

  test('of an invalid file are an error that does not quote it', async () => {
    await writeFile(path('docker/config.json'), '{"auths": secret-in-here')
    const { stdout, code } = await bootstrap()
    expect(code).toBe(3)
    expect(stdout).toMatch(
      /^MISSING +Docker logins: .*config\.json: is not a JSON object\. Correct the file/m,
    )
    expect(stdout).not.toContain('secret-in-here')
  })
})

describe('--bucket', () => {
  let aws: TestAws
  beforeAll(async () => {
    aws = await startAws()
  })
  afterAll(() => aws[Symbol.asyncDispose]())

  const object = async (Bucket: string, Key: string) =>
    (await aws.s3.send(new GetObjectCommand({ Bucket, Key }))).Body?.transformToString()

  test.each([
    ['the root', '', ''],
    ['a prefix', '/conveyor/prod/', 'conveyor/prod/'],
  ])('uploads the pair to %s, once', async (_, given, prefix) => {
    const bucket = await aws.bucket()
    const args = ['--no-image', '--bucket', `s3://${bucket}${given}`]
    const first = await bootstrap(args, aws.env)
    expect(first.code).toBe(0)
    expect(stateOf(first.stdout, 'id_rsa and id_rsa.pub in s3://')).toBe('created')
    for (const name of ['id_rsa', 'id_rsa.pub']) {
      expect(await object(bucket, `${prefix}${name}`)).toBe(await file('data/ssh', name))
      const head = await aws.s3.send(new HeadObjectCommand({ Bucket: bucket, Key: `${prefix}${name}` }))
      expect(head.ContentType).toBe('text/plain')
    }
    expect(stateOf((await bootstrap(args, aws.env)).stdout, 'id_rsa and id_rsa.pub in s3://')).toBe('ok')
  })

  test('requests encryption, and no access for others', async () => {
    const puts: Record<string, unknown>[] = []
    // Not fauxqs, which does not report how an object is stored.
    const s3 = createServer((request, response) => {
      if (request.method === 'PUT') puts.push(request.headers)
      const nothing = '<?xml version="1.0" encoding="UTF-8"?><Error><Code>NoSuchKey</Code></Error>'
      request.resume().on('end', () => {
        if (request.method === 'GET')
          response.writeHead(404, { 'content-type': 'application/xml' }).end(nothing)
        else response.end()
      })
    })
    s3.listen(0, '127.0.0.1')
    await once(s3, 'listening')
    const AWS_ENDPOINT_URL = `http://127.0.0.1:${(s3.address() as AddressInfo).port}`
    const { code } = await bootstrap(['--no-image', '--bucket', 's3://acme-keys'], {
      ...aws.env,
      AWS_ENDPOINT_URL,
    })
    s3.close()
    expect(code).toBe(0)
    expect(puts).toHaveLength(2)
    for (const headers of puts) {
      expect(headers).toMatchObject({ 'x-amz-server-side-encryption': 'AES256', 'if-none-match': '*' })
      expect(headers).not.toHaveProperty('x-amz-acl')
      // Servers other than Amazon's do not support it.
      expect(Object.keys(headers).filter((name) => name.includes('checksum'))).toEqual([])
    }
  })

  test.each([
    ['', []],
    [', where the server does not know conditions', ['if-none-match']],
  ])('never replaces an existing key%s', async (_, ignored) => {
    await using front = await startS3Front(aws.url)
    front.ignored = ignored
    const env = { ...aws.env, AWS_ENDPOINT_URL: front.url }
    const bucket = await aws.bucket()
    const args = ['--no-image', '--bucket', `s3://${bucket}`]
    await bootstrap(args, env)
    const there = await object(bucket, 'id_rsa')
    await rm(path('data/ssh'), { recursive: true })
    const { stdout, code } = await bootstrap(args, env)
    expect(code).toBe(3)
    expect(stdout).toMatch(
      /^MISSING +keys in the bucket: s3:\/\/.* already has another id_rsa\. Remove it there/m,
    )
    expect(await object(bucket, 'id_rsa')).toBe(there)
  })

  test('that is missing is named, and the rest is created', async () => {
    const { stdout, code } = await bootstrap(['--no-image', '--bucket', 's3://no-such-bucket'], aws.env)
    expect(code).toBe(3)
    expect(stdout).toMatch(/^MISSING +keys in the bucket: .*s3:\/\/no-such-bucket.*Create the bucket/m)
    expect(stateOf(stdout, 'container')).toBe('created')
  })
})
