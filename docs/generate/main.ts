import { readFileSync, writeFileSync } from 'node:fs'
import { apiPage } from './api.ts'
import { cliPage } from './cli.ts'
import { optionsPage } from './options.ts'

/** Writes the pages that are generated: `npm run docs`. */
const write = (file: string, text: string) => writeFileSync(new URL(`../${file}`, import.meta.url), text)

write('options.md', optionsPage())
write('cli.md', await cliPage())
write('api.md', await apiPage(readFileSync(new URL('../api.md', import.meta.url), 'utf8')))
