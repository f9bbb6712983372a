import { connect } from 'node:net'
import { type ServerDuplexStream, type ServerUnaryCall, type sendUnaryData, status } from '@grpc/grpc-js'
import { ConveyorError } from '../../core/errors.ts'
import type { BytesMessage, CheckAgentRequest, CheckAgentResponse } from '../gen/ssh.ts'

/** The id of an agent if a step names none: `RUN --mount=type=ssh`. */
const DEFAULT_ID = 'default'
/** The metadata key of the agent's id. */
const ID_KEY = 'buildkit.ssh.id'

/**
 * The handlers of SSH: forward connections of steps to an SSH agent. Keys never leave the agent.
 * @param agent path of its socket; null for none
 * @param onError called if the agent does not respond
 */
export function forwardAgent(agent: string | null, onError: (error: Error) => void) {
  const known = (id: string) => agent !== null && (id === '' || id === DEFAULT_ID)
  return {
    checkAgent(
      { request }: ServerUnaryCall<CheckAgentRequest, CheckAgentResponse>,
      done: sendUnaryData<CheckAgentResponse>,
    ): void {
      if (known(request.ID)) done(null, {})
      else
        done({
          code: status.NOT_FOUND,
          details: `no SSH agent is configured for this build (id ${request.ID})`,
        })
    },

    forwardAgent(call: ServerDuplexStream<BytesMessage, BytesMessage>): void {
      const id = call.metadata.get(ID_KEY)[0]?.toString() ?? DEFAULT_ID
      if (agent === null || !known(id)) {
        call.emit('error', { code: status.NOT_FOUND, details: `there is no SSH agent with the id ${id}` })
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
        const unavailable = new ConveyorError(
          'unavailable',
          `the SSH agent at ${agent} failed: ${error.message}`,
          {
            cause: error,
            hint: 'Check that it is running and that --build.ssh is correct',
          },
        )
        // Once it has responded, the step itself may have closed the connection.
        if (socket.bytesRead === 0) onError(unavailable)
        call.emit('error', { code: status.UNAVAILABLE, details: unavailable.message })
      })
    },
  }
}
