# make help tells what there is.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo 0.0.0-dev)
COMMIT  ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
BUILT   ?= $(shell git log -1 --format=%cI 2>/dev/null)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT) -X main.built=$(BUILT)
# In executions: by time, the fuzzer now and then fails at its own deadline.
FUZZTIME ?= 15000x

# Debian packages that the tests need, each with a file by which it is known.
PACKAGES := mosquitto mosquitto-clients dbus-daemon gpsd e2fsprogs openssl python3-jinja2 python3-paho-mqtt

.PHONY: help run test deps build docs lint fuzz conformance torture bench-obd bench-gps bench-publish bench-spool bench-live bench-emergency bench-memory clean

help: ## Tell what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: build ## Run the demo: virtual vehicle, embedded broker, samples as they arrive (needs Go only)
	@bin/telemetryd demo

# Packages wait for other processes most of the time: three at once keep two processors busy.
test: deps ## Run every test with the race detector; installs what the tests need
	go vet ./...
	go test -race -p 3 -timeout 8m ./...
	$(MAKE) --no-print-directory fuzz

# RUNLEVEL=1 keeps packages from starting their services.
deps: ## Install the Debian packages that the tests need (does nothing when they are there)
	@missing=""; for p in $(PACKAGES); do \
		dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'install ok installed' || missing="$$missing $$p"; done; \
	[ -z "$$missing" ] && exit 0; \
	sudo=""; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	echo "installing:$$missing"; \
	$$sudo apt-get update -q && \
	$$sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -q -y --no-install-recommends $$missing

build: ## Build bin/telemetryd for this machine (GOOS, GOARCH, GOARM for another)
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/telemetryd ./cmd/telemetryd

docs: ## Write docs/signals.md from the signal table, and the messages in docs/brokers.md
	go test ./internal/telemetry -run TestSignalsDoc -update
	go test ./internal/publish -run TestMessages -update

lint: ## Check formatting, vet, go fix and staticcheck
	@files=$$(gofmt -l .); [ -z "$$files" ] || { echo "gofmt: $$files"; exit 1; }
	go vet ./...
	cd tools/bench && go vet ./...
	@changes=$$(go fix -diff ./... 2>&1); [ -z "$$changes" ] || { echo "$$changes"; exit 1; }
	go tool -modfile=tools/go.mod staticcheck ./...

fuzz: ## Run each fuzz target FUZZTIME (15000x; make fuzz FUZZTIME=10m for long)
	@go list -f '{{$$p := .ImportPath}}{{range .TestGoFiles}}{{$$p}} {{$$.Dir}}/{{.}}{{"\n"}}{{end}}' ./... | while read pkg file; do \
		[ -n "$$file" ] || continue; \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' $$file); do \
			echo "fuzz $$pkg $$target"; \
			go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x $$pkg || exit 1; \
		done; done

conformance: ## Score decode gps on recorded streams: LOGS=DIR with NAME.log and gpsd's NAME.log.chk (CAUSES=1 tells of each epoch that disagrees)
	@[ -n '$(LOGS)' ] || { \
		echo "make conformance needs a folder: make conformance LOGS=DIR [CAUSES=1]"; \
		echo "DIR holds recorded streams NAME.log and beside each NAME.log.chk, what gpsd made of it (JSON lines with class TPV)."; \
		exit 2; }
	@[ -d '$(LOGS)' ] || { echo "make conformance: $(LOGS) is no folder"; exit 2; }
	@logs=$$(cd '$(LOGS)' && pwd) && cd cmd/telemetryd && CONFORMANCE_LOGS="$$logs" CONFORMANCE_CAUSES='$(CAUSES)' go test -count=1 -run '^TestConformance$$'

torture: deps ## Run the long forms: an hour of kills, black holes and full disks, power cuts of the buffer, a day of driving with faults (about 1.5 hours)
	TORTURE_FOR=1h go test -race -count=1 -timeout 130m -run '^TestTorture$$' -v ./cmd/telemetryd
	TORTURE_SEEDS=20 go test -race -timeout 60m -run TestPowerCut -v ./internal/spool
	OBD_TORTURE_FOR=10m OBD_CEILING_FOR=5m go test -race -timeout 30m -run 'TestTorture|TestCeiling' -v ./internal/obd

bench-obd: ## Measure the OBD reader beside an ideal loop and elmobd's own client
	go test -run '^$$' -bench Readers -benchtime 10s -timeout 30m ./internal/obd

bench-gps: deps ## Measure the CPU that a GPS receiver of 10 Hz costs, beside gpsd
	go test -run '^$$' -bench Receiver -benchtime 40x -timeout 5m ./cmd/telemetryd

bench-publish: deps ## Measure how fast a backlog leaves, beside a bare paho sender and mosquitto's bridge, at 0, 50 and 100 ms round trip
	go test -run '^$$' -bench Drain -benchtime 3x -timeout 15m ./internal/publish

# tools/bench is a module of its own: the peers of the buffer are none of the product's. Disks
# and network devices are made in a namespace of their own, which takes them along at any end;
# without the right to one, what needs it is left out, and says so.
BENCH := $(CURDIR)/bin/bench.test
AS_ROOT := $(shell unshare --mount true 2>/dev/null && echo unshare --mount)
OWN_NET := $(shell for u in 'unshare --net' 'unshare --net --map-root-user'; do $$u true 2>/dev/null && echo $$u && break; done)

.PHONY: bench
bench: deps build
	cd tools/bench && go test -c -o $(BENCH) .

bench-spool: bench ## Measure the buffer beside files and bbolt: append, drain, start, bytes written to the device (LONG=1: those for 10 minutes)
	cd tools/bench && nice $(BENCH) -test.run '^$$' -test.bench 'Append|Drain' -test.timeout 10m
	cd tools/bench && status=0; \
		nice $(BENCH) -test.run TestOpen -test.v -test.timeout 10m || status=1; \
		$(if $(LONG),WEAR_FOR=10m) nice $(AS_ROOT) $(BENCH) -test.run TestWear -test.v -test.timeout 15m || status=1; exit $$status

bench-live: bench ## Measure what a live batch waits for behind a backlog, at 1 Mbit/s and 100 ms (LONG=1: 1 GB, for 10 minutes)
	cd tools/bench && $(if $(LONG),LIVE_FOR=10m LIVE_BEFORE=3m) nice $(OWN_NET) $(BENCH) -test.run TestLive -test.v -test.timeout 20m

bench-emergency: bench ## Measure how long an emergency takes to the broker behind 100 MB of backlog, at 1 Mbit/s and 100 ms
	cd tools/bench && nice $(OWN_NET) $(BENCH) -test.run TestEmergency -test.v -test.timeout 10m

bench-memory: bench ## Measure the most memory of the daemon with 1 GB of backlog (LONG=1: for 5 minutes a case)
	cd tools/bench && $(if $(LONG),MEMORY_FOR=5m) nice $(OWN_NET) $(BENCH) -test.run TestMemory -test.v -test.timeout 30m

clean: ## Remove what was built
	rm -rf bin
