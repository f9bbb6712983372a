const SUMMARY = /; (\d+\.\d+) s in all$/m

/** Whether a log, or its beginning, holds the summary already. */
export function hasSummary(log: string): boolean {
  return SUMMARY.test(log.slice(-1000))
}

/**
 * The phases in the summary of a build's log, in seconds:
 * `fetch 0.03 s (1505 entries), build 0.61 s, push 0.12 s; 0.80 s in all`.
 */
export function phaseTimes(log: string): Record<string, number> {
  const summary = log.split('\n').findLast((line) => SUMMARY.test(line))
  if (summary === undefined) throw new Error(`the log has no summary:\n${log.slice(-1000)}`)
  const phases = summary.replaceAll(/ \([^)]*\)/g, '').matchAll(/(?:^|, )([a-z][a-z -]*) (\d+\.\d+) s/g)
  const total = SUMMARY.exec(summary)?.[1]
  return {
    ...Object.fromEntries([...phases].map(([, name, seconds]) => [name, Number(seconds)])),
    'in all': Number(total),
  }
}

/**
 * What the engine says about its own work: unpacking of images, the context's arrival, the Dockerfile's steps,
 * the export.
 */
export function stepTimes(log: string): Record<string, number> {
  const times = { 'engine: unpack': 0, 'engine: context': 0, 'engine: steps': 0, 'engine: export': 0 }
  const names = new Map<string, string>()
  for (const line of log.split('\n')) {
    const [, number = '', name] = /^#(\d+) (\[.*|exporting.*)$/.exec(line) ?? []
    if (name !== undefined && !names.has(number)) names.set(number, name)
    times['engine: unpack'] += Number(/^#\d+ extracting .* (\d+\.\d+)s done$/.exec(line)?.[1] ?? 0)
    const [, ended = '', seconds] = /^#(\d+) DONE (\d+\.\d+)s$/.exec(line) ?? []
    const done = names.get(ended)
    if (done === undefined) continue
    if (done.startsWith('exporting')) times['engine: export'] += Number(seconds)
    else if (done === '[internal] load build context') times['engine: context'] += Number(seconds)
    else if (!done.startsWith('[internal]')) times['engine: steps'] += Number(seconds)
  }
  return times
}

/**
 * How long a script's phases took, in seconds, by the lines `mark NAME SECONDS` that it wrote at the end of each.
 * @param began,ended seconds since 1970; what comes after the last mark is the status
 */
export function markTimes(log: string, began: number, ended: number): Record<string, number> {
  const times: Record<string, number> = {}
  let last = began
  for (const [, name = '', at] of log.matchAll(/^mark (\w+) (\d+\.\d+)$/gm)) {
    times[name] = Number(at) - last
    last = Number(at)
  }
  return { ...times, status: ended - last }
}
