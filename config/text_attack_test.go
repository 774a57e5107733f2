package config

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/snapshot"
)

// evil forges a line of a log or of a CI system's commands, and colours a terminal.
const evil = `"x\n::error::forged\x1b[31m\u009b31m\u202e"`

// TestFindingsAreOneLine: no text of a document ends a line of a report or reaches a terminal as a command
// (attacks.md, CVE-2026-42507 and its kind).
func TestFindingsAreOneLine(t *testing.T) {
	t.Parallel()
	head := func(name, namespace string) string {
		return "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: " + name + ", namespace: " + namespace + "}\n"
	}
	vs := head("a", "default") + "spec:\n"
	dr := "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: d}\nspec:\n"
	se := "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: s}\nspec:\n"
	for name, text := range map[string]string{
		"name":            head(evil, "default") + "spec: {hosts: [a], http: [{route: [{destination: {host: a}}]}]}\n",
		"namespace":       head("a", evil) + "spec: {hosts: [a], http: [{route: [{destination: {host: a}}]}]}\n",
		"unknown field":   vs + "  " + evil + ": 1\n",
		"unknown nested":  vs + "  hosts: [a]\n  http: [{" + evil + ": 1}]\n",
		"kind":            "apiVersion: networking.istio.io/v1\nkind: " + evil + "\nmetadata: {name: a}\n",
		"apiVersion":      "apiVersion: " + evil + "\nkind: VirtualService\nmetadata: {name: a}\n",
		"host":            vs + "  hosts: [" + evil + "]\n  http: [{route: [{destination: {host: a}}]}]\n",
		"destination":     vs + "  hosts: [a]\n  http: [{route: [{destination: {host: " + evil + "}}]}]\n",
		"subset":          vs + "  hosts: [a]\n  http: [{route: [{destination: {host: a, subset: " + evil + "}}]}]\n",
		"route name":      vs + "  hosts: [a]\n  http: [{name: " + evil + ", route: [{destination: {host: b}}]}]\n",
		"match name":      vs + "  hosts: [a]\n  http: [{match: [{name: " + evil + "}], route: [{destination: {host: b}}]}]\n",
		"header name":     vs + "  hosts: [a]\n  http: [{match: [{headers: {" + evil + ": {exact: x}}}], route: [{destination: {host: a}}]}]\n",
		"query name":      vs + "  hosts: [a]\n  http: [{match: [{queryParams: {" + evil + ": {exact: x}}}], route: [{destination: {host: b}}]}]\n",
		"regex":           vs + "  hosts: [a]\n  http: [{match: [{uri: {regex: " + evil + "}}, {uri: {regex: \"(\\n\"}}], route: [{destination: {host: a}}]}]\n",
		"retryOn":         vs + "  hosts: [a]\n  http: [{retries: {attempts: 1, retryOn: " + evil + "}, route: [{destination: {host: a}}]}]\n",
		"gateway":         vs + "  gateways: [" + evil + "]\n  hosts: [a]\n  http: [{route: [{destination: {host: a}}]}]\n",
		"exportTo":        vs + "  exportTo: [" + evil + "]\n  hosts: [a]\n  http: [{route: [{destination: {host: a}}]}]\n",
		"enum":            dr + "  host: a\n  trafficPolicy: {loadBalancer: {simple: " + evil + "}}\n",
		"number":          dr + "  host: a\n  trafficPolicy: {portLevelSettings: [{port: {number: " + evil + "}}]}\n",
		"duration":        dr + "  host: a\n  trafficPolicy: {connectionPool: {tcp: {connectTimeout: " + evil + "}}}\n",
		"subset name":     dr + "  host: a\n  subsets: [{name: " + evil + "}, {name: " + evil + "}]\n",
		"label":           dr + "  host: a\n  subsets: [{name: x, labels: {" + evil + ": " + evil + "}}]\n",
		"rule host":       dr + "  host: " + evil + "\n",
		"selector":        dr + "  host: a\n  workloadSelector: {matchLabels: {" + evil + ": " + evil + "}}\n",
		"address":         se + "  hosts: [s.x]\n  addresses: [" + evil + "]\n  ports: [{number: 80, name: http, protocol: HTTP}]\n  resolution: STATIC\n  endpoints: [{address: " + evil + "}]\n",
		"port name":       se + "  hosts: [s.x]\n  ports: [{number: 80, name: " + evil + ", protocol: " + evil + "}, {number: 80, name: " + evil + "}]\n  resolution: STATIC\n",
		"endpoint ports":  se + "  hosts: [s.x]\n  ports: [{number: 80, name: http, protocol: HTTP}]\n  resolution: STATIC\n  endpoints: [{address: 1.2.3.4, ports: {" + evil + ": 1}, locality: " + evil + ", network: " + evil + ", serviceAccount: " + evil + "}]\n",
		"annotation":      "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a, " + evil + ": x, annotations: {" + evil + ": 1}}\nspec: {hosts: [a]}\n",
		"yaml error":      "a: \"x\ny: [\x1b[31m\u202e\n",
		"yaml anchor":     vs + "  hosts: *" + "x\u202e\n",
		"tag":             vs + "  hosts: !<x%0A::error::forged> [a]\n",
		"duplicate field": vs + "  " + evil + ": 1\n  " + evil + ": 1\n",
		"two of a name":   head(evil, "default") + "spec: {hosts: [a]}\n---\n" + head(evil, "default") + "spec: {hosts: [a]}\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := Join(Options{}, new(discovery.Registry), NewInline([]byte(text)))
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = j.Run(ctx, func(context.Context, *snapshot.Snapshot) error { return nil })
			}()
			<-j.Ready()
			cancel()
			<-done
			s := j.Status()
			all := s.Findings
			if s.Refused != nil {
				all = append(all, s.Refused.Findings...)
			}
			for _, f := range all {
				oneLine(t, f.String())
			}
		})
	}
}

func oneLine(t *testing.T, s string) {
	t.Helper()
	if i := strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 || r == '\u202e' }); i >= 0 {
		t.Errorf("byte %d of %q", i, s)
	}
}

// TestFileNamesAreOneLine: nor does the name of a file.
func TestFileNamesAreOneLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a\n::error::forged\x1b[31m.yaml"), []byte("a: ["), 0o600); err != nil {
		t.Skip(err)
	}
	_ = FromPaths(dir).Run(t.Context(), func(u Update) []Verdict {
		for _, f := range u.Findings {
			oneLine(t, f.String())
		}
		for i := range u.Upsert {
			_, findings := u.Upsert[i].parsed()
			for _, f := range findings {
				oneLine(t, f.String())
			}
		}
		return nil
	})
}
