# heartwatch: what a person does with it from a checkout. `make help` lists it.

CARGO ?= cargo
BIN := target/release/heartwatch
DEBUG := target/debug/heartwatch
DIST := target/dist/heartwatch
# The real servers that the tests start; all of them are Debian packages.
SERVICES := maven openjdk-17-jdk-headless nodejs python3 libseccomp2 systemd influxdb mosquitto mosquitto-clients libfaketime openssl victoria-metrics python3-aiosmtpd chromium collectd-core libmosquitto1 etcd-server etcd-client iproute2 valgrind strace

.PHONY: docs sbom help build debug demo-scenario-1 demo-scenario-2 demo-scenario-3 demo-cluster test lint services kafka tools bench instructions prove fixtures pictures up down dist clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## /{printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build the program (target/release/heartwatch)
	$(CARGO) build --release --locked

# The demos take the build that `make test` shares: optimising is nearly half of the work, and would come before the first thing that one sees.
debug: ## build it sooner, without optimisation (target/debug/heartwatch): for the demos
	$(CARGO) build --locked

demo-scenario-1: debug ## two publishers work: both alive
	./$(DEBUG) demo 1

demo-scenario-2: debug ## one publisher is killed: it is dead, the other alive
	./$(DEBUG) demo 2

demo-scenario-3: debug ## both publishers are killed: both dead
	./$(DEBUG) demo 3

demo-cluster: debug kafka ## etcd, Kafka, a server, two agents: a live configuration, a command, a worker killed
	./$(DEBUG) demo cluster

test: services ## every test, against real servers where this machine has them
	$(CARGO) test --locked --no-fail-fast

# Installs what is missing when it can (Debian, root); otherwise says which tests will be skipped.
services: ## install the real servers that the tests use (Debian packages, as root)
	@missing=; for package in $(SERVICES); do \
	  dpkg-query -W -f='$${Status}' $$package 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$package"; done; \
	if [ -z "$$missing" ]; then exit 0; fi; \
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "installing$$missing"; \
	  printf '#!/bin/sh\nexit 101\n' > /tmp/heartwatch-policy-rc.d; \
	  [ -e /usr/sbin/policy-rc.d ] || install -m 755 /tmp/heartwatch-policy-rc.d /usr/sbin/policy-rc.d; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; status=$$?; \
	  cmp -s /tmp/heartwatch-policy-rc.d /usr/sbin/policy-rc.d && rm -f /usr/sbin/policy-rc.d; exit $$status; \
	else echo "skipped: not installed and not root on Debian:$$missing; tests that need them will say so"; fi
	@$(MAKE) --no-print-directory kafka

# Kafka is no Debian package. Where Maven Central is not reached, the tests that need it say so and skip.
kafka: ## fetch the Kafka that the tests use from Maven Central, where it is reached
	@if [ -n "$$(ls target/kafka/libs 2>/dev/null)" ]; then exit 0; fi; \
	command -v mvn >/dev/null || { echo "skipped: no Kafka (mvn is not installed)"; exit 0; }; \
	mvn -q -B -f deploy/kafka/pom.xml dependency:copy-dependencies -DoutputDirectory=$(CURDIR)/target/kafka/partial \
	  && mkdir -p target/kafka && mv target/kafka/partial target/kafka/libs \
	  || echo "skipped: no Kafka (Maven Central not reached)"

tools:
	@command -v cargo-machete >/dev/null || $(CARGO) install --locked cargo-machete
	@command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny

lint: tools ## format, clippy with warnings denied for each feature set, the import test, the documentation, dependencies and their licences
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	@for features in '' hosts kafka scripts hosts,kafka; do echo "clippy with only the features '$$features'"; \
	  $(CARGO) clippy --locked --no-default-features --features "$$features" -- -D warnings || exit 1; done
	$(CARGO) test --locked --test documents architecture::
	$(CARGO) machete
	$(CARGO) deny --locked check bans licenses sources
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --locked --no-deps --workspace
	@! $(CARGO) tree --locked --edges no-dev,features --invert fail | grep failpoints || { echo 'what users get has failpoints'; false; }

docs: ## build one book of docs/ (target/book), where mdBook is installed
	@command -v mdbook >/dev/null || { echo 'mdbook is not installed: `cargo install mdbook` gives it'; exit 1; }
	mdbook build

sbom: ## the bill of materials (CycloneDX) of the program that users get: target/dist/heartwatch.cdx.json
	@command -v cargo-cyclonedx >/dev/null || $(CARGO) install --locked cargo-cyclonedx
	$(CARGO) cyclonedx --quiet --format json --override-filename heartwatch.cdx
	@mkdir -p target/dist && mv heartwatch.cdx.json target/dist/ && rm -f crates/*/heartwatch.cdx.json
	@echo target/dist/heartwatch.cdx.json

bench: dist kafka ## measure the program as it is handed to users, on this machine
	./$(DIST) bench ingest
	./$(DIST) bench ingest --batch 500 --apart --times 3
	./$(DIST) bench cpu
	./$(DIST) bench delivery
	./$(DIST) bench detect
	./$(DIST) bench notify
	./$(DIST) bench recover --times 3
	./$(DIST) bench watch
	./$(DIST) bench watch --processes --publishers 1000000
	./$(DIST) bench footprint
	./$(DIST) bench server

instructions: ## count the instructions of the hot paths, and hold them to benches/instructions.csv (ACCEPT=--accept writes it)
	$(CARGO) bench --locked --profile dev --bench instructions -- $(ACCEPT)

prove: build ## inject faults and print what was detected, and how fast
	./$(BIN) prove

fixtures: ## make the CSV fixtures again
	$(CARGO) run --locked --example generate_fixtures

# `script` (util-linux) gives the demo a terminal to write to, so that the picture has its colours.
pictures: build ## make the pictures again, from real runs: the demo in a terminal, the page, the plots of the scenarios and dashboards in Chromium
	$(CARGO) test --locked --test page pictures:: -- --ignored
	script -qec 'stty cols 118; ./$(BIN) demo 2 2>/dev/null' /dev/null </dev/null >target/demo-2.ansi
	$(CARGO) run --locked --quiet --example terminal_picture 'make demo-scenario-2' <target/demo-2.ansi >docs/img/demo-2.svg

COMPOSE := docker compose -f deploy/compose/compose.yaml

up: ## the whole stack with Docker Compose; Grafana on http://127.0.0.1:3000 (PROFILE=full adds etcd and Kafka)
	$(COMPOSE) $(if $(PROFILE),--profile $(PROFILE)) up --detach --build --wait
	@echo "Grafana http://127.0.0.1:3000/  the page http://127.0.0.1:8080/"

down: ## stop the stack; its data stays in its volumes
	$(COMPOSE) --profile full down

dist: ## the program as it is handed to users (target/dist/heartwatch): smaller, slower to build
	$(CARGO) build --profile dist --locked

# Not data/: it may hold readings that nobody has confirmed yet.
clean: ## remove what was built
	$(CARGO) clean
