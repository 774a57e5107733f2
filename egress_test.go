package mesh_test

import (
	"context"
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/internal/conformance"
	"github.com/heddlemesh/mesh/proxy"
)

// loopback is a DNS in which every name is this machine.
type loopback struct{}

func (loopback) LookupNetIP(context.Context, string, string) ([]netip.Addr, error) {
	return []netip.Addr{netip.MustParseAddr("127.0.0.1")}, nil
}

// TestEgressTLSOrigination is Istio's task of that name, over real sockets: a program calls http://edition.cnn.com, port
// 80, and the call goes out by HTTPS. Port 443 stays the program's own TLS.
func TestEgressTLSOrigination(t *testing.T) {
	t.Parallel()
	ca := conformance.NewAuthority(t)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sni := "plaintext"
		if r.TLS != nil {
			sni = r.TLS.ServerName
		}
		_, _ = io.WriteString(w, strings.Join([]string{r.Proto, r.Host, sni, r.RequestURI}, " "))
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.Issue("edition.cnn.com")}}
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	m := start(t, mesh.WithResolver(loopback{}), mesh.WithPassthrough(&http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}}),
		mesh.WithConfig([]byte(`
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: edition-cnn-com}
spec:
  hosts: [edition.cnn.com]
  ports:
  - {number: 80, name: http-port, protocol: HTTP, targetPort: `+port+`}
  - {number: 443, name: https-port, protocol: HTTPS, targetPort: `+port+`}
  resolution: DNS
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: edition-cnn-com}
spec:
  host: edition.cnn.com
  trafficPolicy:
    portLevelSettings:
    - port: {number: 80}
      tls: {mode: SIMPLE, caCertificates: `+ca.CAFile+`} # initiates HTTPS when accessing edition.cnn.com
`)))
	const want = "HTTP/1.1 edition.cnn.com edition.cnn.com /politics"
	if got, err := get(t, m.Client(), "http://edition.cnn.com/politics"); err != nil || got != want {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
	if got, err := get(t, m.Client(), "https://edition.cnn.com/politics"); err != nil || !strings.HasSuffix(got, " edition.cnn.com edition.cnn.com /politics") {
		t.Errorf("the program's own TLS: %q, %v", got, err)
	}
	// For a program behind the sidecar.
	s, err := proxy.Start(proxy.Config{Mesh: m, Outbound: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Shutdown(context.Background()) })
	req, _ := http.NewRequestWithContext(t.Context(), "GET", "http://"+s.OutboundAddr().String()+"/politics", nil)
	req.Host = "edition.cnn.com"
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got, _ := io.ReadAll(resp.Body); string(got) != want {
		t.Errorf("through the sidecar: %q, want %q", got, want)
	}
	// What explain says of it.
	req, _ = http.NewRequestWithContext(t.Context(), "GET", "http://edition.cnn.com/", nil)
	d, err := m.Explain(req)
	if err != nil || !strings.Contains(d.String(), "TLS by the mesh, server name the request's host, verified by "+ca.CAFile) {
		t.Errorf("%v\n%s", err, d)
	}
}
