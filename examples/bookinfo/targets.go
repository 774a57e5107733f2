package main

import (
	"fmt"
	"os"
	"strings"
)

// targets lists the processes as Prometheus's configuration in deploy/prometheus takes them.
func (b *bookinfo) targets() []byte {
	var out strings.Builder
	for _, i := range b.instances {
		mesh := "sidecar"
		if i.interpreter == nil {
			mesh = "library"
		}
		fmt.Fprintf(&out, "- {targets: [%q], labels: {mesh: %s, name: %s, path: /stats/prometheus}}\n", strings.TrimPrefix(i.admin(), "http://"), mesh, i.name)
	}
	return []byte(out.String())
}

// tellTargets writes the targets to a file, "" for nowhere, until it is told to take it away.
func (b *bookinfo) tellTargets(name string) (forget func(), err error) {
	if name == "" {
		return func() {}, nil
	}
	return func() { _ = os.Remove(name) }, replaceFile(name, b.targets())
}
