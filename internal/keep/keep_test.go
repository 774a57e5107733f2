//go:build unix

package keep_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/config"
	"github.com/heddlemesh/mesh/internal/keep"
)

// documents are a file of two, one of them a List of two more.
const documents = `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: ratings}
spec:
  hosts: [ratings.example]
  resolution: STATIC
  ports: [{number: 9080, name: http, protocol: HTTP}]
  endpoints: [{address: 127.0.0.1}]
---
apiVersion: v1
kind: List
items:
- apiVersion: networking.istio.io/v1
  kind: VirtualService
  metadata: {name: ratings}
  spec:
    hosts: [ratings.example]
    http: [{name: kept, route: [{destination: {host: ratings.example}}]}]
- apiVersion: security.istio.io/v1
  kind: AuthorizationPolicy
  metadata: {name: nobody, namespace: default}
  spec: {}
`

// A place has a configuration and what is kept of it.
type place struct {
	t           *testing.T
	config, dir string

	mu     sync.Mutex
	events []keep.Event
}

func newPlace(t *testing.T) *place {
	t.Helper()
	p := &place{t: t, config: filepath.Join(t.TempDir(), "mesh.d"), dir: filepath.Join(t.TempDir(), "state")}
	p.write("a.yaml", documents)
	return p
}

// write replaces a file as a whole: the watch may look at any time.
func (p *place) write(name, text string) {
	p.t.Helper()
	next := filepath.Join(p.config, ".next")
	if err := errors.Join(os.MkdirAll(p.config, 0o700), os.WriteFile(next, []byte(text), 0o600), os.Rename(next, filepath.Join(p.config, name))); err != nil {
		p.t.Fatal(err)
	}
}

func (p *place) file() string { return filepath.Join(p.dir, "snapshot") }

func (p *place) told(e keep.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, e)
}

func (p *place) last() keep.Event {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.events) == 0 {
		return keep.Event{}
	}
	return p.events[len(p.events)-1]
}

// start starts a mesh.
func (p *place) start() (*mesh.Mesh, *config.PathWatch, error) {
	p.t.Helper()
	watch := config.WatchPaths(p.config)
	m, err := mesh.New(p.t.Context(), mesh.WithLogger(slog.New(slog.DiscardHandler)), mesh.WithSource(keep.Open(p.dir, p.told).Behind(watch)))
	if err == nil {
		p.t.Cleanup(func() { _ = m.Close() })
	}
	return m, watch, err
}

// kept starts a mesh once, so that there is a file.
func (p *place) kept() {
	p.t.Helper()
	m, _, err := p.start()
	if err != nil {
		p.t.Fatal(err)
	}
	_ = m.Close()
	if _, err := os.Stat(p.file()); err != nil {
		p.t.Fatal(err)
	}
}

func rule(t *testing.T, m *mesh.Mesh) string {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, "http://ratings.example:9080/", nil)
	if err != nil {
		t.Fatal(err)
	}
	d, err := m.Explain(r)
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// TestKept: a mesh starts by what was kept where its configuration is away, refused or not mounted yet, as it was, with the places of
// documents; and by its own as soon as that is back.
func TestKept(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]func(p *place){
		"away":    func(p *place) { _ = os.RemoveAll(p.config) },
		"refused": func(p *place) { p.write("a.yaml", strings.ReplaceAll(documents, "hosts:", "host:")) },
		"no YAML": func(p *place) { p.write("a.yaml", documents[:200]+"\x00") },
		"empty":   func(p *place) { _ = os.Remove(filepath.Join(p.config, "a.yaml")) },
	} {
		p := newPlace(t)
		m, _, err := p.start()
		if err != nil {
			t.Fatal(err)
		}
		want, wantDocuments := rule(t, m), m.Status().Documents
		_ = m.Close()
		if !strings.Contains(want, "mesh.d/a.yaml:18:12") {
			t.Fatalf("%s: %s", name, want)
		}
		harm(p)
		m, watch, err := p.start()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		s := m.Status()
		if s.Refused == nil || s.Version == "" || s.Documents != wantDocuments {
			t.Errorf("%s: version %q, %d documents, refused %v", name, s.Version, s.Documents, s.Refused)
		}
		if e := p.last(); e.Written.IsZero() || e.Why == nil {
			t.Errorf("%s: told of %+v", name, e)
		}
		if got := rule(t, m); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		p.write("a.yaml", strings.Replace(documents, "name: kept", "name: back", 1))
		if err := watch.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := m.Status(); s.Refused != nil || !strings.Contains(rule(t, m), "back") {
			t.Errorf("%s: not taken when it was back: %v, %s", name, s.Refused, rule(t, m))
		}
	}
}

