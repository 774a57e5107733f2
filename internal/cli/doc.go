// Package cli is the heddle command: analyze, explain, version. Layer L10.
//
//	os.Exit(cli.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
//
// Results go to stdout, everything else to stderr; the exit codes are istioctl's. It decides nothing itself:
// what it prints is what packages config and mesh say, so that a set which analyze passes is one that a
// program accepts. docs/cli.md describes the commands for their users.
package cli
