package main

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

//go:embed mesh.d polyglot page static
var bundled embed.FS

// servicesFile is written at every start: it says on which ports the instances listen.
const servicesFile = "services.yaml"

// reviewsFile has the rules that people play with: those of reviews, and in some scenarios of others too.
const reviewsFile = "reviews.yaml"

// servicesMark begins it; a file of that name without the mark is somebody's own.
const servicesMark = "# Written by bookinfo at every start: where the instances listen.\n"

// A place is where the processes find what they need.
type place struct {
	self    string // this program: asked for once, for the file may be replaced while we run
	config  string
	scripts string // "" where everything is in Go
}

// Rules and programs are no secrets: sidecars of -transparent, who have a user of their own, read them too.
const fileMode, dirMode = 0o644, 0o755

func (p place) script(l *language) string { return filepath.Join(p.scripts, "polyglot", l.script) }

// prepareDir makes the configuration directory and fills it with the bundled rules where it has none.
func (b *bookinfo) prepareDir() error {
	if b.dir == "" {
		dir, err := os.MkdirTemp("", "bookinfo-mesh.d-")
		if err != nil {
			return err
		}
		b.dir, b.ownDir = dir, true
		if err := os.Chmod(dir, dirMode); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(b.dir, dirMode); err != nil {
		return err
	}
	name := filepath.Join(b.dir, servicesFile)
	if old, err := os.ReadFile(name); err == nil && !bytes.HasPrefix(old, []byte(servicesMark)) {
		return fmt.Errorf("%s is not bookinfo's own and would be overwritten: move it, or take another directory", name)
	}
	have, err := filepath.Glob(filepath.Join(b.dir, "*.yaml"))
	if err != nil {
		return err
	}
	have = slices.DeleteFunc(have, func(f string) bool { return filepath.Base(f) == servicesFile })
	if len(have) > 0 {
		return nil
	}
	rules, err := fs.Sub(bundled, "mesh.d")
	if err != nil {
		return err
	}
	return fs.WalkDir(rules, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(rules, name)
		if err != nil {
			return err
		}
		if name == reviewsFile && b.rules != "" {
			text = []byte(b.rules)
		}
		return os.WriteFile(filepath.Join(b.dir, name), text, fileMode)
	})
}

// writeScripts puts the programs of other languages, and the page that one of them serves, where their
// interpreters can read them.
func (b *bookinfo) writeScripts() error {
	if !slices.ContainsFunc(b.instances, func(i *instance) bool { return i.interpreter != nil }) {
		return nil
	}
	dir, err := os.MkdirTemp("", "bookinfo-programs-")
	if err != nil {
		return err
	}
	b.place.scripts = dir
	err = os.Chmod(dir, dirMode)
	if err == nil && b.network != nil {
		err = b.writeResolver()
	}
	return errors.Join(err, os.CopyFS(dir, bundled))
}

// writeServices declares the services with the addresses of their instances, in one step: nobody reads half of it.
func (b *bookinfo) writeServices() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	name, text := filepath.Join(b.dir, servicesFile), b.serviceEntries()
	if old, err := os.ReadFile(name); err == nil && bytes.Equal(old, text) {
		return nil
	}
	return replaceFile(name, text)
}

// replaceFile writes a file in one step.
func replaceFile(name string, text []byte) error {
	if err := os.WriteFile(name+".new", text, fileMode); err != nil {
		return err
	}
	return os.Rename(name+".new", name)
}

func (b *bookinfo) serviceEntries() []byte {
	var out bytes.Buffer
	out.WriteString(servicesMark)
	for _, service := range []string{"productpage", "details", "reviews", "ratings"} {
		var endpoints strings.Builder
		for _, i := range b.instances {
			host, port, err := net.SplitHostPort(i.address())
			if err == nil && i.service == service {
				fmt.Fprintf(&endpoints, "  - {address: %q, ports: {http: %s}, labels: {%s}, serviceAccount: bookinfo-%s}\n",
					host, port, joined(workloadLabels(service, i.version), ": ", ", "), service)
			}
		}
		if endpoints.Len() == 0 {
			continue // not started yet
		}
		fmt.Fprintf(&out, `---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: %[1]s
spec:
  hosts: [%[1]s.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {number: 9080, name: http, protocol: HTTP}
  endpoints:
%[2]s`, service, endpoints.String())
	}
	return out.Bytes()
}
