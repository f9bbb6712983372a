import { oneLine } from '../core/one-line.ts'
import type { RegistryResponse } from './response.ts'

/**
 * What engines and BuildKits say of registries. They give a text where a registry gave a status and a code:
 * read here are whole texts, in the forms that were recorded of each version (test/support/registry/recordings). A text
 * of no such form is null; words and numbers in it mean nothing, as names, paths and what others say are in it too.
 */

/** What a text says of a request to a registry. */
export type RegistryMessage =
  | {
      kind: 'answer'
      answer: RegistryResponse
      /** The request, as far as the text tells. */
      method: string | null
      url: string | null
    }
  /** There was no answer, or not all of it. */
  | { kind: 'unreachable'; why: string }

/** What engines and BuildKit put before what happened: what they were about to do. */
const WRAPPERS = [
  // The client of the engine.
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
  // Of several errors the first is the registry's, of what was asked.
  /^errors:\n/,
  /^\S+: (?=failed to resolve source metadata for )/,
]

/** In characters: the frontend that a Dockerfile names may make texts of any length, of which the begin is enough. */
const LONGEST = 64 * 1024

/** What happened, without what was being done. */
export function innermost(text: string): string {
  let rest = text.slice(0, LONGEST).trim()
  for (let before = ''; before !== rest; ) {
    before = rest
    for (const wrapper of WRAPPERS) rest = rest.replace(wrapper, '')
  }
  return rest
}

/** Reads a text as what it says of a registry; null when it has none of the forms. */
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

/** The registry's error codes, as Go's client of Docker writes them: in lower case, `_` as a space. */
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
  // BuildKit (containerd's client): no body is read of what is pushed.
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
  // Engines that push and pull themselves (distribution's client).
  [/^received unexpected HTTP status: (?<status>[45]\d\d) .*$/s, answered],
  [/^received unexpected HTTP status: (?<why>.*)$/s, unreachable],
  [/^error parsing HTTP (?<status>\d{3}) response body: .*$/s, answered],
  [
    // The error page of nginx, as what a registry has said.
    /^unknown: <html>\s*<head><title>(?<status>\d{3}) [^<]*<\/title><\/head>\s*<body[^>]*>\s*<center><h1>[^<]*<\/h1><\/center>\s*(?:<hr><center>[^<]*<\/center>\s*)?<\/body>\s*<\/html>\s*$/,
    answered,
  ],
  [new RegExp(`^(?<said>(?:${CODE})(?:: ?.*)?)$`, 's'), answered],
  // Of a request, there is what its answer was, or what became of it.
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

/** What others say, in one line; an answer as a whole (JSON, a page) is none. */
function lineOf(text: string): string {
  if (/^\s*[{<]/.test(text)) return ''
  return oneLine(text.replace(/\s+/g, ' ')).slice(0, 200)
}
