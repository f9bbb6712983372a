import { readFileSync } from 'node:fs'

/** Conveyor's own version, from package.json (src and dist have the same depth). */
export const VERSION: string = JSON.parse(
  readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'),
).version
