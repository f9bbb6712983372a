/**
 * The parent of a trace, from the header or variable `traceparent` (https://www.w3.org/TR/trace-context/): version, trace,
 * span, flags. Null if it is not valid, which senders and the specification expect to be ignored.
 */
export function traceParent(text: string | undefined): string | null {
  const [, version, trace, span, flags, rest = ''] =
    /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/.exec(text?.trim() ?? '') ?? []
  if (trace === undefined || span === undefined || flags === undefined) return null
  if (version === 'ff' || (version === '00' && rest !== '') || /^0+$/.test(trace) || /^0+$/.test(span))
    return null
  // What later versions add is not passed on.
  return `00-${trace}-${span}-${flags}`
}
