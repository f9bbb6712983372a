import type { FastifyRequest } from 'fastify'
import { ConveyorError } from '../../core/errors.ts'

/** A parameter of the query. @throws ConveyorError `invalid` if it is given more than once */
export function query(request: FastifyRequest, name: string): string | undefined {
  const value = (request.query as Record<string, string | string[] | undefined>)[name]
  if (Array.isArray(value)) throw new ConveyorError('invalid', `${name} is given more than once`)
  return value
}

/** A parameter that is true or false. @throws ConveyorError `invalid` if it is neither */
export function flag(request: FastifyRequest, name: string, absent: boolean): boolean {
  const text = query(request, name)
  if (text !== undefined && text !== 'true' && text !== 'false') {
    throw new ConveyorError('invalid', `${name} must be true or false`)
  }
  return text === undefined ? absent : text === 'true'
}
