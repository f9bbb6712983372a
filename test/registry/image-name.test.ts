import { describe, expect, test } from 'vitest'
import { ConveyorError } from '../../src/lib/core/errors.ts'
import {
  ImageReference,
  isImageReference,
  parseReference,
  splitReference,
} from '../../src/lib/registry/image-name.ts'

const DIGEST = `sha256:${'ab'.repeat(32)}`

describe('parseReference', () => {
  const hub = { host: 'docker.io', apiHost: 'registry-1.docker.io' }
  test.each([
    ['alpine', { ...hub, path: 'library/alpine', tag: null, digest: null }],
    ['docker.io/alpine:3', { ...hub, path: 'library/alpine', tag: '3', digest: null }],
    ['index.docker.io/acme/app', { ...hub, path: 'acme/app', tag: null, digest: null }],
    ['acme/app:main', { ...hub, path: 'acme/app', tag: 'main', digest: null }],
    [
      `127.0.0.1:5000/a/b:t@${DIGEST}`,
      { host: '127.0.0.1:5000', apiHost: '127.0.0.1:5000', path: 'a/b', tag: 't', digest: DIGEST },
    ],
    [
      `localhost/a@${DIGEST}`,
      { host: 'localhost', apiHost: 'localhost', path: 'a', tag: null, digest: DIGEST },
    ],
    ['[::1]:5000/a', { host: '[::1]:5000', apiHost: '[::1]:5000', path: 'a', tag: null, digest: null }],
    ['GHCR.io/a/b', { host: 'ghcr.io', apiHost: 'ghcr.io', path: 'a/b', tag: null, digest: null }],
  ])('%s', (text, parts) => {
    const reference = parseReference(text)
    expect(reference).toMatchObject(parts)
    expect(`${reference}`).toBe(text)
  })

  test.each([
    '',
    ':x',
    'Acme',
    'acme/App',
    'a//b',
    '../x',
    'a/b:',
    'a/b:-x',
    'a/b@sha256:12',
    'a b',
    'ho_st.x/a',
    'x/\n',
  ])('%j is refused', (text) => expect(() => parseReference(text)).toThrow(ConveyorError))
})

describe('ImageReference', () => {
  test.each([
    ['alpine', 'docker.io/library/alpine:latest', 'alpine'],
    ['docker.io/alpine', 'docker.io/library/alpine:latest', 'alpine'],
    ['index.docker.io/a/b:1', 'docker.io/a/b:1', 'a/b:1'],
    ['docker.io/acme/web:latest', 'docker.io/acme/web:latest', 'acme/web'],
    ['localhost/a', 'localhost/a:latest', 'localhost/a'],
    ['a.lan:5000/b/c', 'a.lan:5000/b/c:latest', 'a.lan:5000/b/c'],
    // Docker keeps the case of a host, and knows one alias of Docker Hub.
    ['GHCR.io/a', 'GHCR.io/a:latest', 'GHCR.io/a'],
    ['registry-1.docker.io/a', 'registry-1.docker.io/a:latest', 'registry-1.docker.io/a'],
    [`a@${DIGEST}`, `docker.io/library/a@${DIGEST}`, `a@${DIGEST}`],
    [`a:1@${DIGEST}`, `docker.io/library/a:1@${DIGEST}`, `a:1@${DIGEST}`],
  ])('%s is %s, or %s for short', (text, canonical, familiar) => {
    const reference = splitReference(text)
    expect([reference.canonical, reference.familiar]).toEqual([canonical, familiar])
  })

  test('a pinned image without its digest has a tag', () => {
    const reference = splitReference(`a@${DIGEST}`)
    expect(reference.withoutDigest().canonical).toBe('docker.io/library/a:latest')
    expect(reference.digest).toBe(DIGEST)
  })

  test('other tags and digests of the same repository', () => {
    const reference = splitReference(`127.0.0.1:5000/acme/app:main@${DIGEST}`)
    expect(reference.name).toBe('127.0.0.1:5000/acme/app')
    expect(`${reference.withTag('v1')}`).toBe('127.0.0.1:5000/acme/app:v1')
    expect(`${reference.withDigest(DIGEST)}`).toBe(`127.0.0.1:5000/acme/app@${DIGEST}`)
    expect(`${reference.withIdentifier('v2')}`).toBe('127.0.0.1:5000/acme/app:v2')
    expect(`${reference.withIdentifier(DIGEST)}`).toBe(`127.0.0.1:5000/acme/app@${DIGEST}`)
    expect(`${reference.withoutDigest()}`).toBe('127.0.0.1:5000/acme/app:main')
  })

  test('the identifier is the digest, else the tag, else latest', () => {
    const image = new ImageReference('acme/app')
    expect(image.identifier).toBe('latest')
    expect(image.withTag('v1').identifier).toBe('v1')
    expect(splitReference(`acme/app:v1@${DIGEST}`).identifier).toBe(DIGEST)
  })

  test.each(['a:b:c', 'a@b@c', ':x', '@', '', '/', 'a b', '<none>:<none>'])(
    '%j is parsed and reassembled',
    (text) => expect(`${splitReference(text)}`).toBe(text),
  )
})

test.each(['a', 'a/b:1', `a:1@${DIGEST}`, `a@sha512:${'ab'.repeat(64)}`, '[::1]:5000/a', 'A.lan/b'])(
  '%s is an image reference',
  (text) => expect(isImageReference(text)).toBe(true),
)

test.each(['', 'a:', 'a@b', 'A', 'a/B', 'a//b', 'a b', '-a', 'a:1:2', `a:${'1'.repeat(129)}`])(
  '%j is no image reference',
  (text) => expect(isImageReference(text)).toBe(false),
)
