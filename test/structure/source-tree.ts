import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { parseSync, Visitor } from 'oxc-parser'

/** Paths are relative to the root of the tree, with forward slashes: `src/lib/core/build.ts`. */
export interface SourceFile {
  path: string
  lines: number
  /** Files of the tree that this one imports in any form, including types; sorted, without duplicates. */
  imports: string[]
  /** Members of `process` that it uses: `env`, `on`, … */
  processMembers: string[]
  /** Types and classes that it declares and exports. */
  types: string[]
}

/** The common part of all nodes that name a module. */
interface ModuleName {
  type: string
  value?: unknown
  quasis?: { value: { cooked?: string | null } }[]
  expressions?: unknown[]
}

/**
 * Every TypeScript file below the folders, parsed.
 *
 * @throws Error if a file does not parse, or has an import whose name is only known at run time
 */
export function readTree(root: string, folders: string[]): SourceFile[] {
  return folders
    .flatMap((folder) =>
      readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }).map((name) =>
        join(folder, name),
      ),
    )
    .filter((path) => path.endsWith('.ts') && !path.startsWith(join('test', 'demo', 'app')))
    .sort()
    .map((path) => parse(path, readFileSync(join(root, path), 'utf8')))
}

function parse(path: string, text: string): SourceFile {
  const { program, errors } = parseSync(path, text)
  if (errors[0]) throw new Error(`${path}: ${errors[0].message}`)
  const imports = new Set<string>()
  const processMembers = new Set<string>()
  const types: string[] = []
  const add = (source: ModuleName | null) => {
    const name = source && moduleName(path, source)
    if (name?.startsWith('.')) imports.add(join(dirname(path), name))
  }
  new Visitor({
    ImportDeclaration(node) {
      add(node.source)
      if (!['node:process', 'process'].includes(node.source.value)) return
      for (const entry of node.specifiers) {
        processMembers.add(entry.type === 'ImportSpecifier' ? text.slice(...range(entry.imported)) : '*')
      }
    },
    ExportNamedDeclaration({ source, declaration }) {
      add(source)
      if (!declaration || !TYPES.has(declaration.type) || !('id' in declaration) || !declaration.id) return
      types.push(text.slice(...range(declaration.id)))
    },
    ExportAllDeclaration: ({ source }) => add(source),
    ImportExpression: ({ source }) => add(source),
    // The type of `import('./file.ts').Name`.
    TSImportType: ({ source }) => add(source),
    // `import name = require('./file.ts')`
    TSExternalModuleReference: ({ expression }) => add(expression),
    MemberExpression({ object, property, computed }) {
      if (object.type !== 'Identifier' || object.name !== 'process') return
      const name = text.slice(...range(property))
      processMembers.add(computed ? name.replace(/^['"`]|['"`]$/g, '') : name)
    },
    VariableDeclarator({ id, init }) {
      if (init?.type !== 'Identifier' || init.name !== 'process') return
      if (id.type !== 'ObjectPattern') processMembers.add('*')
      else
        for (const property of id.properties) {
          processMembers.add(property.type === 'Property' ? text.slice(...range(property.key)) : '*')
        }
    },
  }).visit(program)
  return {
    path,
    lines: text.split('\n').length - (text.endsWith('\n') ? 1 : 0),
    imports: [...imports].sort(),
    processMembers: [...processMembers].sort(),
    types,
  }
}

const TYPES = new Set(['ClassDeclaration', 'TSInterfaceDeclaration', 'TSTypeAliasDeclaration'])

function range({ start, end }: { start: number; end: number }): [number, number] {
  return [start, end]
}

/** Null for an import that is computed from URLs or variables, which only tests may do. */
function moduleName(path: string, source: ModuleName): string | null {
  if (typeof source.value === 'string') return source.value
  const text = source.quasis?.[0]?.value.cooked
  if (text !== undefined && text !== null && !source.expressions?.length) return text
  if (path.startsWith('src/')) throw new Error(`${path}: imports a module whose name is computed`)
  return null
}
