import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import { tempDir } from '../support/temp.ts'
import { cycles, forbiddenImports, forbiddenProcessUses, graphOf, importsBetween } from './check.ts'
import { listFolders } from './folders.ts'
import { reduced, withPicture } from './picture.ts'
import { readTree, type SourceFile } from './source-tree.ts'

/** Rules of a small tree: `top` is above `low`, and knows only the interface of `adapter`. */
const RULES = {
  'src/top': ['src/adapter/interface.ts', 'src/low'],
  'src/top/setup.ts': ['src/adapter', 'src/low'],
  'src/adapter': ['src/low'],
  'src/low': [],
}

/** The files with these texts, written to a temporary folder and read from there. */
async function read(texts: Record<string, string>): Promise<SourceFile[]> {
  await using folder = await tempDir()
  for (const [path, text] of Object.entries(texts)) {
    await mkdir(join(folder.path, dirname(path)), { recursive: true })
    await writeFile(join(folder.path, path), text)
  }
  return readTree(folder.path, ['src'])
}

/** Every form in which one file can import a type or value `T` from another. */
const FORMS = {
  'a value': (from: string) => `import { T } from '${from}'\nexport const t = T`,
  'a default': (from: string) => `import T from '${from}'\nexport const t = T`,
  'a namespace': (from: string) => `import * as all from '${from}'\nexport const t = all.T`,
  'its effects': (from: string) => `import '${from}'`,
  'a type': (from: string) => `import type { T } from '${from}'\nexport type U = T`,
  'a type among values': (from: string) => `import { type T } from '${from}'\nexport type U = T`,
  'a type over several lines': (from: string) =>
    `import type {\n  T,\n} from\n  "${from}"\nexport type U = T`,
  'a re-export': (from: string) => `export { T } from '${from}'`,
  'a re-exported type': (from: string) => `export type { T } from '${from}'`,
  'a re-export of everything': (from: string) => `export * from '${from}'`,
  'a re-export under a name': (from: string) => `export * as all from '${from}'`,
  'a dynamic import': (from: string) => `export const t = async () => (await import('${from}')).T`,
  'a dynamic import of a template': (from: string) => `export const t = () => import(\`${from}\`)`,
  'an import type': (from: string) => `export type U = import('${from}').T`,
  'the type of a module': (from: string) => `export type U = typeof import('${from}')`,
  'after a using declaration': (from: string) =>
    `export async function f() {\n  await using a = g()\n  return await import('${from}')\n}\ndeclare function g(): AsyncDisposable`,
}

test.each(Object.entries(FORMS))('an upward import is found: %s', async (_, imports) => {
  const files = await read({ 'src/top/a.ts': 'export class T {}', 'src/low/b.ts': imports('../top/a.ts') })
  expect(forbiddenImports(files, RULES)).toEqual(['src/low/b.ts imports src/top/a.ts'])
})

test.each(Object.entries(FORMS))('a cycle is found: %s', async (_, imports) => {
  const files = await read({ 'src/a.ts': imports('./b.ts'), 'src/b.ts': imports('./a.ts') })
  expect(cycles(graphOf(files))).toEqual(['src/a.ts -> src/b.ts -> src/a.ts'])
})

test('a cycle of type imports across folders is found', async () => {
  const files = await read({
    'src/top/a.ts': `import type { C } from '../low/c.ts'\nexport interface A { c: C }`,
    'src/low/b.ts': `export type { A as B } from '../top/a.ts'`,
    'src/low/c.ts': `export interface C { b: import('./b.ts').B }`,
  })
  expect(cycles(graphOf(files))).toEqual(['src/low/b.ts -> src/top/a.ts -> src/low/c.ts -> src/low/b.ts'])
})

test('every group of connected cycles is reported once, by its shortest cycle', () => {
  const graph = new Map([
    ['a', ['b']],
    ['b', ['c', 'a']],
    ['c', ['a', 'd']],
    ['d', ['e']],
    ['e', []],
    ['f', ['f']],
  ])
  expect(cycles(graph)).toEqual(['f -> f', 'a -> b -> a'])
})

test('shared targets are not a cycle', () => {
  const graph = new Map([
    ['a', ['b', 'c']],
    ['b', ['d']],
    ['c', ['d', 'b']],
    ['d', []],
  ])
  expect(cycles(graph)).toEqual([])
})

