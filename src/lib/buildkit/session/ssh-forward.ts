import { connect } from 'node:net'
import { type ServerDuplexStream, type ServerUnaryCall, type sendUnaryData, status } from '@grpc/grpc-js'
import { ConveyorError } from '../../core/errors.ts'
import type { BytesMessage, CheckAgentRequest, CheckAgentResponse } from '../gen/ssh.ts'

/** What a step is given that does not name one: `RUN --mount=type=ssh`. */
const DEFAULT_ID = 'default'
/** Where a call says which agent it is for. */
const ID_KEY = 'buildkit.ssh.id'

/**
 * The handlers of SSH: a step talks to the ssh agent at this socket, through us. Keys never leave the agent.
 * @param agent path of its socket; null: there is none
 * @param onError told when the agent does not answer
 */
export function forwardAgent(agent: string | null, onError: (error: Error) => void) {
  const known = (id: string) => agent !== null && (id === '' || id === DEFAULT_ID)
  return {
    checkAgent(
      { request }: ServerUnaryCall<CheckAgentRequest, CheckAgentResponse>,
      done: sendUnaryData<CheckAgentResponse>,
    ): void {
      if (known(request.ID)) done(null, {})
      else done({ code: status.NOT_FOUND, details: `no ssh agent is given to this build (id ${request.ID})` })
    },

    forwardAgent(call: ServerDuplexStream<BytesMessage, BytesMessage>): void {
      const id = call.metadata.get(ID_KEY)[0]?.toString() ?? DEFAULT_ID
      if (agent === null || !known(id)) {
        call.emit('error', { code: status.NOT_FOUND, details: `no ssh agent has the id ${id}` })
        return
      }
      const socket = connect(agent)
      call.on('data', ({ data }: BytesMessage) => {
        if (!socket.write(data)) call.pause()
      })
      socket.on('drain', () => call.resume())
      socket.on('data', (data) => {
        if (!call.write({ data })) socket.pause()
      })
      call.on('drain', () => socket.resume())
      call.on('end', () => socket.end())
      call.on('cancelled', () => socket.destroy())
      socket.on('end', () => call.end())
      socket.on('error', (error) => {
        const unavailable = new ConveyorError('unavailable', `the ssh agent at ${agent}: ${error.message}`, {
          cause: error,
          hint: 'Check that it runs, and --build.ssh',
        })
        // Once it talks, an end may be the step's own doing.
        if (socket.bytesRead === 0) onError(unavailable)
        call.emit('error', { code: status.UNAVAILABLE, details: unavailable.message })
      })
    },
  }
}
