import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type Docker from 'dockerode'
import { BUSYBOX_IMAGE } from './base-images.ts'
import { finished } from './builder-images.ts'
import { ensureLayer, libraries } from './conveyor-image.ts'
import { tar } from './tar.ts'

/** Images that replace the official ones of Postgres and the registry, where nothing can be pulled. */
export interface ServiceImages {
  postgres: string
  registry: string
}

/**
 * Makes them from programs of this machine. They use the same variables and data folders as the official ones, and have
 * the programs that health checks use.
 */
export async function ensureServiceImages(docker: Docker): Promise<ServiceImages> {
  return {
    postgres: await makeImage(docker, 'postgres', await postgresFiles(), POSTGRES, POSTGRES_START),
    registry: await makeImage(docker, 'registry', await registryFiles(), REGISTRY, REGISTRY_START),
  }
}

const POSTGRES = `RUN ln -s /usr/lib/postgresql/* /postgres && echo postgres:x:999:999::/var/lib/postgresql:/bin/sh >> /etc/passwd && \\
  echo postgres:x:999: >> /etc/group && mkdir -p /var/lib/postgresql/data && chown -R 999:999 /var/lib/postgresql
ENV PATH=$PATH:/postgres/bin PGDATA=/var/lib/postgresql/data
VOLUME /var/lib/postgresql/data
STOPSIGNAL SIGINT`
const POSTGRES_START = `#!/bin/sh
set -e
[ "$(id -u)" != 0 ] || exec su postgres -c "exec $0"
if [ ! -e "$PGDATA/PG_VERSION" ]; then
  printf %s "$POSTGRES_PASSWORD" > /tmp/password
  initdb --pgdata "$PGDATA" --username "$POSTGRES_USER" --pwfile /tmp/password --auth-host scram-sha-256 \\
    --auth-local trust --encoding UTF8 --locale C
  echo "host all all all scram-sha-256" >> "$PGDATA/pg_hba.conf"
  echo "create database $POSTGRES_DB" | postgres --single -D "$PGDATA" postgres
fi
exec postgres -D "$PGDATA" -c 'listen_addresses=*' -c unix_socket_directories=/tmp
`
const REGISTRY = 'VOLUME /var/lib/registry'
const REGISTRY_START = `#!/bin/sh
cat > /tmp/config.yml <<END
version: 0.1
storage: {filesystem: {rootdirectory: /var/lib/registry}}
http: {addr: ":5000"}
END
exec docker-registry serve /tmp/config.yml
`

async function makeImage(
  docker: Docker,
  name: string,
  files: string[],
  instructions: string,
  start: string,
): Promise<string> {
  const paths = [...new Set(files)].map((path) => path.slice(1)).sort()
  const base = await ensureLayer(docker, name, BUSYBOX_IMAGE, '/', paths, '')
  const image = `conveyor-test/${name}:compose`
  const dockerfile = `FROM ${base}\nCOPY start /start\n${instructions}\nENTRYPOINT ["/start"]\n`
  const context = tar([
    { path: 'Dockerfile', content: dockerfile },
    { path: 'start', content: start, mode: 0o755 },
  ])
  // RUN steps need a network if the engine has no bridge, although these do not use it.
  await finished(docker, await docker.buildImage(context, { t: image, networkmode: 'none' }))
  return image
}

/** Where Debian installs the servers of each version. */
const DEBIAN = '/usr/lib/postgresql'

async function postgresFiles(): Promise<string[]> {
  const version = (await readdir(DEBIAN)).sort((a, b) => Number(b) - Number(a))[0] ?? ''
  const bin = join(DEBIAN, version, 'bin')
  const programs = ['postgres', 'initdb', 'pg_isready'].map((name) => join(bin, name))
  const modules = join(DEBIAN, version, 'lib')
  const loaded = (await readdir(modules)).filter((name) => name.endsWith('.so'))
  const needed = await Promise.all(programs.map(libraries))
  return [
    ...programs,
    ...loaded.map((name) => join(modules, name)),
    ...[join('/usr/share/postgresql', version), ...needed.flat()],
  ]
}

async function registryFiles(): Promise<string[]> {
  const program = '/usr/bin/docker-registry'
  return [program, ...(await libraries(program))]
}
