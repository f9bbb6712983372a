import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'

const LIB = fileURLToPath(new URL('../src/lib/', import.meta.url))
const ADAPTERS = ['store', 'queue', 'logs', 'forge', 'source', 'builder', 'registry', 'buildkit']

interface Import {
  file: string
  /** Folder of the importing file in src/lib; empty for a file right in it. */
  from: string
  target: string
  to: string
  typeOnly: boolean
}

/** Every import between files of src/lib, as paths from there. */
function imports(): Import[] {
  const files = readdirSync(LIB, { recursive: true, encoding: 'utf8' }).filter(
    (file) => file.endsWith('.ts') && !file.startsWith(join('buildkit', 'gen')),
  )
  return files.flatMap((file) => {
    const text = readFileSync(join(LIB, file), 'utf8')
    const found = text.matchAll(/^(?:import|export) (type )?[^'"]*?from '(\.[^']+)'|import\('(\.[^']+)'\)/gms)
    return [...found].map(([, type, named, dynamic]) => {
      const target = relative(LIB, join(LIB, dirname(file), named ?? dynamic ?? ''))
      return { file, from: folder(file), target, to: folder(target), typeOnly: type !== undefined }
    })
  })
}

function folder(file: string): string {
  const dir = dirname(file).split('/')[0] ?? ''
  return dir === '.' ? '' : dir
}

describe('imports go one way: commands, setup, server and adapters, build, errors', () => {
  const all = imports()
  const offenders = (bad: (i: Import) => boolean) =>
    all.filter(bad).map((i) => `${i.file} imports ${i.target}`)

  test('the check sees imports at all', () => {
    expect(all.length).toBeGreaterThan(100)
    expect(all.some((i) => i.typeOnly && i.from === 'build')).toBe(true)
  })

  test('build/ knows the other folders as types only, but for the reader of Dockerfiles', () => {
    const allowed = ['build', 'dockerfile', '']
    expect(offenders((i) => i.from === 'build' && !allowed.includes(i.to) && !i.typeOnly)).toEqual([])
  })

  test('the reader of Dockerfiles imports nothing of ours', () => {
    expect(offenders((i) => i.from === 'dockerfile' && i.to !== 'dockerfile')).toEqual([])
  })

  test('an adapter never imports another, but for types and the builders, which use buildkit and registry', () => {
    const allowed = (i: Import) =>
      i.typeOnly || i.from === i.to || (i.from === 'builder' && ['buildkit', 'registry'].includes(i.to))
    expect(offenders((i) => ADAPTERS.includes(i.from) && ADAPTERS.includes(i.to) && !allowed(i))).toEqual([])
  })

  test('only setup.ts and setup-builder.ts make adapters; the server is handed them', () => {
    const makers =
      /(store\/sqlite|store\/postgres|[a-z]+-queue|[a-z0-9]+-log-store|github|git-mirrors|[a-z]+-builder|registry-client|credentials)\.ts$/
    expect(
      offenders(
        (i) =>
          makers.test(i.target) && !i.typeOnly && i.to !== i.from && !/^setup(-builder)?\.ts$/.test(i.file),
      ),
    ).toEqual([])
  })

  test('nothing below imports setup, the commands, or the server', () => {
    const top = ['setup.ts', 'serve.ts', 'build-local.ts', 'build-command.ts']
    expect(offenders((i) => i.from !== '' && top.includes(i.target))).toEqual([])
    expect(offenders((i) => [...ADAPTERS, 'build'].includes(i.from) && i.to === 'server')).toEqual([])
  })
})

describe('the process is touched in one place', () => {
  const users = (pattern: RegExp) =>
    readdirSync(LIB, { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.ts') && pattern.test(readFileSync(join(LIB, file), 'utf8')))
      .sort()

  test('process.env only in config.ts (and for children, in what starts git)', () => {
    expect(users(/process\.env/)).toEqual(['config.ts'])
  })

  test('process.on only in lifecycle.ts', () => {
    expect(users(/process\.(on|once)\(/)).toEqual(['lifecycle.ts'])
  })
})
