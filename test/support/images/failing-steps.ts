import { randomBytes } from 'node:crypto'
import { gzipSync } from 'node:zlib'

/** Files of a context, by path. */
export type Files = Record<string, string | Uint8Array>
/**
 * Contexts whose Dockerfile has a step that fails on its own, by what is wrong. `REGISTRY/base:1` in them has a shell.
 * @param files a server with `/file`, `/404` etc., and `/cut`, which ends too early
 */
export function failingSteps(files: string): Record<string, Files> {
  const with_ = (lines: string, more: Files = {}) => ({
    Dockerfile: `FROM REGISTRY/base:1 AS build\nWORKDIR /w\n${lines}`,
    ...more,
  })
  return {
    'COPY of the context': with_('COPY missing /x\n', { other: 'x' }),
    'COPY of the context, in a folder': with_('COPY a/missing.txt /x\n', { 'a/other': 'x' }),
    'COPY of two, of which one is missing': with_('COPY other missing /x/\n', { other: 'x' }),
    'COPY of a pattern that matches nothing': with_('COPY *.nope /x/\n', { other: 'x' }),
    'ADD of the context': with_('ADD missing /x\n', { other: 'x' }),
    'COPY --from of a stage': with_('FROM scratch\nCOPY --from=build /app/dist /x\n'),
    'COPY --from of a stage, a pattern': with_('FROM scratch\nCOPY --from=build /app/dist/*.js /x/\n'),
    'COPY --from of an image': with_('FROM scratch\nCOPY --from=REGISTRY/base:1 /app/dist /x\n'),
    'a mount of a missing path': with_(
      'FROM REGISTRY/base:1\nRUN --mount=type=bind,from=build,source=/nope,target=/x true\n',
    ),
    'a heredoc of RUN': with_('RUN <<EOF\ntrue\nEOF\n'),
    'a heredoc of COPY': with_('COPY <<EOF /x\nhello\nEOF\n'),
    'COPY --link': with_('COPY --link other /x\n', { other: 'x' }),
    'ADD --link': with_('ADD --link other /x\n', { other: 'x' }),
    'COPY --parents': with_('COPY --parents a/b /x/\n', { 'a/b': 'x' }),
    'ADD --checksum': with_(`ADD --checksum=sha256:${'0'.repeat(64)} ${files}/file /x\n`),
    'COPY --exclude': with_('COPY --exclude=*.md . /x/\n', { other: 'x' }),
    'ADD of a URL that is not there': with_(`ADD ${files}/404 /x\n`),
    'ADD of a URL that may not be read': with_(`ADD ${files}/403 /x\n`),
    'ADD of a URL that fails': with_(`ADD ${files}/503 /x\n`),
    'ADD of a URL at which nobody listens': with_('ADD http://127.0.0.1:1/file /x\n'),
    'ADD of a URL of no host': with_('ADD http://no-such-host.invalid/file /x\n'),
    'ADD of a URL that is cut off': with_(`ADD ${files}/cut /x\n`),
    'ADD of a git repository that is not there': with_(`ADD ${files}/no/such.git /x\n`),
    'COPY of what a heredoc made': with_('RUN <<-"END"\n\ttrue\nEND\nCOPY missing /x\n', { other: 'x' }),
    'ADD of a damaged tar.gz': with_('ADD damaged.tar.gz /x/\n', { 'damaged.tar.gz': DAMAGED }),
    'FROM of a stage that is not there': with_('COPY --from=nowhere /a /b\n'),
    'an unknown instruction': with_('CPOY a b\n'),
    'a RUN that fails': with_('RUN exit 3\n'),
    'a syntax line that is not there': { Dockerfile: '# syntax=REGISTRY/no/such:1\nFROM scratch\n' },
    'a target that is not there': with_('RUN true\n'),
  }
}
/** The first half of an archive. */
export const DAMAGED = gzipSync(Buffer.concat([tarHeader('x', 100_000), randomBytes(100_000)])).subarray(
  0,
  50_000,
)

/** The header of a tar entry (ustar). */
function tarHeader(name: string, size: number): Buffer {
  const block = Buffer.alloc(512)
  block.write(name, 0)
  const octal = size.toString(8).padStart(11, '0')
  block.write(`0000644\0${'0000000\0'.repeat(2)}${octal}\0${'0'.repeat(11)}\0`, 100)
  block.write('        0', 148)
  block.write('ustar\x0000', 257)
  const sum = block.reduce((total, byte) => total + byte, 0)
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
  return block
}
