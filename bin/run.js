#!/usr/bin/env -S MALLOC_ARENA_MAX=1 node --disable-warning=ExperimentalWarning --max-semi-space-size=2 --heap-growing-percent=60
// A small young generation saves an idle server a tenth of its memory; an old one that is collected before it has
// doubled, a third of one that streams a long log; and one arena of the C library, which keeps what buffers leave
// behind, another tenth of a busy one.
import { enableCompileCache } from 'node:module'

// Compiled code of an earlier run is used again: starts in two thirds of the time.
enableCompileCache()
const { watchStandardStreams } = await import('../dist/lib/standard-streams.js')
watchStandardStreams()
const { execute } = await import('@oclif/core/execute')
// Not waited for: where nobody reads its output, it waits for that without an end, and the process ends all the same.
void execute({ dir: import.meta.url })
