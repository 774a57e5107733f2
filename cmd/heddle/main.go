// Command heddle checks and explains the Istio YAML that drives a mesh, runs it as a sidecar, and gives programs
// identities; docs/cli.md, docs/sidecar.md and docs/identity.md describe it.
package main

import (
	"os"

	"github.com/heddlemesh/mesh/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
