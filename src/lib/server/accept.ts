export type Format = 'text' | 'json' | 'events' | 'html'

const FORMATS: Record<string, Format> = {
  'text/plain': 'text',
  'application/json': 'json',
  'text/event-stream': 'events',
  'text/html': 'html',
}

/** What stands for a format in `Accept` without naming it: a browser that wants a page names it. */
const WILDCARDS: Record<string, readonly Format[]> = {
  'text/*': ['text', 'events'],
  'application/*': ['json'],
  '*/*': ['text', 'json', 'events'],
}

/** The format among those offered that an `Accept` header prefers; the first one if it lists none of them. */
export function preferredFormat<Offered extends Format>(
  accept: string | undefined,
  offered: readonly [Offered, ...Offered[]],
): Offered {
  let best = offered[0]
  let bestQuality = 0
  for (const range of (accept ?? '').toLowerCase().split(',')) {
    const [type = '', ...parameters] = range.split(';').map((part) => part.trim())
    const names = FORMATS[type] ? [FORMATS[type]] : (WILDCARDS[type] ?? [])
    const format = offered.find((name) => names.includes(name))
    const given = parameters.find((parameter) => parameter.startsWith('q='))
    const quality = given === undefined ? 1 : Number(given.slice(2))
    if (format && quality > bestQuality) {
      best = format
      bestQuality = quality
    }
  }
  return best
}

/** Whether an `Accept` header asks for a page rather than for what programs read, as those of browsers do. */
export function prefersHtml(accept: string | undefined): boolean {
  return preferredFormat(accept, ['text', 'json', 'events', 'html']) === 'html'
}
