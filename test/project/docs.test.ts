import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'
import Bootstrap from '../../src/commands/bootstrap.ts'
import Build from '../../src/commands/build.ts'
import Doctor from '../../src/commands/doctor.ts'
import Server from '../../src/commands/server.ts'
import Worker from '../../src/commands/worker.ts'
import { OPTIONS } from '../../src/lib/config/options.ts'
import { projectRoot } from '../support/processes.ts'

const COMMANDS = { bootstrap: Bootstrap, build: Build, doctor: Doctor, server: Server, worker: Worker }
const pages = readdirSync(`${projectRoot}docs`)
  .filter((name) => name.endsWith('.md'))
  .map((name) => `docs/${name}`)
const documents = ['README.md', ...pages]
const deployments = pages.filter((name) => name.startsWith('docs/deploy'))
const textOf = (name: string) => readFileSync(join(projectRoot, name), 'utf8')

/** Calls of our commands, one per line, with continuation lines joined. */
function calls(text: string): { command: keyof typeof COMMANDS; rest: string }[] {
  const joined = text.replace(/\\\n\s*/g, ' ').replace(/make bootstrap ARGS="?/g, 'conveyor bootstrap ')
  return [...joined.matchAll(/conveyor (bootstrap|build|doctor|server|worker)\b([^`\n]*)/g)].map(
    ([, command, rest = '']) => ({ command: command as keyof typeof COMMANDS, rest }),
  )
}

/** The link targets in a page, without links to other sites. */
function linksOf(name: string): { file: string; anchor: string | undefined }[] {
  const links = textOf(name).matchAll(/\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)/g)
  return [...links].map(([, path = '', anchor]) => ({
    file: path === '' ? name : join(dirname(name), path),
    anchor,
  }))
}

/** The anchors that GitHub gives the headings of a page. */
function anchorsOf(name: string): string[] {
  return [...textOf(name).matchAll(/^#+ (.+)$/gm)].map(([, title = '']) =>
    title
      .toLowerCase()
      .replace(/[^\w\- ]/g, '')
      .replaceAll(' ', '-'),
  )
}

test.each(documents)('%s uses only flags that our commands have', (name) => {
  const wrong = calls(textOf(name)).flatMap(({ command, rest }) => {
    const flags = Object.keys(COMMANDS[command].flags)
    const known = ['--help', ...flags.flatMap((flag) => [`--${flag}`, `--no-${flag}`])]
    const given = rest.match(/(?<=\s)--[a-z][a-z.-]*/g) ?? []
    return given.filter((flag) => !known.includes(flag)).map((flag) => `${command} ${flag}`)
  })
  expect(wrong).toEqual([])
})

test('deploy.md shows only settings that exist, and links to every other deployment page', () => {
  const text = textOf('docs/deploy.md')
  const set = [...text.matchAll(/^([A-Z_]+)=/gm)].map(([, name]) => name)
  const known: string[] = Object.values(OPTIONS).map(({ env }) => env)
  expect(set.length).toBeGreaterThan(5)
  expect(set.filter((name) => !known.includes(name ?? ''))).toEqual([])
  const linked = linksOf('docs/deploy.md').map(({ file }) => file)
  expect(linked).toEqual(expect.arrayContaining(deployments.filter((name) => name !== 'docs/deploy.md')))
})

test.each(documents)('the links in %s work', (name) => {
  for (const { file, anchor } of linksOf(name)) {
    expect(existsSync(join(projectRoot, file)), `${name} links to ${file}`).toBe(true)
    if (anchor !== undefined && file.endsWith('.md'))
      expect(anchorsOf(file), `${name}: ${file}`).toContain(anchor)
  }
})

test('the README is short, and links to every page', () => {
  expect(textOf('README.md').split('\n').length).toBeLessThanOrEqual(200)
  expect(linksOf('README.md').map(({ file }) => file)).toEqual(expect.arrayContaining(pages))
})

test("the README's chart has the figures of the benchmarks", () => {
  const valuesOf = (file: string) => [...textOf(file).matchAll(/class="value">([^<]+)</g)].map(([, it]) => it)
  const bars = valuesOf('docs/speed.svg')
  expect(bars.length).toBeGreaterThan(10)
  expect(valuesOf('docs/benchmarks.svg')).toEqual(expect.arrayContaining(bars))
})

test('SECURITY.md names tests that exist, and how many packages are needed', () => {
  const text = textOf('docs/SECURITY.md')
  const guarantees = text.slice(text.indexOf('## Guarantees'), text.indexOf('## Not guaranteed'))
  const named = [...guarantees.matchAll(/`([a-z]+(?:[-/][a-z]+)*\/[a-z-]+)`/g)].map(([, name]) => name)
  expect(named.length).toBeGreaterThan(10)
  for (const name of named) {
    expect(existsSync(join(projectRoot, `test/${name}.test.ts`)), `test/${name}.test.ts`).toBe(true)
  }
  const { dependencies } = JSON.parse(textOf('package.json')) as { dependencies: Record<string, string> }
  expect(text).toContain(`\n${Object.keys(dependencies).length} packages at run time`)
})
