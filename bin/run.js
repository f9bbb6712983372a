#!/usr/bin/env -S MALLOC_ARENA_MAX=1 node --max-semi-space-size=2 --heap-growing-percent=60
// A small young generation saves an idle server a tenth of its memory; an old one that is collected before it has
// doubled, a third of one that streams a long log; and one arena of the C library, which keeps what buffers leave
// behind, another tenth of a busy one.
//
// What follows up to the imports runs on any Node: one that is too old is to say so. npm only warns of it.
import { readFileSync } from 'node:fs'
import * as modules from 'node:module'
import { userInfo } from 'node:os'
import { join } from 'node:path'

const { engines } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'))
const numbersOf = (version) => /(\d+)\.(\d+)/.exec(version).slice(1).map(Number)
const [major, minor] = numbersOf(process.versions.node)
const [neededMajor, neededMinor] = numbersOf(engines.node)
if (major < neededMajor || (major === neededMajor && minor < neededMinor)) {
  process.stderr.write(
    `conveyor needs Node ${neededMajor}.${neededMinor} or newer, and ${process.execPath} is ${process.version}. Install a newer one: https://nodejs.org\n`,
  )
  process.exit(3)
}

// A user whom /etc/passwd does not know (OpenShift, docker run --user) has no home and no shell, which Node and oclif
// both look for there.
let cacheDir = process.env.NODE_COMPILE_CACHE
try {
  cacheDir ||= join(userInfo().homedir, '.cache', 'conveyor')
} catch {
  process.env.HOME ||= '/'
  process.env.SHELL ||= '/bin/sh'
}

// node:sqlite is experimental in the Nodes that we take, which nobody who runs us can do anything about.
const { emitWarning } = process
process.emitWarning = (warning, ...rest) => {
  if (rest[0] !== 'ExperimentalWarning') emitWarning.call(process, warning, ...rest)
}
// Compiled code of an earlier run is used again: starts in two thirds of the time. Not in the temporary folder, where
// Node keeps it by default, and runs whatever another user may have put there first.
if (cacheDir) modules.enableCompileCache(cacheDir)
const { watchStandardStreams } = await import('../dist/lib/cli/standard-streams.js')
watchStandardStreams()
const { execute } = await import('@oclif/core/execute')
// Not waited for: where nobody reads its output, it waits for that without an end, and the process ends all the same.
void execute({ dir: import.meta.url })
