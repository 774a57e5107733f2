package mesh_test

import (
	"context"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/heddlemesh/mesh"
)

// TestConfigPathIsWatched: a file that is saved is live without a restart, a broken one disturbs nobody.
func TestConfigPathIsWatched(t *testing.T) {
	t.Parallel()
	one, p1 := upstream(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "one") })
	two, p2 := upstream(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "two") })
	file := filepath.Join(t.TempDir(), "a.yaml")
	save := func(text []byte) {
		if err := os.WriteFile(file+".next", text, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".next", file); err != nil {
			t.Fatal(err)
		}
	}
	first, second := entry("a.default.svc.cluster.local", "HTTP", one, p1), entry("a.default.svc.cluster.local", "HTTP", two, p2)
	save(first)
	m := start(t, mesh.WithConfigPath(file))
	until := func(what string, done func(s mesh.Status) bool) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); !done(m.Status()); {
			if time.Now().After(deadline) {
				t.Fatalf("%s: status %+v", what, m.Status())
			}
			if _, err := get(t, m.Client(), "http://a:9080/"); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
	}
	until("at first", func(s mesh.Status) bool { return s.Version == "1" })
	save([]byte(strings.Replace(string(first), "resolution", "resolutoin", 1)))
	until("broken", func(s mesh.Status) bool {
		return s.Refused != nil && strings.Contains(s.Refused.Error(), file+":7:3")
	})
	if got, err := get(t, m.Client(), "http://a:9080/"); got != "one" {
		t.Errorf("with the broken file: %q, %v", got, err)
	}
	save(second)
	until("mended", func(s mesh.Status) bool { return s.Refused == nil && s.Version == "2" })
	if got, err := get(t, m.Client(), "http://a:9080/"); got != "two" {
		t.Errorf("with the new file: %q, %v", got, err)
	}
}

type names map[string]string

func (n names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	a, err := netip.ParseAddr(n[host])
	return []netip.Addr{a}, err
}

// TestWithResolver: the mesh asks it for its own services, and for nothing else.
func TestWithResolver(t *testing.T) {
	t.Parallel()
	addr, port := upstream(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host) })
	config := strings.Replace(string(entry("a.default.svc.cluster.local", "HTTP", "db.example", port)), "STATIC", "DNS", 1)
	m := start(t, mesh.WithConfig([]byte(config)), mesh.WithStrictConfig(), mesh.WithResolver(names{"db.example": addr}))
	var info mesh.CallInfo
	req, _ := http.NewRequestWithContext(mesh.Capture(t.Context(), &info), http.MethodGet, "http://a:9080/", nil)
	resp, err := m.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if info.Endpoint != addr+":"+port {
		t.Errorf("%+v", &info)
	}
	if got, err := get(t, m.Client(), "http://localhost:"+port+"/"); err != nil || got != "localhost:"+port {
		t.Errorf("a host the mesh does not know: %q, %v", got, err)
	}
}
