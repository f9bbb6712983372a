import { randomBytes, randomInt } from 'node:crypto'
import { writeFile } from 'node:fs/promises'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { start } from '../processes.ts'
import { tempDir } from '../temp.ts'

export interface StrangerRequest {
  method: string
  path: string
  headers?: Record<string, string>
  body?: string
}

interface StrangerAnswer {
  status: number
  body: string
}

/** Another machine on the network: a namespace with a virtual cable to this one. Needs root. */
export interface Stranger extends AsyncDisposable {
  /** Address of this machine in their network. */
  readonly address: string
  /** Sends requests to a port of this machine, and returns the first 64 kB of each response. */
  ask(port: number, requests: StrangerRequest[]): Promise<StrangerAnswer[]>
}

/** Runs in the namespace: takes requests as JSON, and prints the responses. */
const ASK = `
const http = require('node:http')
const [host, port, requests] = process.argv.slice(1)
const ask = ({ method, path, headers = {}, body }) => new Promise((resolve, reject) => {
  const sent = http.request({ host, port, method, path, headers, agent: false })
  sent.on('response', (answer) => {
    let body = ''
    answer.setEncoding('utf8').on('data', (text) => { body += text.slice(0, 65536 - body.length) })
    answer.on('end', () => resolve({ status: answer.statusCode, body }))
  })
  sent.on('error', reject)
  sent.end(body)
})
const all = async () => {
  const answers = []
  for (const one of JSON.parse(requests)) answers.push(await ask(one))
  return answers
}
all().then((answers) => process.stdout.write(JSON.stringify(answers)))
`

export async function startStranger(): Promise<Stranger> {
  await using resources = new AsyncDisposableStack()
  const folder = resources.use(await tempDir('conveyor-stranger-'))
  // The namespace exists as long as this mount, and removes the cable when it goes.
  const namespace = join(folder.path, 'net')
  await writeFile(namespace, '')
  await run('unshare', `--net=${namespace}`, 'true')
  resources.defer(async () => void (await run('umount', namespace)))

  const cable = `cs${randomBytes(4).toString('hex')}`
  const subnet = freeSubnet()
  await run('ip', 'link', 'add', cable, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', namespace)
  await run('ip', 'addr', 'add', `${subnet}.1/24`, 'dev', cable)
  await run('ip', 'link', 'set', cable, 'up')
  const inside = (...command: string[]) => run('nsenter', `--net=${namespace}`, ...command)
  await inside('ip', 'addr', 'add', `${subnet}.2/24`, 'dev', 'eth0')
  await inside('ip', 'link', 'set', 'eth0', 'up')
  await inside('ip', 'link', 'set', 'lo', 'up')

  const owned = resources.move()
  const address = `${subnet}.1`
  return {
    address,
    async ask(port, requests) {
      const output = await inside(
        process.execPath,
        '-e',
        ASK,
        address,
        String(port),
        JSON.stringify(requests),
      )
      return JSON.parse(output) as StrangerAnswer[]
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** The first three numbers of a /24 network that this machine is not part of. */
function freeSubnet(): string {
  const taken = Object.values(networkInterfaces()).flatMap((one) => one?.map(({ address }) => address) ?? [])
  for (;;) {
    const subnet = `10.${randomInt(128, 255)}.${randomInt(0, 256)}`
    if (!taken.some((address) => address.startsWith(`${subnet}.`))) return subnet
  }
}

async function run(command: string, ...args: string[]): Promise<string> {
  await using program = await start(command, args)
  const { code } = await program.exited
  if (code !== 0) throw new Error(`${command} ${args.join(' ')}: ${program.stderr() || program.stdout()}`)
  return program.stdout()
}
