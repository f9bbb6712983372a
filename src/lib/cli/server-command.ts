import { Flags } from '@oclif/core'
import type { ClientOptions } from '../client/client.ts'
import type { Connection } from '../client/connection.ts'
import { loginInEnvironment, proxiesInEnvironment } from '../config/client/environment.ts'
import { hasPassword } from '../config/passwords.ts'
import { type CommandLine, ConveyorCommand } from './base-command.ts'
import type { ExitCodes } from './exit-codes.ts'

/** The server that a command talks to. */
export const SERVER_FLAGS = {
  url: Flags.string({
    env: 'CONVEYOR_URL',
    default: 'http://localhost:8080',
    helpValue: '<url>',
    description: 'URL of the Conveyor server',
  }),
  auth: Flags.string({
    env: 'CONVEYOR_AUTH',
    helpValue: '<user:pass|token>',
    description:
      'Login for the server, or a token [default: CONVEYOR_TOKEN or BASIC_AUTH, or the login in ./.env for a server on this machine or at its BASE_URL]',
  }),
}

/** What the argument TARGET of commands on one build means. */
export const TARGET_HELP =
  'ID of the build, or its first characters (at least 4); or OWNER/NAME@SHA for the newest build of a commit, of whose SHA 7 digits are enough'

export const SERVER_COMMAND_EXIT_CODES: ExitCodes = {
  0: 'success',
  2: 'the request is invalid: arguments, unknown build, refused credentials',
  3: 'the server is unavailable; retrying may help',
}

/** A server answers requests at once, and sends something every 25 s while a log grows. */
const SILENCE_MS = 75_000

interface ServerFlags {
  url: string
  auth?: string | undefined
}

type Server = Pick<ClientOptions, 'url' | 'auth' | 'proxies'>

/** Base of the commands that ask a server about builds. */
export abstract class ServerCommand extends ConveyorCommand {
  /** Hides what is secret, and warns about it. @returns the login of the server, if one is given */
  protected login(flags: ServerFlags, raw: CommandLine): string | undefined {
    this.hideArguments()
    if (flags.auth !== 'none') this.warnOfFlag('auth', 'CONVEYOR_AUTH', raw)
    if (hasPassword(flags.url)) this.warnOfFlag('url', 'CONVEYOR_AUTH', raw)
    return flags.auth || loginInEnvironment()
  }

  /** The server, and how to reach it. @throws ConveyorError `invalid` */
  protected async server(flags: ServerFlags, raw: CommandLine): Promise<Server> {
    const auth = this.login(flags, raw)
    const { serverLogin } = await import('../config/client/login.ts')
    const login = await serverLogin({ url: flags.url, auth })
    return { url: flags.url, auth: login, proxies: proxiesInEnvironment() }
  }

  /** Runs `work` on a connection to the server. @throws ConveyorError */
  protected async withServer<T>(
    flags: ServerFlags,
    raw: CommandLine,
    work: (connection: Connection, server: Server) => Promise<T>,
  ): Promise<T> {
    const server = await this.server(flags, raw)
    const { Connection } = await import('../client/connection.ts')
    const { url, auth = null, proxies } = server
    await using connection = new Connection(url, auth, SILENCE_MS, { proxies })
    return await work(connection, server)
  }
}
