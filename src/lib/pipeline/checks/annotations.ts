import type { Build } from '../../core/build.ts'
import type { SourceExcerpt, Timeline } from '../../core/timeline.ts'
import type { CheckAnnotation } from '../../forge/forge.ts'

/** In characters, of a whole message. */
const LONGEST_MESSAGE = 4000

/** Remarks about the Dockerfile: where the build failed, then BuildKit's warnings. Always in the same order. */
export function annotationsOf(build: Build, { steps, excerpt }: Timeline): CheckAnnotation[] {
  const warnings = steps.flatMap(({ warnings }) => warnings)
  const all = [
    ...(build.state === 'failed' && build.error !== null && excerpt ? failure(build.error, excerpt) : []),
    ...warnings.flatMap(({ message, detail, url, file, line }) => {
      if (file === null || line === null) return []
      const text = [message, ...detail, ...(url === null ? [] : [url])].join('\n')
      return [annotation('warning', file, line, line, 'Dockerfile', text)]
    }),
  ]
  return all.filter(({ path }) => isPath(path))
}

/** One for the lines that failed. */
function failure(error: string, { file, lines }: SourceExcerpt): CheckAnnotation[] {
  const failed = lines.filter((line) => line.failed).map(({ number }) => number)
  const [first, last] = [failed.at(0), failed.at(-1)]
  if (first === undefined || last === undefined) return []
  return [annotation('failure', file, first, last, 'The build failed here', error)]
}

function annotation(
  level: CheckAnnotation['level'],
  path: string,
  startLine: number,
  endLine: number,
  title: string,
  message: string,
): CheckAnnotation {
  const text = message.slice(0, LONGEST_MESSAGE).trim()
  return { path, startLine, endLine, level, title, message: text === '' ? title : text }
}

/** Whether a path can be that of a file in a repository: frontends name files that are in none. */
function isPath(path: string): boolean {
  return path.length <= 1000 && path.split('/').every((part) => !/^(|\.|\.\.)$|[\p{Cc}\\]/u.test(part))
}
