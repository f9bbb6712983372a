import { ConveyorError } from '../core/errors.ts'
import { oneLine } from '../core/one-line.ts'
import { type Proxies, proxiesOf } from '../net/proxies.ts'
import { withAppFile } from './github/app-file.ts'
import type { Option } from './option.ts'
import { OptionReader, type OptionValues } from './option-reader.ts'
import { STORAGE } from './options/storage.ts'
import { readSettings, type Settings } from './options.ts'
import { passwordsOf } from './passwords.ts'
import { applyRules, type DerivedSettings } from './rules.ts'
import { withSecretFiles } from './secret-files.ts'
import { type TracingConfig, tracingOf } from './tracing.ts'

/** What is set by the environment alone. */
interface Machine {
  /** Directory of docker's config.json; null: ~/.docker. */
  dockerConfigDir: string | null
  /** The engine's address; null: its socket on this machine. */
  dockerHost: string | null
  /** How this machine reaches others. git reads its own from `git.environment`. */
  proxies: Proxies
  /** Null: no traces. */
  tracing: TracingConfig | null
  /** What is valid, but probably a mistake: one line each. */
  warnings: string[]
}

/** Everything that can be set, checked: the options of the table, and what follows from several of them. */
export type Config = Readonly<Omit<Settings, keyof DerivedSettings> & DerivedSettings & Machine>

/**
 * Checks option values, and turns them into a Config.
 * @param inFiles options whose secrets may be in files that variables name
 * @throws ConveyorError `invalid` that lists every problem, one a line: flag, variable, value, what is accepted.
 */
export function parseConfig(values: OptionValues, inFiles: readonly Option[] = []): Config {
  const known = withSecretFiles(values, inFiles, process.env)
  const { dataDir } = new OptionReader(known.values, process.env).read({ dataDir: STORAGE.dataDir })
  const kept = withAppFile(known.values, dataDir)
  const reader = new OptionReader(kept.values, process.env, [...known.problems, ...kept.problems])
  const settings = readSettings(reader)
  const resolved = applyRules(settings, reader, kept.inFile)
  const { problems, warnings } = reader
  if (problems.length > 0) {
    throw new ConveyorError(
      'invalid',
      `the configuration has ${count(problems)}:\n  ${problems.map(oneLine).join('\n  ')}`,
      { list: true },
    )
  }
  const proxies = proxiesOf(process.env)
  return Object.freeze({
    ...settings,
    ...resolved,
    dockerConfigDir: process.env.DOCKER_CONFIG ?? null,
    dockerHost: process.env.DOCKER_HOST || null,
    proxies,
    tracing: tracingOf(process.env),
    warnings: [...warnings, ...proxies.unusable.map(unusableProxy)],
  })
}

/** The secret values of a config, which no log may show. */
export function secretsOf(config: Config): string[] {
  const urls = [config.db, config.queue].map((part) => ('url' in part ? part.url : null))
  return [
    config.github.token,
    config.github.privateKey,
    config.github.clientSecret,
    config.github.secret,
    config.auth === 'none' ? null : config.auth?.password,
    ...urls.flatMap((url) => passwordsOf(url)),
    ...[...config.notify.urls, ...config.notify.secrets].map(({ value }) => value),
    ...[config.proxies.http, config.proxies.https].flatMap((proxy) => proxy?.secrets ?? []),
  ].filter((value) => value != null)
}

function unusableProxy(name: string): string {
  return `${name} is used by git only; for everything else, expected http://[USER:PASSWORD@]HOST[:PORT]`
}

function count(problems: string[]): string {
  return problems.length === 1 ? 'a problem' : `${problems.length} problems`
}
