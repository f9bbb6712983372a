import { expect, test } from 'vitest'
import { openProcessLog } from '../../src/lib/app/process-log.ts'
import { parseConfig } from '../../src/lib/config/config.ts'
import { about, type LogFields } from '../../src/lib/core/log.ts'
import { runConveyor } from '../support/processes.ts'
import { tempDir } from '../support/temp.ts'

const TOKEN = 'ghp_0123456789abcdefghij'
const BUILD = { id: '11111111-2222-4333-8444-555555555555', repository: 'acme/web', sha: 'a'.repeat(40) }

async function written(
  format: string,
  lines: [string, LogFields?][],
  isTTY = false,
): Promise<{ text: string; isJson: boolean }> {
  let text = ''
  const config = parseConfig({ registry: 'registry.example', 'log.format': format, 'github.token': TOKEN })
  const output = {
    isTTY,
    write(piece: string) {
      text += piece
    },
  }
  const { log, isJson } = await openProcessLog(config, 'server', output)
  for (const [line, fields] of lines) {
    const before = text
    log(line, fields)
    // Nothing is lost if the process ends right now.
    expect(text.length).toBeGreaterThan(before.length)
  }
  return { text, isJson }
}

function parsed(text: string): unknown[] {
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
}

test('a log that is not in a terminal is JSON, one object a line, with what it is about', async () => {
  const { text, isJson } = await written('auto', [
    ['build 1 succeeded', about(BUILD)],
    ['warning: something', { delivery: 'd-1', request: 'req-7' }],
    ['it broke', { level: 'error' }],
  ])
  expect(isJson).toBe(true)
  const common = { component: 'server', pid: process.pid }
  expect(parsed(text)).toMatchObject([
    {
      ...common,
      level: 'info',
      msg: 'build 1 succeeded',
      build: BUILD.id,
      repository: 'acme/web',
      sha: 'aaaaaaaaaaaa',
    },
    { ...common, level: 'warn', msg: 'something', delivery: 'd-1', request: 'req-7' },
    { ...common, level: 'error', msg: 'it broke' },
  ])
  for (const { time } of parsed(text) as { time: string }[]) {
    expect(Math.abs(Date.now() - Date.parse(time))).toBeLessThan(60_000)
  }
})

test('in a terminal it is for people, with the id of the build', async () => {
  const { text, isJson } = await written('auto', [['warning: build 1 failed', about(BUILD)]], true)
  expect(isJson).toBe(false)
  // biome-ignore lint/suspicious/noControlCharactersInRegex: colors
  expect(text.replace(/\x1b\[\d+m/g, '')).toMatch(
    /^\[\d\d:\d\d:\d\d\] WARN: build 1 failed \{"build":"11111111-2222-4333-8444-555555555555"\}\n$/,
  )
})

test('as text it is the lines alone', async () => {
  const { text } = await written('text', [['warning: one'], ['two', about(BUILD)]])
  expect(text).toBe('warning: one\ntwo\n')
})

test('a line stays one line, and shows no secret, in every format', async () => {
  for (const format of ['json', 'pretty', 'text']) {
    const { text } = await written(format, [[`401 for ${TOKEN}\nforged line\u001b[2J`]])
    expect(text, format).toContain('401 for *** forged line')
    expect(text, format).not.toContain(TOKEN)
    expect(text.trimEnd(), format).not.toMatch(/\n/)
    expect(text, format).not.toContain('\u001b[2J')
  }
})

test('what ends a server early is the last line of its log', async () => {
  await using dir = await tempDir()
  const env = { DATA_DIR: dir.path, REGISTRY: 'registry.example', HOST: '203.0.113.1', PORT: '0' }
  const { code, stderr } = await runConveyor(['server'], { env: { ...env, LOG_FORMAT: 'json' } })
  expect(code).toBe(3)
  expect(parsed(stderr).at(-1)).toMatchObject({
    level: 'fatal',
    msg: expect.stringMatching(/^cannot listen on 203\.0\.113\.1:0: .*--host/),
  })
})
