import { Flags } from '@oclif/core'
import { PROGRESS_KINDS } from './view.ts'

/** How a command shows the log of a build. */
export const PROGRESS_FLAGS = {
  progress: Flags.option({
    env: 'CONVEYOR_PROGRESS',
    options: PROGRESS_KINDS,
    default: 'auto' as const,
    description:
      'How to show the log: plain (as it is), tty (its steps, in a terminal), json (one object per line), or auto: tty in a terminal, otherwise plain',
  })(),
}
