import type { Hook } from '@oclif/core'
import { EXIT_CODES, fail } from './base-command.ts'
import { nearest } from './nearest.ts'

/** oclif calls this for a command that does not exist; its `id` has colons between the words of the command line. */
const commandNotFound: Hook.CommandNotFound = async ({ id, config }) => {
  const [name = ''] = id.split(':')
  const commands = config.commands.filter(({ hidden }) => !hidden).map((command) => command.id)
  const similar = nearest(name, commands)
  const suggestion = similar === null ? '' : ` Did you mean ${JSON.stringify(similar)}?`
  const text = `unknown command ${JSON.stringify(name)}.${suggestion} Run ${config.bin} --help for a list of commands.`
  fail(text, EXIT_CODES.invalid)
}

export default commandNotFound
