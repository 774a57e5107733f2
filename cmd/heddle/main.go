// Command heddle checks and explains the Istio YAML that drives a mesh, and runs it as a sidecar; docs/cli.md
// and docs/sidecar.md describe it.
package main

import (
	"os"

	"github.com/heddlemesh/mesh/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
