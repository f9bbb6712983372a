import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { projectRoot } from '../support/processes.ts'
import { cycles, forbiddenImports, forbiddenProcessUses, graphOf, importsBetween, isIn } from './check.ts'
import { listFolders } from './folders.ts'
import { folderGraph, LAYERS, withPicture } from './picture.ts'
import { ALLOWED, APART, GENERATED, MAX_FILES, MAX_LINES, PROCESS_MEMBERS } from './rules.ts'
import { readTree, type SourceFile } from './source-tree.ts'

const files = readTree(projectRoot, ['src', 'test', 'bench', 'docs'])
const folders = listFolders(projectRoot, ['src', 'test', 'bench'], [GENERATED])

describe('imports, types included', () => {
  test('form no cycles', () => {
    expect(cycles(graphOf(files))).toEqual([])
  })

  test('go only where the layers allow', () => {
    expect(forbiddenImports(files, ALLOWED)).toEqual([])
  })

  test('keep the implementations of one noun apart', () => {
    expect(importsBetween(files, APART)).toEqual([])
  })
})

describe('the rules', () => {
  test('allow no cycles of folders', () => {
    const graph = new Map<string, string[]>()
    for (const [entry, targets] of Object.entries(ALLOWED)) {
      const from = topFolder(entry)
      graph.set(from, [...(graph.get(from) ?? []), ...targets.map(topFolder).filter((to) => to !== from)])
    }
    expect(cycles(graph)).toEqual([])
  })

  test('name only what exists', () => {
    const named = [
      ...Object.entries(ALLOWED).flat(2),
      ...APART.flat(),
      ...Object.values(PROCESS_MEMBERS).flat(),
    ]
    const missing = named.filter((entry) => !existsSync(join(projectRoot, entry)))
    expect([...new Set(missing)]).toEqual([])
  })

  test('cover every folder of src/lib', () => {
    const entries = Object.keys(ALLOWED)
    const uncovered = inSource(files).filter(({ path }) => !entries.some((entry) => isIn(path, entry)))
    expect(uncovered.map(({ path }) => path)).toEqual([])
  })
})

describe('the process', () => {
  test('accesses its environment and its signals in one place each', () => {
    expect(forbiddenProcessUses(inSource(files), PROCESS_MEMBERS)).toEqual([])
  })
})

test('no two exported types of src/lib share a name', () => {
  const written = inSource(files).filter(({ path }) => !isIn(path, GENERATED))
  const all = written.flatMap(({ path, types }) => types.map((name) => ({ name, path })))
  expect(all.length).toBeGreaterThan(200)
  const twice = all.filter(({ name, path }) =>
    all.some((other) => other.name === name && other.path !== path),
  )
  expect(twice).toEqual([])
})

describe('sizes', () => {
  test(`no folder has more than ${MAX_FILES} files`, () => {
    expect(folders.filter((folder) => folder.files > MAX_FILES)).toEqual([])
  })

  // A test file is a list: its length does not make it hard to read.
  const isTest = (path: string) => /\.(test|contract)\.ts$/.test(path)

  test(`no file but those of tests has more than ${MAX_LINES} lines`, () => {
    const written = files.filter(({ path }) => !isIn(path, GENERATED))
    expect(
      written
        .filter(({ path, lines }) => lines > MAX_LINES && !isTest(path))
        .map(({ path, lines }) => [path, lines]),
    ).toEqual([])
  })

  test('no files directly in src/lib', () => {
    expect(folders.find(({ path }) => path === 'src/lib')).toEqual({ path: 'src/lib', files: 0 })
  })
})

describe('docs/structure.md', async () => {
  const page = await readFile(join(projectRoot, 'docs/structure.md'), 'utf8')
  const inCode = [...folderGraph(files).keys()]

  test('shows the current imports; `npm run structure` regenerates it', () => {
    expect(withPicture(page, files)).toBe(page)
  })

  test('has a layer and a line for every folder', () => {
    const described = [...page.matchAll(/^\| `([a-z]+)\/` \| /gm)].map(([, folder]) => folder)
    expect(described.toSorted()).toEqual(inCode)
    expect(Object.values(LAYERS).flat().sort()).toEqual(inCode)
  })
})

function inSource(all: SourceFile[]): SourceFile[] {
  return all.filter(({ path }) => isIn(path, 'src'))
}

/** `src/lib/core` for everything in it. */
function topFolder(entry: string): string {
  const [, top = entry] = /^(src\/lib\/[^/]+|[^/]+\/[^/]+)/.exec(entry) ?? []
  return top
}
