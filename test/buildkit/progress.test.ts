import { describe, expect, test } from 'vitest'
import type { StatusResponse, Vertex } from '../../src/lib/buildkit/gen/status.ts'
import { Progress } from '../../src/lib/buildkit/progress.ts'
import { longestTurn } from '../support/timing/longest-turn.ts'

const at = (seconds: number) => new Date(Date.UTC(2026, 0, 1) + seconds * 1000)

function vertex(digest: string, name: string, rest: Partial<Vertex> = {}): Vertex {
  return {
    digest,
    name,
    inputs: [],
    cached: false,
    started: undefined,
    completed: undefined,
    error: '',
    ...rest,
  }
}

function message(rest: Partial<StatusResponse>): StatusResponse {
  return { vertexes: [], statuses: [], logs: [], warnings: [], ...rest }
}

function output(digest: string, msg: string | Buffer, seconds: number, stream = 1n) {
  return message({ logs: [{ vertex: digest, timestamp: at(seconds), stream, msg: Buffer.from(msg) }] })
}

function bytesOf(progress: Progress, message: StatusResponse): Buffer {
  return Buffer.concat([...progress.render(message)])
}

function render(progress: Progress, ...messages: StatusResponse[]): string {
  return messages.map((one) => bytesOf(progress, one).toString()).join('')
}

