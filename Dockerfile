# Conveyor as an image: `docker build .` for servers and workers, `docker build --target builder .` for the builder
# image (`--builder image`; `conveyor bootstrap` builds it). Before Docker 23, set DOCKER_BUILDKIT=1.

# Any image of Node 24 on Debian. git, ssh, and tini are installed if it lacks them.
ARG NODE_IMAGE=node:24-slim
# Sources of /app/node_modules and /app/dist: the stages below, or images that already contain them.
ARG MODULES=modules
ARG COMPILED=compiled

FROM ${NODE_IMAGE} AS sources
WORKDIR /app
COPY package.json package-lock.json ./

FROM sources AS modules
# For a private npm registry: docker build --secret id=npmrc,src=$HOME/.npmrc
RUN --mount=type=cache,target=/root/.npm --mount=type=secret,id=npmrc,target=/root/.npmrc \
    npm ci --omit=dev --ignore-scripts --no-audit --no-fund

FROM sources AS compiled
RUN --mount=type=cache,target=/root/.npm --mount=type=secret,id=npmrc,target=/root/.npmrc \
    npm ci --ignore-scripts --no-audit --no-fund
COPY tsconfig.json ./
COPY bin/run.js bin/
COPY src src
RUN npm run build

# Stages named after the arguments, because COPY --from does not expand variables.
FROM ${MODULES} AS chosen-modules
FROM ${COMPILED} AS chosen-code

FROM ${NODE_IMAGE} AS core
RUN if ! command -v git >/dev/null || ! command -v ssh >/dev/null || ! command -v tini >/dev/null; then \
      apt-get update && apt-get install -y --no-install-recommends ca-certificates git openssh-client tini \
      && rm -rf /var/lib/apt/lists/*; \
    fi
WORKDIR /app
COPY --from=chosen-modules /app/node_modules node_modules
COPY --from=chosen-code /app/oclif.manifest.json ./
COPY --from=chosen-code /app/dist dist
COPY package.json ./
COPY bin/run.js bin/
# OpenShift runs it as an arbitrary user in group 0.
RUN ln -s /app/bin/run.js /usr/local/bin/conveyor && mkdir -p /var/lib/conveyor \
    && chown 1000:0 /var/lib/conveyor && chmod 775 /var/lib/conveyor
ENV NODE_ENV=production DATA_DIR=/var/lib/conveyor NODE_COMPILE_CACHE=/app/.compile-cache
# Fills the compile cache with what a build loads, so that containers start a second earlier. (Exit code 2: no such repository.)
RUN conveyor builder --repository none --sha none || [ $? -eq 2 ]

# The builder image: one build per container, configured through REPOSITORY, SHA, BRANCH, DRY, and CACHE, in the engine
# whose socket is mounted. The SSH key and logins come from the container `data`; links put them where git and docker
# look for them, too, for images built FROM this one. The worker that started the container enforces the time limit.
FROM core AS builder
RUN ln -sfn /var/run/conveyor/.ssh /root/.ssh && ln -sfn /var/run/conveyor/.docker /root/.docker
ENV DOCKER_CONFIG=/var/run/conveyor/.docker \
    GIT_SSH_KEY=/var/run/conveyor/.ssh/id_rsa \
    GIT_URL=git@github.com:{repository}.git \
    TIMEOUT=24h
# The first process of a container inherits orphaned children and must reap them: tini does, Node does not.
ENTRYPOINT ["tini", "--", "conveyor", "builder"]

FROM core AS conveyor
USER 1000:1000
VOLUME /var/lib/conveyor
EXPOSE 8080
# Checks that `conveyor server` is alive. Disable it for `conveyor worker`, which does not listen.
HEALTHCHECK --interval=15s --timeout=5s --start-period=15s \
  CMD ["node", "-e", "fetch(`http://127.0.0.1:${process.env.PORT || 8080}/healthz`).then((answer) => process.exit(answer.ok ? 0 : 1), () => process.exit(1))"]
ENTRYPOINT ["tini", "--", "conveyor"]
CMD ["server"]
