import { realpathSync } from 'node:fs'
import { access, mkdir, realpath } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type PrivateEngine, startPrivateEngine } from './engines/engine.ts'
import { projectRoot } from './processes.ts'
import { tempDir } from './temp.ts'

/** How an engine stores images: in its own graph driver, or in containerd, the default of new engines. */
export type ImageStore = 'classic' | 'containerd'

export interface TrixieEngineOptions {
  store: ImageStore
  /** Kept, because its layers belong to root. Default: a temporary folder, removed when disposed. */
  dataDir?: string
}

/** The root file system that `bin/setup.sh test` created with trixie-root.sh. */
const ROOT = join(projectRoot, '.conveyor/trixie')

/**
 * Execs a program of the folder: `sh -c ENTER ROOT FOLDERS PROGRAM ARGS`. The folder becomes the root (runc needs a
 * real one, not a chroot) of a mount namespace that ends with its last process. FOLDERS, one per line, are this
 * machine's folders, at the same paths inside; all other writes go to memory, so any number of engines can share the
 * folder, and none changes it.
 */
const ENTER = `set -eu
root=$0 folders=$1
shift
mount -t tmpfs tmpfs "$root/run"
mkdir "$root/run/upper" "$root/run/work"
mount -t overlay -o "lowerdir=$root,upperdir=$root/run/upper,workdir=$root/run/work" overlay "$root"
cd "$root"
cp /etc/hosts /etc/resolv.conf etc
for name in proc sys dev; do mount --rbind "/$name" "$name"; done
mount -t tmpfs tmpfs run
echo "$folders" | while read -r folder; do
  mkdir -p ".$folder"
  mount --rbind "$folder" ".$folder"
done
mkdir run/outside
pivot_root . run/outside
umount -l /run/outside
cd /
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin exec "$@"`

/**
 * A command that execs the program given after it, with trixie as its root.
 * @param folders of this machine, visible at the same paths; the temporary folder is always included
 */
export function insideTrixie(folders: string[]): string[] {
  return [
    ...['unshare', '--mount', '--propagation', 'private'],
    ...['sh', '-c', ENTER, ROOT, [realpathSync(tmpdir()), ...folders].join('\n')],
  ]
}

/**
 * Docker Engine 26.1 of Debian trixie, independent of any other engine. It shares this machine's network: a registry on
 * 127.0.0.1 is reached without TLS, and RUN steps use the network `host`. Needs root.
 */
export async function startTrixieEngine({ store, dataDir }: TrixieEngineOptions): Promise<PrivateEngine> {
  await access(join(ROOT, 'recipe')).catch(() => {
    throw new Error(`${ROOT} does not exist. Run \`bin/setup.sh test\` as root on Debian to create it`)
  })
  const temporary = dataDir === undefined ? await tempDir('conveyor-trixie-') : null
  const data = dataDir ?? temporary?.path ?? ''
  await mkdir(data, { recursive: true })
  try {
    return await startPrivateEngine(data, {
      removeData: temporary !== null,
      within: insideTrixie([await realpath(data)]),
      config: { features: { 'containerd-snapshotter': store === 'containerd' } },
    })
  } catch (error) {
    await temporary?.[Symbol.asyncDispose]()
    throw error
  }
}
