import { oneLine } from '../core/one-line.ts'
import type { RegistryResponse } from './response.ts'

/**
 * Parses the messages of Docker engines and BuildKit about registries, which have a text where the registry sent a
 * status and a code. Only whole messages are matched, in the forms recorded from each version
 * (test/support/registry/recordings). Single words and numbers prove nothing, as messages also contain names, paths and
 * texts of third parties.
 */

/** How a request to a registry ended, according to a message. */
export type RegistryMessage =
  | {
      kind: 'answer'
      answer: RegistryResponse
      /** The request, where the message names it. */
      method: string | null
      url: string | null
    }
  /** There was no response, or an incomplete one. */
  | { kind: 'unreachable'; why: string }

/** Prefixes that engines and BuildKit add to an error: what they were doing. */
const WRAPPERS = [
  // Dockerode.
  /^\(HTTP code \d{3}\) [a-z ]+ - /,
  /^rpc error: code = \w+ desc = /,
  /^failed to solve(?: with frontend [\w.]+)?: /,
  /^failed to (?:create LLB definition|load cache key|compute cache key|authorize|copy): /,
  /^failed to push \S+: /,
  /^failed to fetch (?:anonymous|oauth) token: /,
  /^failed to resolve source metadata for \S+: /,
  /^failed to resolve reference "\S+": /,
  /^failed commit on ref "\S+": /,
  /^httpReadSeeker: failed open: /,
  /^authorization failed: (?=no basic auth credentials$)/,
  /^error pulling image configuration: /,
  /^download failed after attempts=\d+: /,
  /^error after falling back to get manifest by tag: /,
  // Of several errors, the first is the registry's.
  /^errors:\n/,
  /^\S+: (?=failed to resolve source metadata for )/,
]

/** In characters. The frontend that a Dockerfile names may send messages of any length; the beginning is enough. */
const MAX_LENGTH = 64 * 1024

/** The innermost error of a message, without the prefixes of what was being done. */
export function innermost(text: string): string {
  let rest = text.slice(0, MAX_LENGTH).trim()
  for (let before = ''; before !== rest; ) {
    before = rest
    for (const wrapper of WRAPPERS) rest = rest.replace(wrapper, '')
  }
  return rest
}

/** Parses a message about a registry; null if it has none of the known forms. */
export function parseRegistryMessage(text: string): RegistryMessage | null {
  return read(innermost(text))
}

function read(text: string): RegistryMessage | null {
  for (const [form, said] of FORMS) {
    const match = form.exec(text)
    if (match) return said(match.groups ?? {})
  }
  return null
}

type Parts = Partial<Record<string, string>>

const REASON = "[A-Za-z' -]*"
const VERB = '(?:Get|Head|Post|Put|Patch|Delete)'

/** Registry error codes. Docker's Go client writes them in lower case, with spaces for `_`. */
const CODES = [
  'BLOB_UNKNOWN',
  'BLOB_UPLOAD_INVALID',
  'BLOB_UPLOAD_UNKNOWN',
  'DENIED',
  'DIGEST_INVALID',
  'MANIFEST_BLOB_UNKNOWN',
  'MANIFEST_INVALID',
  'MANIFEST_UNKNOWN',
  'MANIFEST_UNVERIFIED',
  'NAME_INVALID',
  'NAME_UNKNOWN',
  'SIZE_INVALID',
  'TAG_INVALID',
  'TOOMANYREQUESTS',
  'UNAUTHORIZED',
  'UNAVAILABLE',
  'UNKNOWN',
  'UNSUPPORTED',
]
const spoken = (code: string) => code.toLowerCase().replaceAll('_', ' ')
const CODE = CODES.map(spoken).join('|')