// TestNotKept: a file that is damaged, of another schema or anybody else's is told of and passed over: the program does not start, as it
// would not without it.
func TestNotKept(t *testing.T) {
	t.Parallel()
	change := func(f func([]byte) []byte) func(*place) error {
		return func(p *place) error {
			text, err := os.ReadFile(p.file())
			if err != nil {
				return err
			}
			return os.WriteFile(p.file(), f(text), 0o600)
		}
	}
	resign := func(text []byte) []byte { // somebody who knows how
		head, rest, _ := bytes.Cut(text, []byte("\n"))
		sum := sha256.Sum256(rest)
		words := strings.Fields(string(head))
		return append([]byte(words[0]+" "+words[1]+" "+hex.EncodeToString(sum[:])+"\n"), rest...)
	}
	for name, c := range map[string]struct {
		harm func(*place) error
		says string
	}{
		"none":         {func(p *place) error { return os.Remove(p.file()) }, "no such file"},
		"no directory": {func(p *place) error { return os.RemoveAll(p.dir) }, "no such file"},
		"one bit":      {change(func(b []byte) []byte { b[len(b)/2] ^= 1; return b }), "checksum"},
		"cut short":    {change(func(b []byte) []byte { return b[:len(b)-1] }), "checksum"},
		"half":         {change(func(b []byte) []byte { return b[:40] }), "cut short"},
		"nothing":      {change(func([]byte) []byte { return nil }), "cut short"},
		"longer":       {change(func(b []byte) []byte { return append(b, '\n') }), "checksum"},
		"older schema": {change(func(b []byte) []byte {
			return bytes.Replace(b, []byte("heddle-snapshot 1 "), []byte("heddle-snapshot 0 "), 1)
		}), `schema "0"`},
		"newer schema": {change(func(b []byte) []byte {
			return bytes.Replace(b, []byte("heddle-snapshot 1 "), []byte("heddle-snapshot 2 "), 1)
		}), `schema "2"`},
		"no JSON": {change(func(b []byte) []byte { return resign([]byte("heddle-snapshot 1 x\n{")) }), "unexpected end of JSON"},
		"other documents": {change(func(b []byte) []byte {
			return resign(bytes.Replace(b, []byte(`"Kind":"ServiceEntry"`), []byte(`"Kind":"ServiceEntrz"`), 1))
		}), ""},
		"for everybody":      {func(p *place) error { return os.Chmod(p.file(), 0o644) }, "mode 0644"},
		"everybody's place":  {func(p *place) error { return os.Chmod(p.dir, 0o777) }, "mode 0777"},
		"a symbolic link":    {link, ""},
		"a pipe":             {func(p *place) error { return errors.Join(os.Remove(p.file()), syscall.Mkfifo(p.file(), 0o600)) }, "not a regular file"},
		"a directory":        {func(p *place) error { return errors.Join(os.Remove(p.file()), os.Mkdir(p.file(), 0o700)) }, "not a regular file"},
		"another user's":     {func(p *place) error { return give(p.t, p.file()) }, "another user's"},
		"in another's place": {func(p *place) error { return give(p.t, p.dir) }, "another user's"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t)
			p.kept()
			if err := c.harm(p); err != nil {
				t.Fatal(err)
			}
			if err := os.RemoveAll(p.config); err != nil {
				t.Fatal(err)
			}
			_, _, err := p.start()
			if _, refused := errors.AsType[*mesh.ConfigError](err); !refused {
				t.Errorf("it starts, or fails by something else: %v", err)
			}
			e := p.last()
			if name == "other documents" {
				return // the file is sound, and what is in it is refused
			}
			if e.Why == nil || !e.Written.IsZero() || !strings.Contains(e.Why.Error(), c.says) {
				t.Errorf("told of %+v", e)
			}
		})
	}
}

// link puts a symbolic link to a sound file in its place.
func link(p *place) error {
	other := filepath.Join(p.dir, "other")
	return errors.Join(os.Rename(p.file(), other), os.Symlink(other, p.file()))
}

func give(t *testing.T, name string) error {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	return os.Chown(name, 65534, 65534)
}

// TestKeeps: the file follows what is taken, not what is refused, is for its owner alone, and a directory that takes nothing is told of.
func TestKeeps(t *testing.T) {
	t.Parallel()
	p := newPlace(t)
	m, watch, err := p.start()
	if err != nil {
		t.Fatal(err)
	}
	if err := watch.Reload(t.Context()); err != nil { // by now what came first is kept
		t.Fatal(err)
	}
	info, err := os.Stat(p.file())
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	reload := func() string {
		t.Helper()
		if err := watch.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(p.file())
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	p.write("a.yaml", strings.Replace(documents, "name: kept", "name: newer", 1))
	newer := reload()
	if !strings.Contains(newer, "name: newer") {
		t.Error("it does not follow")
	}
	p.write("a.yaml", strings.Replace(documents, "hosts:", "host:", 1))
	if reload() != newer || m.Status().Refused == nil {
		t.Error("what was refused is kept")
	}
	if left, err := filepath.Glob(p.file() + "?*"); len(left) > 0 || err != nil {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := os.Chmod(p.dir, 0o777); err != nil {
		t.Fatal(err)
	}
	p.write("a.yaml", strings.Replace(documents, "name: kept", "name: newest", 1))
	if reload() != newer || !strings.Contains(p.last().Why.Error(), "lets others write") {
		t.Errorf("%+v", p.last())
	}
	if m.Status().Refused != nil {
		t.Error("what cannot be kept is refused")
	}
}