test('text that only looks like an import is ignored', async () => {
  const files = await read({
    'src/a.ts': `// import { T } from './b.ts'\nexport const text = "import('./b.ts')"\nimport 'node:fs'`,
    'src/b.ts': 'export const T = 1',
  })
  expect(files.flatMap(({ imports }) => imports)).toEqual([])
})

test('computed module names and syntax errors are rejected', async () => {
  await expect(read({ 'src/a.ts': 'export const load = (name: string) => import(name)' })).rejects.toThrow(
    'src/a.ts: imports a module whose name is computed',
  )
  await expect(read({ 'src/a.ts': 'export const = 1' })).rejects.toThrow(/^src\/a\.ts: /)
})

test('only imports listed by the longest matching entry are allowed', async () => {
  const files = await read({
    'src/top/a.ts': `import '../adapter/interface.ts'\nimport '../low/c.ts'\nimport './setup.ts'`,
    'src/top/b.ts': `import '../adapter/sqlite.ts'`,
    'src/top/setup.ts': `import '../adapter/sqlite.ts'`,
    'src/adapter/interface.ts': '',
    'src/adapter/sqlite.ts': `import './interface.ts'`,
    'src/low/c.ts': '',
    'src/lower/d.ts': `import '../low/c.ts'`,
  })
  expect(forbiddenImports(files, RULES)).toEqual([
    'src/lower/d.ts imports src/low/c.ts',
    'src/top/b.ts imports src/adapter/sqlite.ts',
  ])
})

test('implementations that import each other are found', async () => {
  const files = await read({
    'src/memory.ts': `import type { Sql } from './postgres/sql.ts'\nexport type M = Sql`,
    'src/postgres/queue.ts': `import './sql.ts'\nimport '../queue.ts'`,
    'src/postgres/sql.ts': 'export interface Sql {}',
    'src/queue.ts': '',
  })
  expect(importsBetween(files, [['src/memory.ts', 'src/postgres']])).toEqual([
    'src/memory.ts imports src/postgres/sql.ts',
  ])
})

test.each([
  ['a member', 'export const home = process.env.HOME', 'env'],
  ['a member in brackets', `export const home = process['env'].HOME`, 'env'],
  ['a destructured member', 'export const { env: environment } = process', 'env'],
  ['the rest', 'export const { argv, ...rest } = process', '*'],
  ['another name', 'export const self = process', '*'],
  ['an import', `import { env as e } from 'node:process'\nexport const home = e.HOME`, 'env'],
  ['the module', `import self from 'node:process'\nexport const home = self.env.HOME`, '*'],
])('a use of the environment is found: %s', async (_, text, member) => {
  const files = await read({ 'src/low/a.ts': text, 'src/config/b.ts': text })
  expect(forbiddenProcessUses(files, { env: ['src/config'] })).toEqual([
    `src/low/a.ts uses process.${member}`,
  ])
})

test('excluded folders are not counted', async () => {
  await using folder = await tempDir()
  for (const path of ['src/a.ts', 'src/lib/b.ts', 'src/lib/c.txt', 'src/lib/gen/d.ts']) {
    await mkdir(join(folder.path, dirname(path)), { recursive: true })
    await writeFile(join(folder.path, path), '')
  }
  expect(listFolders(folder.path, ['src'], ['src/lib/gen'])).toEqual([
    { path: 'src', files: 1 },
    { path: 'src/lib', files: 2 },
  ])
})

test('the diagram omits edges that a longer path implies', async () => {
  const graph = new Map([
    ['a', ['b', 'c', 'd']],
    ['b', ['c']],
    ['c', ['d']],
    ['d', []],
  ])
  expect([...reduced(graph)]).toEqual([
    ['a', ['b']],
    ['b', ['c']],
    ['c', ['d']],
    ['d', []],
  ])
  const files = await read({ 'src/lib/app/a.ts': `import '../core/b.ts'`, 'src/lib/core/b.ts': '' })
  const page = withPicture('# Title\n\n<!-- picture: -->\nold\n<!-- end -->\n', files)
  expect(page).toContain('  app --> core\n```\n\n<!-- end -->\n')
  expect(page).not.toContain('old')
  expect(() => withPicture('# Title\n', files)).toThrow('the page has no marks for the picture')
})
