# Thin names for what .ci/run does; each can also be run as .ci/run <step>.
.PHONY: test race lint fuzz bench bench-proxy ci

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

# CPU of a request in the sidecar beside HAProxy and httputil.ReverseProxy; needs Debian's haproxy and wrk.
bench-proxy:
	HEDDLE_COMPARE=5 go test -run='^TestCompare$$' -v -timeout=30m ./proxy

ci:
	.ci/run
