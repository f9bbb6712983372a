import type { SetupIo } from '../app/setup.ts'
import type { Config } from '../config/config.ts'
import type { OptionValues } from '../config/option-reader.ts'
import { asShown, type CommandLine, ConveyorCommand } from './base-command.ts'
import { ignoreClosedOutput } from './standard-streams.ts'

/** Base of the commands that run until they are stopped, and keep a log instead of talking to somebody. */
export abstract class ServiceCommand extends ConveyorCommand {
  /**
   * Reads the Config and runs a service with it. Warnings, and what ends the service early, are lines of its log.
   * @throws ConveyorError if the Config is not valid
   */
  protected async runService(
    component: 'server' | 'worker',
    { flags, raw }: { flags: OptionValues; raw: CommandLine },
    run: (config: Config, io: SetupIo) => Promise<void>,
  ): Promise<void> {
    this.hideArguments()
    ignoreClosedOutput()
    const warnings: string[] = []
    let config: Config
    try {
      config = this.readConfig(flags, raw, (line) => warnings.push(line))
    } catch (error) {
      for (const line of warnings) this.say(line)
      throw error
    }
    const { openProcessLog } = await import('../app/process-log.ts')
    const { log, isJson } = await openProcessLog(config, component, process.stderr)
    for (const line of warnings) log(line)
    try {
      await run(config, { stdout: process.stdout, log })
    } catch (error) {
      const { text, exit } = asShown(error as Error)
      if (!isJson || text === null) throw error
      log(text, { level: 'fatal' })
      this.exit(exit)
    }
  }
}
