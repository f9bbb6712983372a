import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import type { OpenApi } from '../../../src/lib/server/api/openapi.ts'
import type { Answer } from './answer.ts'
import { AnswerCheck } from './answers.ts'

/** What a server says of itself before its first response, and then of each. */
export type Recorded = { document: OpenApi; baseUrl: string } | { answer: Answer }

/**
 * Checks what a server responds, as long as it runs. It must have been started with record-answers.ts, and a pipe as its
 * file descriptor 3.
 * @param violations receives what is not as described
 */
export function checkAnswers(server: ChildProcess, violations: string[]): void {
  let check: AnswerCheck | undefined
  const lines = createInterface({ input: server.stdio[3] as Readable })
  lines.on('line', (line) => {
    let recorded: Recorded
    try {
      recorded = JSON.parse(line) as Recorded
    } catch {
      // The server was killed while it wrote it.
      return
    }
    if ('document' in recorded) check = new AnswerCheck(recorded.document, recorded.baseUrl, violations)
    else check?.check(recorded.answer)
  })
}
