import { readFileSync } from 'node:fs'

/** Conveyor's own version, from package.json (two folders up from src/lib and from dist/lib). */
export const VERSION: string = JSON.parse(
  readFileSync(new URL('../../package.json', import.meta.url), 'utf8'),
).version
