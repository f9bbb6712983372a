// For bin/setup.sh: exits with 0 if a Docker engine answers at DOCKER_HOST or the default socket, and with 3 if none does.
import { findEngine } from './engine.ts'

process.exitCode = (await findEngine()) ? 0 : 3
