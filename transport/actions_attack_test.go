package transport_test

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/meshtest"
)

// TestMirrorSwitchesProtocols: nobody waits for the end of a connection that a mirror has made something else of.
func TestMirrorSwitchesProtocols(t *testing.T) {
	t.Parallel()
	withRule(t, `
  - route: [{destination: {host: svc}}]
    mirrors: [{destination: {host: shadow}}, {destination: {host: shadow, subset: none}}]
`, func(t *testing.T, e *meshtest.Env, svc, shadow *upstream) {
		gone := make(chan struct{})
		shadow.answer = func(w http.ResponseWriter, _ *http.Request) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			_, _ = io.Copy(io.Discard, c)
			_ = c.Close()
			close(gone)
		}
		text(t, send(t, e, "GET", "http://svc/", http.Header{"Connection": {"Upgrade"}, "Upgrade": {"websocket"}}, ""))
		synctest.Wait()
		select {
		case <-gone:
		default:
			t.Error("the copy's connection stays open")
		}
		if svc.count() != 1 || shadow.count() != 1 {
			t.Errorf("%d calls, %d copies", svc.count(), shadow.count())
		}
		if sent, dropped := e.Mesh().Engine().Mirrored(); sent != 1 || dropped != 1 {
			t.Errorf("%d sent, %d dropped: one mirror does not exist", sent, dropped)
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestPassthroughWithoutHeader: a passthrough of the program's own, a fake in its tests for example, may answer without
// a header map, and knows the request that the rule has made.
func TestPassthroughWithoutHeader(t *testing.T) {
	t.Parallel()
	const config = `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: out}
spec: {hosts: [out.example], ports: [{number: 80, name: http, protocol: HTTP}], resolution: NONE}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: out}
spec:
  hosts: [out.example]
  http:
  - rewrite: {uri: /x/}
    headers: {request: {set: {x-protocol: "%PROTOCOL%"}}, response: {set: {x-a: b}}}
    route: [{destination: {host: out.example}}]
`
	var seen *http.Request
	m, err := mesh.New(t.Context(), mesh.WithConfig([]byte(config)), mesh.WithPassthrough(roundTripper(func(r *http.Request) (*http.Response, error) {
		seen = r
		return &http.Response{StatusCode: 200, Body: io.NopCloser(strings.NewReader(""))}, nil
	})))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	resp, err := m.Client().Get("http://out.example/a")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.Header.Get("X-A") != "b" || seen.URL.Path != "/x/a" || seen.Header.Get("X-Protocol") != "HTTP/1.1" {
		t.Errorf("%v, %v %v", resp.Header, seen.URL, seen.Header)
	}
}
