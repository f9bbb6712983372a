import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { apiPage } from '../../docs/generate/api.ts'
import { cliPage } from '../../docs/generate/cli.ts'
import { optionsPage } from '../../docs/generate/options.ts'
import { OPTIONS } from '../../src/lib/config/options.ts'
import { projectRoot } from '../support/processes.ts'

const committed = (name: string) => readFileSync(`${projectRoot}docs/${name}`, 'utf8')

test('docs/options.md is what `npm run docs` generates, and has a row for every option', () => {
  const page = optionsPage()
  expect(committed('options.md')).toBe(page)
  for (const { flag, env } of Object.values(OPTIONS)) {
    expect(
      page.split('\n').filter((line) => line.startsWith(`| \`--${flag}`) && line.includes(` \`${env}\` `)),
    ).toHaveLength(1)
  }
})

test('docs/cli.md is what `npm run docs` generates', async () => {
  expect(committed('cli.md')).toBe(await cliPage())
})

test('docs/api.md lists the routes that the server has; `npm run docs` adds them', async () => {
  expect(committed('api.md')).toBe(await apiPage(committed('api.md')))
})
