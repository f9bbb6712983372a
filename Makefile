# Every target installs what it needs (bin/setup.sh), even on a fresh machine.
# npm scripts run on the Node in node_modules, whatever the machine has.

# Node's compiled code stays in the project.
export NODE_COMPILE_CACHE ?= $(CURDIR)/.conveyor/compile-cache

.PHONY: help setup-node setup setup-tests build bootstrap demo test check bench clean

help: ## List the targets
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup-node:
	@bin/setup.sh node

setup:
	@bin/setup.sh

setup-tests: setup
	@bin/setup.sh test

build: setup-node ## Compile to dist/
	@npm run -s build

bootstrap: build ## Create the SSH key, settings, and builder image; ARGS="--help" lists its flags
	@node_modules/.bin/node --disable-warning=ExperimentalWarning bin/run.js bootstrap $(ARGS)

demo: setup build ## Show a git push becoming an image
	@npm run -s demo

check: setup-node ## Lint and check types
	@npm run -s check

test: setup-tests build check ## Run all checks, and all tests against a real engine, registry, and git server
	@npm test

bench: setup-tests build ## Run the benchmarks against other image builders
	@npm run -s bench

clean: ## Remove build output, and the private engine with its images
	rm -rf --one-file-system dist oclif.manifest.json .conveyor
