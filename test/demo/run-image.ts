import { text } from 'node:stream/consumers'
import { setTimeout as delay } from 'node:timers/promises'
import type Docker from 'dockerode'
import { pulled } from '../support/images/pulled.ts'

/**
 * Runs an image as a service in a container without a network, and sends it a request from inside.
 * @param path of the request to port 8080
 * @returns what the container printed and what it answered
 */
export async function runImage(
  docker: Docker,
  image: string,
  path: string,
): Promise<{ printed: string; answer: string }> {
  await pulled(docker, image)
  const container = await docker.createContainer({
    Image: image,
    Tty: true, // otherwise the log is multiplexed
    HostConfig: { NetworkMode: 'none' },
  })
  try {
    await container.start()
    const printed = await waitForOutput(container, /listens/)
    const answer = await execute(container, ['wget', '-q', '-O-', `http://127.0.0.1:8080${path}`])
    return { printed, answer }
  } finally {
    await container.remove({ force: true })
  }
}

async function waitForOutput(container: Docker.Container, pattern: RegExp): Promise<string> {
  const deadline = performance.now() + 15_000
  for (;;) {
    const { State } = await container.inspect()
    const log = (await container.logs({ stdout: true, stderr: true })).toString().trimEnd()
    if (pattern.test(log)) return log
    if (!State.Running || performance.now() > deadline) {
      throw new Error(`the container did not print ${pattern}. Its output: ${log || 'none'}`)
    }
    await delay(20)
  }
}

async function execute(container: Docker.Container, command: string[]): Promise<string> {
  const exec = await container.exec({ Cmd: command, AttachStdout: true, AttachStderr: true, Tty: true })
  const output = (await text(await exec.start({ Tty: true }))).trimEnd()
  const { ExitCode } = await exec.inspect()
  if (ExitCode !== 0) throw new Error(`${command.join(' ')} exited with status ${ExitCode}: ${output}`)
  return output
}
