// Package sidecar is the mesh for a program that is not written in Go, in two commands. There is no code here:
// the programs are any that serve HTTP, and any that know http_proxy.
//
// A service behind its sidecar, which takes its callers' requests on port 9080:
//
//	heddle proxy --config mesh.d --workload ratings-v1 --labels app=ratings,version=v1 \
//	  --inbound 127.0.0.1:9080=127.0.0.1:19080 --outbound none --admin 127.0.0.1:15010 \
//	  -- python3 -m http.server 19080 --bind 127.0.0.1
//
// And a caller behind its own, which knows the service by its name, with the rules in mesh.d:
//
//	heddle proxy --config mesh.d --workload web -- curl -s http://ratings:9080/
//
// While one runs, http://127.0.0.1:15010/ has its admin pages; docs/sidecar.md has the rest.
package sidecar
