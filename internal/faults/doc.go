// Package faults proves what the mesh promises when things break: nothing is done twice that must not be, and no byte is
// lost, doubled or another's. It holds tests only. Layer L10.
//
// Three upstreams keep a ledger: every request that reaches them, with its identity, how many bytes came and what they
// hash to, is written down before anything is done about it. A client sends requests at a steady rate, whether or not
// answers come, and notes what it is told. One upstream, or all, then breaks in one of the ways of the table
// in faults_test.go, and mends. At the end the two books are joined: by identities and counts, never by the clock.
//
//	go test ./internal/faults                                  # a few requests for each fault
//	HEDDLE_FAULTS=20s go test -timeout=2h ./internal/faults    # 20 seconds of it
//
// Each fault is met by the library on both its HTTP/1.1 transports and by the sidecar, with real connections. What needs
// an exact clock runs on a fake one, with package meshtest (clock_test.go, slides_test.go).
package faults
