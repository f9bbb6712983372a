import { readFile } from 'node:fs/promises'
import { StatusResponse, type Vertex } from '../../../src/lib/buildkit/gen/status.ts'
import { projectRoot } from '../../support/processes.ts'
import type { Chance } from './chance.ts'
import { mutated, ODD, textOf } from './mutate.ts'

const NAMES = [
  ...[
    '[internal] load build context',
    '[internal] load build definition from Dockerfile',
    '[internal] load metadata for docker.io/library/alpine:latest',
  ],
  ...[
    '[1/3] FROM docker.io/library/alpine@sha256:abc',
    '[2/3] RUN make',
    '[build 2/3] RUN --mount=type=cache,target=/x make',
    '[3/3] COPY . .',
  ],
  ...[
    '[web 1/2] COPY --from=build /dist /app',
    '[2/2] ADD https://a:b@example.com/x /x',
    '[stage-1 2/2] COPY --link a b',
    'exporting to image',
  ],
  ...[
    'importing cache manifest from x',
    'docker-image://docker.io/docker/dockerfile:1',
    '[context web] load metadata for x',
    '[context web] https://x',
  ],
  ...[
    'resolve image config for docker.io/docker/dockerfile:1',
    '[internal] load git source x#y',
    'https://example.com/x',
    '[auth] x',
    'FROM x',
  ],
]
const ENDS = [
  '',
  '',
  '',
  'context canceled',
  'process "/bin/sh -c make" did not complete successfully: exit code: 137',
  'executor failed running [/bin/sh]: exit code: 2',
]
const TIMES = [
  undefined,
  new Date(0),
  new Date(1_700_000_000_000),
  new Date(1_700_000_001_500),
  new Date(-1),
  new Date(8_640_000_000_000_000),
]
const OUTPUT = [
  'a\n',
  'b',
  '\r',
  '\n',
  '\n\n',
  '[output clipped, log limit 2MiB reached]\n',
  '\u001b[31m',
  'é',
  '\0',
  'x'.repeat(200),
]

/** In characters; BuildKit forwards the output of a step in pieces of at most 32 KiB. */
const LONGEST_OUTPUT = 1 << 20

/** Messages about the steps of a build, roughly as BuildKit sends them. */
export function drawStatus(chance: Chance): StatusResponse {
  const digests = Array.from(
    { length: chance.percent(0.3) ? 3000 : chance.whole(1, 6) },
    (_, at) => `sha256:${at}`,
  )
  const piece = chance.one(OUTPUT)
  const text = chance.percent(0.5)
    ? piece.repeat(Math.ceil(LONGEST_OUTPUT / piece.length))
    : textOf(chance, OUTPUT, chance.size(300))
  return {
    vertexes: digests.flatMap((digest, at) =>
      chance.percent(80) ? [drawVertex(chance, digest, digests.slice(0, at))] : [],
    ),
    statuses: chance.times(0, 3, () => ({
      ...{ ID: chance.one(['transferring context:', 'sha256:a', '']), vertex: chance.one(digests), name: '' },
      ...{ current: chance.one([0n, 5n, 10n ** 12n, -1n]), total: chance.one([0n, 1000n, 2_000_000n, 5n]) },
      ...{ timestamp: chance.one(TIMES), started: chance.one(TIMES), completed: chance.one(TIMES) },
    })),
    logs: chance.times(0, 3, () => ({
      ...{ vertex: chance.one([...digests, 'other']), timestamp: chance.one(TIMES) },
      ...{ stream: chance.one([1n, 2n, -1n]), msg: Buffer.from(text) },
    })),
    warnings: chance.times(0, 3, () => ({
      ...{
        vertex: chance.one([...digests, 'other']),
        level: chance.one([1n, -1n]),
        short: Buffer.from(piece),
      },
      ...{ detail: chance.times(0, 3, () => Buffer.from(text)), url: piece },
      ...{ info: chance.percent(50) ? { filename: piece } : undefined, ranges: [] },
    })),
  }
}

function drawVertex(chance: Chance, digest: string, before: string[]): Vertex {
  return {
    digest,
    inputs: before.length > 0 ? chance.times(0, 3, () => chance.one(before.slice(-10))) : [],
    name: stepName(chance),
    cached: chance.percent(20),
    started: chance.one(TIMES),
    completed: chance.one(TIMES),
    error: chance.percent(60) ? chance.one(ENDS) : '',
  }
}

export function stepName(chance: Chance): string {
  const name = chance.one(NAMES)
  return chance.percent(30)
    ? mutated(chance, name, [...ODD, '--from=', '--mount=', '[', '] ', '://', '@', 'RUN ', 'FROM '])
    : name
}

export function encoded(status: StatusResponse): Buffer {
  return Buffer.from(StatusResponse.encode(status).finish())
}

const RECORDINGS = ['buildkitd-0.13', 'docker-20.10', 'docker-26.1-classic', 'docker-26.1-containerd']

interface Recorded {
  text: string
  failed: { name: string; error: string } | null
}

/** Recorded error texts of engines and BuildKits. */
export async function recordedTexts(): Promise<Recorded[]> {
  const files = RECORDINGS.map((name) =>
    readFile(`${projectRoot}test/support/registry/recordings/${name}.json`, 'utf8'),
  )
  return (await Promise.all(files)).flatMap((text) =>
    (JSON.parse(text) as Recorded[]).filter((one) => one.text),
  )
}

const WORDS = [
  ...[
    'failed to solve: ',
    'rpc error: code = Unknown desc = ',
    'failed to walk ',
    ': lstat ',
    ': no such file or directory',
    '" not found',
    ': not found',
    '"/a"',
  ],
  ...[
    'failed to calculate checksum of ref a::b: ',
    'failed to push x: ',
    'unexpected status: 401 ',
    'errors:\n',
    'denied: ',
    'unauthorized',
    'EOF',
    ' - ',
  ],
  ...[
    'dockerfile parse error line 2: unknown flag: --link',
    'dockerfile parse error on line 1: unknown instruction: x',
    '(HTTP code 500) server error - ',
    '/buildkit-mount1/',
  ],
  ...[
    'invalid response status 404',
    'Get "https://x": ',
    'unexpected EOF',
    'no space left on device',
    'context canceled',
    'unknown: <html>',
    '/overlay2/a/merged/',
  ],
  ...[
    'unsupported frontend capability moby.buildkit.frontend.contexts',
    'failed to resolve source metadata for ',
    'process "x" did not complete successfully: exit code: 1',
  ],
]

/** Such a text with changes; or a very long one, which the frontend that a repository names can cause. */
export function drawText(chance: Chance, recorded: string): string {
  if (chance.percent(1)) {
    const piece = chance.one([...WORDS, '\n', ' ', '\0', 'a', 'é '])
    const tail = chance.one(['', ...WORDS, '\n'])
    return chance.one(WORDS) + piece.repeat((chance.one([4, 64, 1024]) << 10) / piece.length) + tail
  }
  if (chance.percent(15)) return chance.one(WORDS)
  if (chance.percent(20)) return chance.times(1, 4, () => chance.one(WORDS)).join('')
  return chance.percent(60) ? mutated(chance, recorded, WORDS) : recorded
}
