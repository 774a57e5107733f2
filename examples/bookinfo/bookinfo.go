package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

//go:embed mesh.d
var bundled embed.FS

// servicesFile is written at every start: it says on which ports the instances listen.
const servicesFile = "services.yaml"

// servicesMark begins it; a file of that name without the mark is somebody's own.
const servicesMark = "# Written by bookinfo at every start: where the instances listen.\n"

// instances lists what runs. Every version of reviews is an instance of its own.
var instances = []instance{
	{service: "productpage", version: "v1"},
	{service: "details", version: "v1"},
	{service: "reviews", version: "v1", env: []string{"ENABLE_RATINGS=false"}},
	{service: "reviews", version: "v2", env: []string{"ENABLE_RATINGS=true", "STAR_COLOR=black"}},
	{service: "reviews", version: "v3", env: []string{"ENABLE_RATINGS=true", "STAR_COLOR=red"}},
	{service: "ratings", version: "v1"},
}

type instance struct {
	service, version string
	env              []string
}

// bookinfo is the running demo.
type bookinfo struct {
	dir      string
	ownDir   bool // made by us, and removed at the end
	children []*child
	died     chan error // a child that ended by itself
}

// start runs every service and returns when productpage answers.
func start(ctx context.Context, addr, dir string) (*bookinfo, error) {
	self, err := os.Executable() // once: the file may be replaced while we run
	if err != nil {
		return nil, err
	}
	b := &bookinfo{dir: dir, died: make(chan error, len(instances))}
	if err := b.prepareDir(); err != nil {
		return nil, err
	}
	fail := func(err error) (*bookinfo, error) {
		b.stop()
		return nil, err
	}
	for _, i := range instances {
		listen := "127.0.0.1:0"
		if i.service == "productpage" {
			listen = addr
		}
		c, err := spawn(self, i, listen, b.dir, b.died)
		if err != nil {
			return fail(err)
		}
		b.children = append(b.children, c)
	}
	// The ports are known now; with them written down every process can read the whole configuration.
	if err := os.WriteFile(filepath.Join(b.dir, servicesFile), b.serviceEntries(), 0o600); err != nil {
		return fail(err)
	}
	for _, c := range b.children {
		if err := c.begin(ctx); err != nil {
			return fail(err)
		}
	}
	return b, waitFor(ctx, "http://"+b.children[0].addr+"/health")
}

// prepareDir makes the configuration directory and fills it with the bundled rules where it has none.
func (b *bookinfo) prepareDir() error {
	if b.dir == "" {
		dir, err := os.MkdirTemp("", "bookinfo-mesh.d-")
		if err != nil {
			return err
		}
		b.dir, b.ownDir = dir, true
	}
	if err := os.MkdirAll(b.dir, 0o700); err != nil {
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
		return os.WriteFile(filepath.Join(b.dir, name), text, 0o600)
	})
}

// serviceEntries declares the services with the addresses of their instances.
func (b *bookinfo) serviceEntries() []byte {
	var out bytes.Buffer
	out.WriteString(servicesMark)
	for _, service := range []string{"productpage", "details", "reviews", "ratings"} {
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
`, service)
		for _, c := range b.children {
			if c.service == service {
				host, port, _ := strings.Cut(c.addr, ":")
				fmt.Fprintf(&out, "  - {address: %s, ports: {http: %s}, labels: {app: %s, version: %s}, serviceAccount: bookinfo-%s}\n",
					host, port, service, c.version, service)
			}
		}
	}
	return out.Bytes()
}

// describe prints what runs where.
func (b *bookinfo) describe(out io.Writer) {
	fmt.Fprintln(out)
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "SERVICE\tVERSION\tURL\tPROCESS")
	for _, c := range b.children {
		fmt.Fprintf(w, "%s\t%s\thttp://%s%s\t%d\n", c.service, c.version, c.addr, c.path(), c.cmd.Process.Pid)
	}
	_ = w.Flush()
	fmt.Fprintf(out, `
Open   http://%[1]s/productpage
Rules  %[2]s
Edit   %[2]s/reviews.yaml while it runs: 80/20 to 0/100, or send jason elsewhere.
       A file with a mistake changes nothing; the log says file, line and what would be right.
Stop   Ctrl-C

`, b.children[0].addr, b.dir)
}

// stop ends every process and takes away what start made.
func (b *bookinfo) stop() {
	for _, c := range b.children {
		c.end()
	}
	for _, c := range b.children {
		c.wait()
	}
	if b.ownDir {
		_ = os.RemoveAll(b.dir)
	} else {
		_ = os.Remove(filepath.Join(b.dir, servicesFile))
	}
}

// waitFor returns when the URL answers 200, or with why it does not.
func waitFor(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(resp.Status)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", url, err)
		}
	}
}
