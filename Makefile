# Thin names for what .ci/run does; each can also be run as .ci/run <step>.
.PHONY: test race lint fuzz bench ci

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

ci:
	.ci/run
