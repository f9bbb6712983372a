import { createHmac } from 'node:crypto'
import type { BuiltFrom } from '../../builder/builder.ts'
import type { BaseImage } from '../../core/build.ts'
import type { BuildSettings } from '../../core/settings.ts'
import type { MadeFrom, MadeFromBase } from '../../core/timeline.ts'
import type { Instruction } from '../../dockerfile/instructions.ts'
import { lineOf } from '../../dockerfile/outline.ts'
import { imageNamed } from '../reuse/base-images.ts'

export interface Making {
  instructions: Instruction[] | null
  settings: BuildSettings
  /** As reported by BuildKit. */
  images: BuiltFrom['images']
  /** As recorded with the image; null if they are not known for certain. */
  bases: BaseImage[] | null
  /** Masks secrets. */
  redact: (text: string) => string
  /** Keeps the values of settings from being guessed from their hashes. */
  key: Uint8Array
}

/** What a build is made from, for comparison with other builds. */
export function madeFrom({ instructions, settings, images, bases, key, redact }: Making): MadeFrom {
  return {
    instructions: instructions?.map((one) => redact(lineOf(one))) ?? null,
    bases: basesOf(images, bases),
    settings: Object.fromEntries(
      settingsOf(settings).map(([name, value]) => [
        name,
        createHmac('sha256', key).update(`${name}\0${value}`).digest('hex').slice(0, 32),
      ]),
    ),
  }
}

function basesOf(images: Making['images'], bases: Making['bases']): MadeFromBase[] {
  if (bases) {
    return bases.map(({ name, digest, resolved }) => ({
      ...{ name: imageNamed(name).name, digest },
      ...(resolved === 'engine' ? { local: true as const } : {}),
    }))
  }
  return images.map(({ name, digest }) => ({ name: imageNamed(name).name, digest }))
}

/** Settings that affect steps, by the names that people know them under. Those that are not set are left out. */
function settingsOf(settings: BuildSettings): [string, string][] {
  const { buildArgs, network, platforms, hosts, ulimits, contexts } = settings
  const prefixed = (prefix: string, values: Record<string, string>) =>
    Object.entries(values).map(([name, value]): [string, string] => [`${prefix} ${name}`, value])
  return [
    ...prefixed('build-arg', buildArgs),
    ...(network === null ? [] : [['network', network] as [string, string]]),
    ...(platforms.length === 0 ? [] : [['platform', platforms.join(',')] as [string, string]]),
    ...prefixed('host', hosts),
    ...prefixed('ulimit', ulimits),
    ...prefixed('context', contexts),
  ]
}