const FORMS: [RegExp, (parts: Parts) => RegistryMessage][] = [
  // BuildKit (containerd's client), which does not read the response body of a push.
  [
    new RegExp(
      `^unexpected status from (?<method>[A-Z]+) request to (?<url>\\S+): (?<status>\\d{3}) ${REASON}$`,
    ),
    answered,
  ],
  [new RegExp(`^unexpected status: (?<status>\\d{3}) ${REASON}$`), answered],
  [
    new RegExp(
      `^pulling from host \\S+ failed with status code \\[manifests \\S+\\]: (?<status>\\d{3}) ${REASON}$`,
    ),
    answered,
  ],
  [
    new RegExp(
      `^unexpected status code (?<url>\\S+): (?<status>\\d{3}) ${REASON}(?: - Server message: (?<said>.*))?$`,
      's',
    ),
    answered,
  ],
  [
    /^(?:pull|push) access denied, repository does not exist or may require authorization: (?:server message: )?(?<said>.*)$/s,
    ({ said }) => answered({ status: '401', said: said ?? '' }),
  ],
  [
    /^pull access denied for \S+, repository does not exist or may require 'docker login'(?:: (?<said>.*))?$/s,
    ({ said }) => answered({ status: '401', said: said ?? '' }),
  ],
  [
    /^(?:manifest for|repository) \S+ not found(?:: (?<said>.*))?$/s,
    ({ said }) => answered({ status: '404', said: said ?? '' }),
  ],
  [/^no basic auth credentials$/, () => answered({ status: '401' })],
  [/^\S+: not found$/, () => answered({ status: '404' })],
  [
    /^could not fetch content descriptor \S+ \(\S+\) from remote: not found$/,
    () => answered({ status: '404' }),
  ],
  [
    /^content at (?<url>\S+) not found: not found$/,
    ({ url }) => answered({ status: '404', ...(url ? { url } : {}) }),
  ],
  [new RegExp(`^failed to do request: ${VERB} "[^"]*": (?<why>.*)$`, 's'), unreachable],
  [/^failed to read expected number of bytes: (?<why>.*)$/s, unreachable],
  [/^unable to decode token response: (?<why>.*)$/s, unreachable],
  [/^invalid content digest in response: (?<why>.*)$/s, unreachable],
  // Engines that push and pull on their own (distribution's client).
  [/^received unexpected HTTP status: (?<status>[45]\d\d) .*$/s, answered],
  [/^received unexpected HTTP status: (?<why>.*)$/s, unreachable],
  [/^error parsing HTTP (?<status>\d{3}) response body: .*$/s, answered],
  [
    // The error page of nginx, taken for a registry's response.
    /^unknown: <html>\s*<head><title>(?<status>\d{3}) [^<]*<\/title><\/head>\s*<body[^>]*>\s*<center><h1>[^<]*<\/h1><\/center>\s*(?:<hr><center>[^<]*<\/center>\s*)?<\/body>\s*<\/html>\s*$/,
    answered,
  ],
  [new RegExp(`^(?<said>(?:${CODE})(?:: ?.*)?)$`, 's'), answered],
  // A request, followed by its response or its failure.
  [
    new RegExp(`^${VERB} "[^"]*": (?<why>.*)$`, 's'),
    ({ why = '' }) =>
      (new RegExp(`^${VERB} "`).test(why) ? null : read(innermost(why))) ?? unreachable({ why }),
  ],
  [
    /^(?<why>EOF|unexpected EOF|invalid checksum digest format|unknown blob|expected HTTP 206 from byte range request)$/,
    unreachable,
  ],
]

function answered({ method, url, status, said = '' }: Parts): RegistryMessage {
  const [, code = '', message = ''] = new RegExp(`^(${CODE})(?:: ?(.*))?$`, 's').exec(said) ?? [
    null,
    '',
    said,
  ]
  const answer: RegistryResponse = {
    status: status === undefined ? null : Number(status),
    code: CODES.find((one) => spoken(one) === code) ?? '',
    message: lineOf(message),
  }
  return { kind: 'answer', answer, method: method ?? null, url: url ?? null }
}

function unreachable({ why = '' }: Parts): RegistryMessage {
  return { kind: 'unreachable', why: lineOf(why) }
}

/** A third party's message, in one line; empty if it is a whole response (JSON, an HTML page). */
function lineOf(text: string): string {
  if (/^\s*[{<]/.test(text)) return ''
  return oneLine(text.replace(/\s+/g, ' ')).slice(0, 200)
}