describe('Progress', () => {
  test('shows steps like docker: header, output with seconds, end', () => {
    const progress = new Progress()
    const run = vertex('r', '[2/2] RUN make', { started: at(0) })
    const text = render(
      progress,
      message({
        vertexes: [vertex('f', '[1/2] FROM base', { started: at(0), completed: at(0), cached: true })],
      }),
      message({ vertexes: [run] }),
      output('r', 'cc a.c\ncc b', 0.5),
      output('r', '.c\n', 1.25),
      message({ vertexes: [{ ...run, completed: at(2.5) }] }),
    )
    expect(text).toBe(
      [
        '\n#1 [1/2] FROM base\n#1 CACHED\n',
        '\n#2 [2/2] RUN make\n#2 0.500 cc a.c\n#2 1.250 cc b.c\n#2 DONE 2.5s\n',
      ].join(''),
    )
    expect(progress.summary()).toMatchObject({ total: 1, cached: 0, failed: undefined, clipped: [] })
  })

  test('a step that had to wait is shown when it starts, not when it ends', () => {
    const progress = new Progress()
    const run = vertex('r', '[2/2] RUN make')
    expect(render(progress, message({ vertexes: [run] }))).toBe('')
    const started = message({ vertexes: [{ ...run, started: at(1) }] })
    expect(render(progress, started, started)).toBe('\n#1 [2/2] RUN make\n')
  })

  test('names the step again when the output of two steps alternates', () => {
    const progress = new Progress()
    const text = render(
      progress,
      message({
        vertexes: [
          vertex('a', '[a 1/1] RUN a', { started: at(0) }),
          vertex('b', '[b 1/1] RUN b', { started: at(0) }),
        ],
      }),
      output('a', 'one\n', 0),
      output('b', 'two\n', 0),
      output('b', 'three\n', 0),
    )
    expect(text).toBe(
      '\n#1 [a 1/1] RUN a\n\n#2 [b 1/1] RUN b\n\n#1 [a 1/1] RUN a\n#1 0.000 one\n\n#2 [b 1/1] RUN b\n#2 0.000 two\n#2 0.000 three\n',
    )
  })

  test('a last line without a newline and an endless line are shown', () => {
    const progress = new Progress()
    const run = vertex('r', '[1/1] RUN x', { started: at(0) })
    const text = render(
      progress,
      message({ vertexes: [run] }),
      output('r', 'y'.repeat(70_000), 0),
      output('r', 'no newline', 1),
      message({ vertexes: [{ ...run, completed: at(1) }] }),
    )
    expect(text).toContain(`#1 0.000 ${'y'.repeat(70_000)}\n`)
    expect(text).toMatch(/#1 1\.000 no newline\n#1 DONE 1\.0s\n$/)
  })

  test('keeps bytes that are not UTF-8, even when they are split', () => {
    const progress = new Progress()
    bytesOf(progress, message({ vertexes: [vertex('r', '[1/1] RUN x', { started: at(0) })] }))
    const bytes = Buffer.concat([
      bytesOf(progress, output('r', Buffer.from([0xff, 0xe2]), 0)),
      bytesOf(progress, output('r', Buffer.from([0x82, 0xac, 0x0a]), 0)),
    ])
    expect(bytes).toEqual(
      Buffer.concat([Buffer.from('#1 0.000 '), Buffer.from([0xff, 0xe2, 0x82, 0xac, 0x0a])]),
    )
  })

  test('splits long output into pieces of whole lines', () => {
    const progress = new Progress()
    bytesOf(progress, message({ vertexes: [vertex('r', '[1/1] RUN x', { started: at(0) })] }))
    const pieces = [...progress.render(output('r', 'a\n\n'.repeat(100_000), 0))]
    expect(pieces.length).toBeGreaterThan(10)
    for (const piece of pieces) {
      expect(piece.length).toBeLessThan(1 << 19)
      expect(piece.at(-1)).toBe(0x0a)
    }
    expect(Buffer.concat(pieces).toString()).toBe('#1 0.000 a\n#1 0.000 \n'.repeat(100_000))
  })

  test('stdout and stderr do not run into each other', () => {
    const progress = new Progress()
    const run = vertex('r', '[1/1] RUN x', { started: at(0) })
    const text = render(
      progress,
      message({ vertexes: [run] }),
      output('r', 'out', 0, 1n),
      output('r', 'err\n', 0, 2n),
      output('r', 'put\n', 0, 1n),
    )
    expect(text).toBe('\n#1 [1/1] RUN x\n#1 0.000 err\n#1 0.000 output\n')
  })

  test('a failed step, and those cancelled with it', () => {
    const progress = new Progress()
    const text = render(
      progress,
      message({
        vertexes: [
          vertex('a', '[1/2] RUN a', { started: at(0), completed: at(1), error: 'exit code: 1' }),
          vertex('b', '[2/2] RUN b', {
            started: at(0),
            completed: at(1),
            error: 'rpc error: context canceled',
          }),
        ],
      }),
    )
    expect(text).toContain('#1 ERROR: exit code: 1\n')
    expect(text).toContain('#2 CANCELED\n')
    expect(progress.summary().failed).toEqual({ name: '[1/2] RUN a', error: 'exit code: 1' })
  })

  test('transfers are shown once, when they end', () => {
    const progress = new Progress()
    const status = {
      ID: 'sha256:abc',
      vertex: 'f',
      name: '',
      current: 5_000_000n,
      total: 12_300_000n,
      timestamp: at(1),
      started: at(0),
      completed: undefined,
    }
    const done = { ...status, current: 12_300_000n, completed: at(2) }
    const text = render(
      progress,
      message({ vertexes: [vertex('f', '[1/1] FROM base', { started: at(0) })], statuses: [status] }),
      message({ statuses: [done] }),
      message({ statuses: [done] }),
    )
    expect(text).toBe('\n#1 [1/1] FROM base\n#1 sha256:abc 12.30MB 2.0s done\n')
  })

  test('BuildKit’s own steps are shown but not counted, and a clipped step is named', () => {
    const progress = new Progress()
    render(
      progress,
      message({
        vertexes: [
          vertex('i', '[internal] load build context', { started: at(0), completed: at(0) }),
          vertex('n', '[context base] load metadata for docker.io/library/node:24', { started: at(0) }),
          vertex('r', '[1/1] RUN yes', { started: at(0) }),
          vertex('c', '[context 2/3] RUN true', { started: at(0) }), // of a stage with this name
        ],
      }),
      output('r', '\n[output clipped, log limit 2MiB reached]\n', 0),
    )
    expect(progress.summary()).toMatchObject({ total: 2, clipped: ['#3 [1/1] RUN yes'] })
  })
})

describe('external inputs', () => {
  function sources(...steps: string[]) {
    const progress = new Progress()
    render(
      progress,
      message({ vertexes: steps.map((name, index) => vertex(String(index), name, { started: at(0) })) }),
    )
    const { images, remoteFiles } = progress.summary()
    return { images, remoteFiles }
  }

  test('images of FROM, COPY --from and syntax lines, with their digests where reported', () => {
    const digest = `sha256:${'1'.repeat(64)}`
    expect(
      sources(
        '[internal] load metadata for docker.io/library/node:24',
        '[linux/amd64 internal] load metadata for acme/without-layers:1',
        `[internal] load metadata for acme/without-layers:2@${digest}`,
        `[build 1/3] FROM docker.io/library/node:24@${digest}`,
        `[stage-1 1/2] FROM docker.io/library/node:24@${digest}`,
        '[stage-1 1/2] FROM local/base:1',
        'FROM 127.0.0.1:5000/tool:1',
        `docker-image://docker.io/docker/dockerfile:1@${digest}`,
        '[context tool] load metadata for acme/tool:1',
        '[context tool] acme/tool:1',
        '[context 2/3] COPY acme/other:1 /x',
        '[build 2/3] COPY --from=stage /FROM /x',
        '[build 3/3] RUN echo FROM x',
      ),
    ).toEqual({
      images: [
        { name: 'docker.io/library/node:24', digest },
        { name: 'local/base:1', digest: null },
        { name: '127.0.0.1:5000/tool:1', digest: null },
        { name: 'docker.io/docker/dockerfile:1', digest },
        { name: 'acme/tool:1', digest: null },
        { name: 'acme/without-layers:1', digest: null },
        { name: 'acme/without-layers:2', digest },
      ],
      remoteFiles: false,
    })
  })

  test.each([
    ['https://example.com/a.tgz', true],
    ['[2/3] ADD https://example.com/a.tgz /a', true],
    ['[2/3] ADD --checksum=sha256:1 http://example.com/a /a', true],
    ['git://github.com/acme/web.git#main', true],
    ['[2/3] ADD git@github.com:acme/web.git /a', true],
    ['[2/3] ADD a.tgz https://example.com/b /d/', true],
    ['[2/3] ADD [a.tgz, https://example.com/b, /d/]', true],
    ['[2/3] ADD web@1.tgz /a', false],
    ['[context text] https://example.com/text', true],
    ['[internal] load git source https://git.lan/docs.git#main', true],
    [`[internal] load git source https://git.lan/docs.git#${'a'.repeat(40)}:src`, false],
    ['[2/3] ADD a.tgz /https:/', false],
    ['[2/3] RUN curl https://example.com', false],
  ])('%s: %s', (step, remote) => {
    expect(sources(step).remoteFiles).toBe(remote)
  })
})

describe('commands whose results are used together with files of the context', () => {
  const context = vertex('ctx', '[internal] load build context', { started: at(0) })
  const ran = (digest: string, name: string, ...inputs: string[]) =>
    vertex(digest, name, { inputs, started: at(1) })
  const look = (...vertexes: Vertex[]) => {
    const progress = new Progress()
    render(progress, message({ vertexes: [context, ...vertexes] }))
    return [progress.ranBeforeCopy, progress.outdatesCacheMounts]
  }
  const deps = ran('deps', '[deps 2/2] RUN npm ci')
  const MOUNT = 'RUN --mount=TYPE=Cache,target=/o make'

  test.each([
    ['COPY on it', ran('copy', '[2/3] COPY . /src', 'deps', 'ctx')],
    ['COPY --link beside it', ran('merge', '[2/3] LINK COPY --link . /src', 'deps', 'link')],
    ['COPY --from of it on files', ran('copy', '[2/3] COPY --from=deps /d /d', 'deps', 'link')],
  ])('%s', (_, copy) => {
    const link = ran('link', '[2/3] COPY --link . /src', 'ctx')
    const make = (command: string) => ran('make', `[3/3] ${command}`, copy.digest)
    expect(look(deps, link, copy, make('RUN make'))).toEqual([[deps.name], false])
    expect(look(deps, link, copy, make(MOUNT))).toEqual([[deps.name], true])
    const after = ran('after', `[4/4] ${MOUNT}`, 'make')
    expect(look(deps, link, copy, make('RUN make'), after)).toEqual([[deps.name], true])
    // No step compares times any more.
    expect(look(deps, link, copy)).toEqual([[], false])
  })

  test('COPY --from of it on files that COPY --link has put there', () => {
    const link = ran('link', '[2/4] COPY --link . /src', 'ctx')
    const merge = ran('merge', '[2/4] LINK COPY --link . /src', 'base', 'link')
    const copy = ran('copy', '[3/4] COPY --from=deps /d /d', 'merge', 'deps')
    expect(look(deps, link, merge, copy, ran('make', `[4/4] ${MOUNT}`, 'copy'))).toEqual([[deps.name], true])
  })

  test('a mount of the context', () => {
    expect(look(deps, ran('make', `[2/2] ${MOUNT}`, 'deps', 'ctx'))).toEqual([[deps.name], true])
  })

  test('not those that only use copied files', () => {
    const copy = ran('copy', '[build 2/4] COPY . /src', 'ctx')
    const one = ran('one', '[build 3/4] RUN one', 'copy')
    const two = ran('two', `[build 4/4] ${MOUNT}`, 'one')
    const final = ran('final', '[2/3] COPY --from=build /app /app', 'two')
    expect(look(copy, one, two, final, ran('x', '[3/3] RUN chmod +x /app', 'final'))).toEqual([[], false])
  })
})

describe('progress that no BuildKit sends', () => {
  test('invalid times are ignored, and the recorded time is valid', () => {
    const progress = new Progress()
    const of = (started: Date) => message({ vertexes: [vertex(String(started.getTime()), 'x', { started })] })
    render(progress, of(at(1)), of(new Date(8.64e15)), of(new Date(Number.NaN)))
    expect(progress.clock).toBe(at(1).getTime())
  })

  test('with thousands of commands, all count at once, as if later ones used their results', () => {
    const progress = new Progress()
    const names = Array.from({ length: 3000 }, (_, i) => `[s${i} 1/1] RUN --mount=type=cache make`)
    const vertexes = names.map((name, i) =>
      vertex(`r${i}`, name, { started: at(0), inputs: i > 0 ? [`r${i - 1}`] : [] }),
    )
    render(progress, message({ vertexes }))
    const turn = longestTurn()
    expect(progress.ranBeforeCopy).toEqual(names)
    expect(progress.outdatesCacheMounts).toBe(true)
    expect(turn.ms()).toBeLessThan(250)
  })
})
