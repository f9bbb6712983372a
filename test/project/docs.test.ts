import { readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import Bootstrap from '../../src/commands/bootstrap.ts'
import Build from '../../src/commands/build.ts'
import Server from '../../src/commands/server.ts'
import Worker from '../../src/commands/worker.ts'
import { OPTIONS } from '../../src/lib/config/options.ts'
import { projectRoot } from '../support/processes.ts'

const COMMANDS = { bootstrap: Bootstrap, build: Build, server: Server, worker: Worker }
const all = readdirSync(`${projectRoot}docs`).filter((name) => name.endsWith('.md'))
const documents = all.filter((name) => name.startsWith('deploy'))
const textOf = (name: string) => readFileSync(`${projectRoot}docs/${name}`, 'utf8')

/** Calls of our commands, a line each, with what was continued on the next ones. */
function calls(text: string): { command: keyof typeof COMMANDS; rest: string }[] {
  const joined = text.replace(/\\\n\s*/g, ' ').replace(/make bootstrap ARGS="?/g, 'conveyor bootstrap ')
  return [...joined.matchAll(/conveyor (bootstrap|build|server|worker)\b([^`\n]*)/g)].map(
    ([, command, rest = '']) => ({ command: command as keyof typeof COMMANDS, rest }),
  )
}

test.each(documents)('%s gives our commands only flags that they have', (name) => {
  const wrong = calls(textOf(name)).flatMap(({ command, rest }) => {
    const known = Object.keys(COMMANDS[command].flags).flatMap((flag) => [`--${flag}`, `--no-${flag}`])
    const given = rest.match(/(?<=\s)--[a-z][a-z.-]*/g) ?? []
    return given.filter((flag) => !known.includes(flag)).map((flag) => `${command} ${flag}`)
  })
  expect(wrong).toEqual([])
})

test('deploy.md shows only settings that there are, and leads to every other document', () => {
  const text = textOf('deploy.md')
  const set = [...text.matchAll(/^([A-Z_]+)=/gm)].map(([, name]) => name)
  const known: string[] = Object.values(OPTIONS).map(({ env }) => env)
  expect(set.length).toBeGreaterThan(5)
  expect(set.filter((name) => !known.includes(name ?? ''))).toEqual([])
  for (const other of documents.filter((name) => name !== 'deploy.md')) expect(text).toContain(`](${other})`)
})

test('links between the documents lead somewhere', () => {
  const anchors = (text: string) =>
    [...text.matchAll(/^#+ (.+)$/gm)].map(([, title = '']) =>
      title
        .toLowerCase()
        .replace(/[^\w\- ]/g, '')
        .replaceAll(' ', '-'),
    )
  for (const name of all) {
    for (const [, file, anchor] of textOf(name).matchAll(/\]\(([\w-]+\.md)?(?:#([^)]+))?\)/g)) {
      if (file !== undefined) expect(all, `${name} leads to ${file}`).toContain(file)
      if (anchor !== undefined) expect(anchors(textOf(file ?? name)), name).toContain(anchor)
    }
  }
})

test('SECURITY.md names tests that there are, and how many packages are needed', () => {
  const text = textOf('SECURITY.md')
  const promises = text.slice(text.indexOf('## What is promised'), text.indexOf('## What is not'))
  const tests = readdirSync(`${projectRoot}test`)
  const named = [...promises.matchAll(/`([a-z]+(?:-[a-z]+)*)`/g)].map(([, name]) => `${name}.test.ts`)
  expect(named.length).toBeGreaterThan(10)
  for (const name of named) expect(tests).toContain(name)
  const { dependencies } = JSON.parse(readFileSync(`${projectRoot}package.json`, 'utf8')) as {
    dependencies: Record<string, string>
  }
  expect(text).toContain(`\n${Object.keys(dependencies).length} packages at run time`)
})
