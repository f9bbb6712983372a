// Compiles the TypeScript in src/, except its tests, to JavaScript in dist/.
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { stripTypeScriptTypes } from 'node:module'

mkdirSync('dist', { recursive: true })
copy('package.json', (json) => json)
for (const file of readdirSync('src')) {
  if (!file.endsWith('.spec.ts')) copy(`src/${file}`, compile)
}

function compile(source: string): string {
  return stripTypeScriptTypes(source).replace(/(from '\.[^']+)\.ts'/g, "$1.js'")
}

function copy(path: string, change: (text: string) => string): void {
  const target = path.replace(/^src\//, '').replace(/\.ts$/, '.js')
  writeFileSync(`dist/${target}`, change(readFileSync(path, 'utf8')))
  console.log(`${path} -> dist/${target}`)
}
