import { readFileSync } from 'node:fs'

/** Conveyor's own version, from package.json (three folders up, from src/lib/app as from dist/lib/app). */
export const VERSION: string = JSON.parse(
  readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'),
).version
