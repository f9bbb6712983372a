import type { GitRepository } from '../../test/support/git/repository.ts'
import { gitEnv } from '../../test/support/git/repository.ts'
import type { GitServer } from '../../test/support/git/server.ts'
import { start } from '../../test/support/processes.ts'
import { Dice } from './content.ts'
import { contentOf, depsLock, pathsOf, projectFiles, type Shape } from './shape.ts'

const WHO = 'Ada Example <ada@example.com>'
const EPOCH = Date.UTC(2024, 0, 1) / 1000

/** A repository on the git server, and the pushes of the scenarios. Every push is a commit on `main`. */
export class Workload {
  readonly shape: Shape
  readonly git: GitRepository
  #head: string
  /** How often each file was changed. */
  readonly #revisions: Map<string, number>
  #undo: string | null = null
  #depsRevision = 0

  private constructor(shape: Shape, git: GitRepository, head: string, revisions: Map<string, number>) {
    this.shape = shape
    this.git = git
    this.#head = head
    this.#revisions = revisions
  }

  /** Writes the whole history; the same on every machine but for the base image's name. */
  static async create(server: GitServer, shape: Shape, base: string): Promise<Workload> {
    const git = await server.create(shape.repository)
    const revisions = new Map<string, number>()
    const importer = await start('git', ['-C', git.dir, 'fast-import', '--quiet'], {
      env: gitEnv(),
      stdio: 'pipe',
    })
    const { stdin } = importer.child
    for (const piece of history(shape, base, revisions)) {
      if (!stdin?.write(piece)) await new Promise((resolve) => stdin?.once('drain', resolve))
    }
    stdin?.end()
    const { code } = await importer.exited
    if (code !== 0) throw new Error(`git fast-import of ${shape.repository}: ${importer.stderr()}`)
    // As GitHub keeps its repositories: one pack with deltas, and a bitmap for quick clones.
    await git.git('repack', '-adbq', '--window=4')
    return new Workload(shape, git, await git.resolve('main'), revisions)
  }

  get repository(): string {
    return this.shape.repository
  }

  /** The newest commit of `main`. */
  get head(): string {
    return this.#head
  }

  /** Whether the newest commit can be reverted to a tree that was there before. */
  get canRevert(): boolean {
    return this.#undo !== null
  }

  /** Changes one line of one source file. */
  async oneLine(): Promise<string> {
    const path = 'src/area-0/module-0/part-0.ts'
    const before = this.#revisions.get(path) ?? 0
    const sha = await this.#change(path, before + 1, 'Change one line')
    this.#undo = path
    return sha
  }

  /** Takes the last one-line change back: a new commit with the tree of an older one. */
  async revert(): Promise<string> {
    if (this.#undo === null) throw new Error('the newest commit is not a one-line change')
    return this.#change(this.#undo, (this.#revisions.get(this.#undo) ?? 0) - 1, 'Revert a change')
  }

  /** Changes a page of documentation, which .dockerignore keeps out of the image. */
  async docs(): Promise<string> {
    const path = pathsOf(this.shape).find((one) => one.startsWith('docs/'))
    if (path === undefined) throw new Error(`${this.repository} has no documentation`)
    return this.#change(path, (this.#revisions.get(path) ?? 0) + 1, 'Explain')
  }

  /** Changes the list of dependencies. */
  async dependency(): Promise<string> {
    this.#depsRevision += 1
    return this.#commit({ 'deps.lock': depsLock(this.#depsRevision) }, 'Update a dependency')
  }

  async #change(path: string, revision: number, message: string): Promise<string> {
    this.#revisions.set(path, revision)
    return this.#commit({ [path]: contentOf(this.shape, path, revision) }, message)
  }

  async #commit(files: Record<string, string>, message: string): Promise<string> {
    this.#undo = null
    this.#head = await this.git.commit(files, { message })
    return this.#head
  }
}

/** The history as `git fast-import` reads it. Fills `revisions` with what the last commit holds. */
function* history(shape: Shape, base: string, revisions: Map<string, number>): Generator<string> {
  const paths = pathsOf(shape)
  const sources = paths.filter((path) => !path.startsWith('assets/'))
  const dice = new Dice(`history of ${shape.repository}`)

  yield commit(1, 'Begin')
  for (const [path, content] of Object.entries(projectFiles(base))) yield file(path, content)
  for (const path of paths) yield file(path, contentOf(shape, path, 0))
  for (let number = 2; number <= shape.commits; number++) {
    yield commit(number, `Change ${number}`)
    for (let changes = 1 + dice.below(3); changes > 0; changes--) {
      const path = sources[dice.below(sources.length)] ?? ''
      const revision = (revisions.get(path) ?? 0) + 1
      revisions.set(path, revision)
      yield file(path, contentOf(shape, path, revision))
    }
  }
}

function commit(number: number, message: string): string {
  const person = `${WHO} ${EPOCH + number * 3600} +0000`
  return `commit refs/heads/main\nauthor ${person}\ncommitter ${person}\ndata ${message.length}\n${message}\n`
}

/** Names and contents are plain ASCII here, so characters are bytes. */
function file(path: string, content: string): string {
  return `M 100644 inline ${path}\ndata ${content.length}\n${content}\n`
}
