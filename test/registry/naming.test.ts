import { describe, expect, test } from 'vitest'
import type { ConveyorError } from '../../src/lib/core/errors.ts'
import { isTagOrDigest } from '../../src/lib/registry/image-name.ts'
import { imageName, parseRegistryFlag, tagForRef } from '../../src/lib/registry/naming.ts'

const branch = (name: string) => tagForRef({ kind: 'branch', name })

function thrown(run: () => unknown): ConveyorError {
  try {
    run()
  } catch (error) {
    return error as ConveyorError
  }
  throw new Error('nothing was thrown')
}

describe('parseRegistryFlag', () => {
  test.each([
    ['', 'docker.io', '', false],
    ['docker.io', 'docker.io', '', false],
    ['https://index.docker.io/', 'docker.io', '', false],
    ['ghcr.io/Acme', 'ghcr.io', 'acme', false],
    ['https://registry.lan/team/apps/', 'registry.lan', 'team/apps', false],
    ['http://registry.lan:5000', 'registry.lan:5000', '', true],
    ['HTTP://Registry.LAN', 'registry.lan', '', true],
    ['localhost', 'localhost', '', false],
    ['127.0.0.1:5000/x', '127.0.0.1:5000', 'x', false],
    ['[::1]:5000', '[::1]:5000', '', false],
  ])('%j', (value, host, prefix, insecure) => {
    expect(parseRegistryFlag(value)).toEqual({ host, prefix, insecure })
  })

  test.each([
    ['ftp://x.example', /not of the form/],
    ['http://', /not of the form/],
    ['registry', /does not begin with a host.*registry:443/],
    ['http://registry/acme', /registry:80/],
    ['host.example:99999', /not of the form/],
    ['host.example:5000:1', /not of the form/],
    ['host.example//x', /prefix part ""/],
    ['host.example/-x', /prefix part "-x"/],
    ['host.example/x?y', /prefix part/],
    ['docker.io/acme', /no prefix/],
    ['http://docker.io', /HTTPS only/],
    ['host.example\n/x', /not of the form/],
  ])('%j is refused', (value, text) => {
    const error = thrown(() => parseRegistryFlag(value))
    expect(error.kind).toBe('invalid')
    expect(error.advice).toMatch(text)
  })

  test('a password in the value is not repeated', () => {
    const error = thrown(() => parseRegistryFlag('https://me:hunter22@registry.lan'))
    expect(error.kind).toBe('invalid')
    expect(error.advice).not.toContain('hunter22')
  })
})

describe('imageName', () => {
  test.each([
    ['', 'Acme/App', 'acme/app'],
    ['docker.io', 'acme/my__app.x--y', 'acme/my__app.x--y'],
    ['http://127.0.0.1:5000', 'acme/app', '127.0.0.1:5000/acme/app'],
    ['ghcr.io/team', 'acme/app', 'ghcr.io/team/acme/app'],
    ['', 'localhost/app', 'docker.io/localhost/app'],
  ])('registry %j, repository %s: %s', (registry, repository, name) => {
    expect(imageName(registry, repository)).toBe(name)
  })

  test.each([
    'acme/.github',
    'acme/app.',
    'acme/-app',
    'Foo/-bar-',
    'acme/a..b',
    'acme/a._b',
    'acme/a___b',
    'acme_/x',
  ])('%s is not a valid image name', (repository) => {
    const error = thrown(() => imageName('', repository))
    expect(error.kind).toBe('invalid')
    expect(error.message).toContain(repository)
    expect(error.hint).toMatch(/Rename the repository/)
  })

  test('a name longer than docker allows is refused', () => {
    const error = thrown(() => imageName(`registry.lan/${'a/'.repeat(120)}b`, 'acme/app'))
    expect(error.advice).toMatch(/longer than 255 characters.*shorter prefix/)
  })
})

describe('tagForRef', () => {
  test.each([
    ['main', 'main'],
    ['v1.2.3', 'v1.2.3'],
    ['fix-login', 'fix-login'],
    ['release-20240101', 'release-20240101'],
    ['_x', '_x'],
    ['feature/x', 'feature-x'],
    ['feature/fix-the-login', 'feature-fix-the-login'],
    ['x'.repeat(128), 'x'.repeat(128)],
  ])('%s -> %s', (name, tag) => expect(branch(name)).toBe(tag))

  test.each([
    ['a/b/c', /^a-b-c--[0-9a-f]{8}$/],
    ['my-team/x', /^my-team-x--[0-9a-f]{8}$/],
    ['latest', /^latest--[0-9a-f]{8}$/],
    ['ab'.repeat(20), /^(ab){20}--[0-9a-f]{8}$/],
    ['ab'.repeat(32), /^(ab){32}--[0-9a-f]{8}$/],
    ['fix#1', /^fix-1--[0-9a-f]{8}$/],
    ['über', /^_ber--[0-9a-f]{8}$/],
    ['🚀/🚀', /^_----[0-9a-f]{8}$/],
    ['x'.repeat(129), /^x{118}--[0-9a-f]{8}$/],
    [`main--${'0'.repeat(8)}`, /^main--00000000--[0-9a-f]{8}$/],
    [`a/-${'0'.repeat(8)}`, /^a--00000000--[0-9a-f]{8}$/],
  ])('%s gets a hash', (name, tag) => expect(branch(name)).toMatch(tag))

  test('a branch and a git tag of the same name have the same docker tag', () => {
    expect(tagForRef({ kind: 'tag', name: 'a/b/c' })).toBe(branch('a/b/c'))
  })

  test('a tag of another ref gets a hash: of the name, or of the whole ref', () => {
    expect(tagForRef({ kind: 'tag', name: 'main' }, 1)).toBe(tagForRef({ kind: 'branch', name: 'main' }, 1))
    expect(tagForRef({ kind: 'tag', name: 'main' }, 1)).toMatch(/^main--[0-9a-f]{8}$/)
    // The plain tag of such a name is already taken by a branch.
    expect(tagForRef({ kind: 'tag', name: 'a/b/c' }, 1)).toBe(branch('a/b/c'))
    const whole = (['branch', 'tag'] as const).map((kind) => tagForRef({ kind, name: 'a/b/c' }, 2))
    expect(new Set([...whole, branch('a/b/c')]).size).toBe(3)
    for (const tag of whole) expect(tag).toMatch(/^a-b-c--[0-9a-f]{8}$/)
  })

  test('every short name of interesting characters: valid, and shared only by the documented pair', () => {
    const alphabet = ['a', '-', '/', '.', '#', '_']
    let names = ['a']
    const all: string[] = []
    for (let length = 1; length <= 6; length++) {
      all.push(...names)
      names = names.flatMap((name) => alphabet.map((next) => name + next))
    }
    const byTag = new Map<string, string[]>()
    for (const name of all) {
      const tag = branch(name)
      expect(isTagOrDigest(tag), `${name} -> ${tag}`).toBe(true)
      byTag.set(tag, [...(byTag.get(tag) ?? []), name])
    }
    for (const [tag, sharers] of byTag) {
      // The plain name, and the one in which the only slash became the first dash.
      const allowed = [tag, tag.replace('-', '/')]
      if (sharers.length > 1) expect(sharers.toSorted()).toEqual(allowed.toSorted())
    }
    expect(byTag.size).toBeGreaterThan(5_000)
  })

  test('a branch named like the hashed tag of another does not get it', () => {
    const taken = branch('a/b/c')
    expect(branch(taken)).not.toBe(taken)
    expect(branch(branch(taken))).not.toBe(branch(taken))
  })
})
