# Every target prepares what it needs (bin/setup.sh) on a machine where nothing was installed by hand.
# npm scripts run on the Node in node_modules, whatever the machine has.

.PHONY: help setup-node setup setup-tests build bootstrap demo test check bench clean

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

setup-node:
	@bin/setup.sh node

setup:
	@bin/setup.sh

setup-tests: setup
	@bin/setup.sh test

build: setup-node ## Compile to dist/
	@npm run -s build

bootstrap: build ## Make ssh key, settings, builder image; ARGS="--help" lists its flags
	@node_modules/.bin/node --disable-warning=ExperimentalWarning bin/run.js bootstrap $(ARGS)

demo: setup build ## Watch a git push become an image
	@npm run -s demo

check: setup-node ## Lint and check types
	@npm run -s check

test: setup-tests build check ## Check, and run all tests on a real engine, registry and git server
	@npm test

bench: setup-tests build ## Measure against other ways to build an image
	@npm run -s bench

clean: ## Remove what was built, with the private engine's images
	rm -rf --one-file-system dist oclif.manifest.json .conveyor
