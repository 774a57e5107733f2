# Thin names for what .ci/run does; each can also be run as .ci/run <step>.
.PHONY: test race lint fuzz bench bench-client bench-server bench-seeing bench-mtls bench-proxy bench-proxy-quick bench-tcp bench-dns bench-life bench-transparent bench-capture life faults soak interop ci

test:
	go test ./...

race:
	.ci/run race

lint:
	.ci/run vet format lint

fuzz:
	.ci/run fuzz

bench:
	go test -run='^$$' -bench=. ./...

# What a request costs in the sidecar beside HAProxy, nginx and httputil.ReverseProxy, into docs/performance.md. It needs Debian's
# haproxy, wrk and nghttp2-client, and takes nginx-light too. "make bench-proxy-quick" only shows that it works.
repetitions ?= 5
seconds ?= 3

bench-proxy:
	HEDDLE_COMPARE=$(repetitions) HEDDLE_COMPARE_SECONDS=$(seconds) HEDDLE_COMPARE_DOC=../docs/performance.md \
	  go test -run='^TestCompare$$' -count=1 -v -timeout=60m ./proxy

bench-proxy-quick:
	HEDDLE_COMPARE=1 HEDDLE_COMPARE_SECONDS=1 go test -run='^TestCompare$$' -count=1 -v -timeout=10m ./proxy

# What 1 MiB costs that passes through as TCP, beside HAProxy in mode tcp, and what idle connections cost: under 3 minutes.
bench-tcp:
	HEDDLE_COMPARE_TCP=$(repetitions) HEDDLE_COMPARE_SECONDS=$(seconds) go test -run='^TestCompareTCP$$' -count=1 -v -timeout=10m ./proxy

# What a request costs in the sidecar behind rules of the kernel, beside the same sidecar called on its ports. As root, with Debian's wrk, nftables and
# iproute2; some 160 s at 5 repetitions, 15 pairs, half of them for what the rules alone cost a server that is no sidecar.
bench-transparent:
	HEDDLE_COMPARE=$(repetitions) HEDDLE_NETNS=1 go test -run='^TestNamespaceTransparentCost$$' -count=1 -v -timeout=10m ./proxy

# How long the rules take to install, beside the start of nft alone. As root, with Debian's nftables, iptables and iproute2; under a minute.
bench-capture:
	HEDDLE_CAPTURE_BENCH=1 HEDDLE_NETNS=1 go test -run='^TestNamespaceInstallTime$$' -count=1 -v -timeout=3m ./internal/capture

# What a call costs in the program that makes it, beside http.Transport and otelhttp. It prints the tables of docs/performance.md.
bench-client:
	cd bench/client && go run -mod=mod . -repetitions $(repetitions) -seconds $(seconds)

# What a request costs in the program that serves it: net/http, Serve, and Serve with WithServerCodec.
bench-server:
	cd bench/client && go run -mod=mod . -only serve- -repetitions $(repetitions) -seconds $(seconds)

# What seeing costs: a call with metrics, a text access log and tracing that samples nothing, beside one with metrics alone, otelhttp and otelgrpc;
# each of them alone, memory and scrapes; requests beside a hundred scrapes. Under 3 minutes.
bench-seeing: seconds := 1

bench-seeing:
	cd bench/client && go run -mod=mod . -only see- -repetitions $(repetitions) -seconds $(seconds)
	go test -count=1 -v -run='^TestMemory$$' -bench='^Benchmark(Record|Scrape)$$' ./telemetry
	go test -count=1 -run='^$$' -bench='^Benchmark(Text|Log|Metrics)$$' ./telemetry/accesslog ./transport
	go test -count=1 -p=1 -v -run='^Test(AllocsOfSeeing|AccessLogAllocs|TraceAllocs)$$' ./internal/conformance ./proxy
	go test -count=1 -v -run='^TestAllocs$$' ./transport/grpcmesh
	HEDDLE_SCRAPES=100 go test -count=1 -v -run='^TestScrapeBesideTraffic$$' ./internal/conformance

# Both ends of a call: mutual TLS with all features beside plain net/http; and what idle connections cost.
idle ?= 10000

bench-mtls:
	cd bench/client && go run -mod=mod . -only pair- -repetitions $(repetitions) -seconds $(seconds)
	cd bench/client && go run -mod=mod . -role idle -goroutines $(idle)
	go test -run='^$$' -bench='Handshake|Sweep' ./identity ./transport

# What a program waits for an answer to a DNS query, beside a server that only sends back what it hears; and what 1,000 hosts cost.
bench-dns:
	go test -run='^$$' -bench='Answer|Zone' -benchtime=3s ./internal/dns

# Upstreams that break under load, for so long each: 40 minutes in all. docs/resilience.md says what is proved.
faults ?= 20s

faults:
	HEDDLE_FAULTS=$(faults) go test -count=1 -timeout=3h -v ./internal/faults

# A minute of each, and ten minutes of everything at once.
soak:
	HEDDLE_FAULTS=10m go test -count=1 -timeout=1h -v -run='^TestEverything$$' ./internal/faults
	$(MAKE) faults faults=60s

# How a sidecar ends, comes back and is replaced, with real processes: SIGTERM 200 times at 1,000 requests a second, 30,000 changes of its
# configuration (changes=60000 is all of attacks.md E-001), 50 takeovers, 30 s of standing still, 4,000 silent connections; and, as root, within
# control groups, 10,000 idle connections of each kind, 2,000 bodies that nobody reads (with nft and iptables installed), and a tenth of a processor.
# 8 to 15 minutes.
changes ?= 30000

life:
	HEDDLE_NETNS=1 HEDDLE_LIFE_TERMS=200 HEDDLE_LIFE_TAKEOVERS=50 HEDDLE_LIFE_CHANGES=$(changes) HEDDLE_LIFE_STREAMS=100 HEDDLE_LIFE_DOWNLOAD=100000000 HEDDLE_LIFE_PAUSE=30 \
	  HEDDLE_LIFE_SERVICES=1000 HEDDLE_LIFE_SILENT=4000 HEDDLE_LIFE_IDLE=10000 HEDDLE_LIFE_BODIES=1000 HEDDLE_LIFE_BODY=10000000 \
	  go test -count=1 -v -timeout=40m -run='^TestLife|^TestProxySnapshot' ./internal/cli

# What the released binary weighs with 1,000 services, idle connections and downloads that nobody reads, and how soon it serves. 2 minutes.
bench-life:
	HEDDLE_LIFE_BENCH=1 go test -count=1 -v -timeout=10m -run='^TestBench' ./internal/cli

# grpc-go's interoperability cases and connect-go's client, in the library and through sidecars.
interop:
	.ci/run interop

ci:
	.ci/run
