// Loaded into a Conveyor process by tests, with --import: writes each response of its HTTP server to file descriptor 3, as
// lines of JSON. See started-servers.ts, which reads them.
import { channel } from 'node:diagnostics_channel'
import { Socket } from 'node:net'
import { isMainThread } from 'node:worker_threads'
import type { FastifyInstance } from 'fastify'
import { recordAnswer } from './answer.ts'
import type { Recorded } from './started-servers.ts'

if (isMainThread) {
  const output = new Socket({ fd: 3, readable: false })
  output.unref()
  // Nobody listens any more.
  output.on('error', () => {})
  const write = (recorded: Recorded) => void output.write(`${JSON.stringify(recorded)}\n`)

  channel('fastify.initialization').subscribe((message) => {
    const { fastify } = message as { fastify: FastifyInstance }
    fastify.addHook('onReady', async () => {
      // The one of `--metrics.port` has no description.
      if (!fastify.hasDecorator('openapi')) return
      let isDescribed = false
      fastify.server.prependListener('request', (request, response) => {
        recordAnswer(request, response, (answer) => {
          if (!isDescribed) write({ document: fastify.openapi(), baseUrl: fastify.site().url })
          isDescribed = true
          write({ answer })
        })
      })
    })
  })
}
