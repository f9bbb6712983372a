import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { projectRoot } from '../support/processes.ts'
import { cycles, forbiddenImports, graphOf, importsBetween } from './check.ts'
import { listFolders } from './folders.ts'
import { withPicture } from './picture.ts'
import { ALLOWED, APART, GENERATED } from './rules.ts'
import { readTree } from './source-tree.ts'

/** `npm run structure`: updates the diagram in docs/structure.md, and prints violations of the rules. */
const files = readTree(projectRoot, ['src', 'test', 'bench', 'docs'])
const page = join(projectRoot, 'docs/structure.md')
writeFileSync(page, withPicture(readFileSync(page, 'utf8'), files))

const found = {
  cycles: cycles(graphOf(files)),
  'forbidden imports': [...forbiddenImports(files, ALLOWED), ...importsBetween(files, APART)],
}
const folders = listFolders(projectRoot, ['src', 'test', 'bench'], [GENERATED])
const [longest] = folders.toSorted((a, b) => b.files - a.files)
const imports = files.reduce((sum, file) => sum + file.imports.length, 0)
const lines = [
  `${files.length} files, ${imports} imports between them`,
  ...Object.entries(found).flatMap(([what, list]) => [
    `${list.length} ${what}`,
    ...list.map((each) => `  ${each}`),
  ]),
  `longest folder: ${longest?.path}, ${longest?.files} files`,
]
process.stdout.write(`${lines.join('\n')}\n`)
process.exitCode = Object.values(found).some((list) => list.length > 0) ? 1 : 0
