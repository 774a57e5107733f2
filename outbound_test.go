package mesh_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh"
)

// TestRegistryOnly: what the mesh does not know is not even dialled, however it is spelled, and explain says
// beforehand what calls will be told.
func TestRegistryOnly(t *testing.T) {
	t.Parallel()
	addr, port := upstream(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Host) })
	var dialled []string
	m := start(t, mesh.WithOutboundTrafficPolicy(mesh.RegistryOnly),
		mesh.WithConfig(entry("reviews.default.svc.cluster.local", "HTTP", addr, port)),
		mesh.WithDialer(func(ctx context.Context, network, address string) (net.Conn, error) {
			dialled = append(dialled, address)
			return (&net.Dialer{}).DialContext(ctx, network, address)
		}))
	for _, c := range []struct{ url, host, detail string }{
		{"http://" + addr + ":" + port + "/", "", "REGISTRY_ONLY"},
		{"http://elsewhere.example.com/", "", "REGISTRY_ONLY"},
		{"https://elsewhere.example.com/", "", "REGISTRY_ONLY"},
		{"http://reviews:9081/", "", "on other ports only: 9080"},
		{"https://reviews:9443/", "", "on other ports only: 9080"},
		{"http://" + addr + ":" + port + "/", "elsewhere.example.com", "REGISTRY_ONLY"},
		{"http://[fe80::1%25lo]:" + port + "/", "", "REGISTRY_ONLY"}, // what only net/http can make sense of
		{"http://a..b/", "", "REGISTRY_ONLY"},
		{"ftp://elsewhere.example.com/", "", "REGISTRY_ONLY"},
	} {
		body := &closing{Reader: strings.NewReader("x")}
		var info mesh.CallInfo
		req, err := http.NewRequestWithContext(mesh.Capture(t.Context(), &info), http.MethodPost, c.url, body)
		if err != nil {
			t.Fatal(err)
		}
		if c.host != "" {
			req.Host = c.host
		}
		resp, err := m.RoundTripper().RoundTrip(req)
		if err == nil {
			resp.Body.Close()
		}
		var e *mesh.Error
		if !errors.As(err, &e) || !errors.Is(err, mesh.ReasonUnknownHost) || e.Flag() != "UH" || e.HTTPStatus() != http.StatusBadGateway ||
			e.Cluster != "BlackHoleCluster" || !strings.Contains(e.Detail, c.detail) {
			t.Errorf("%s: %v", c.url, err)
		}
		if !body.closed || info.Cluster != "BlackHoleCluster" || info.Reason != mesh.ReasonUnknownHost || info.Attempts != 0 {
			t.Errorf("%s: body closed %v, %+v", c.url, body.closed, &info)
		}
		if d, err := m.Explain(req); err == nil && (d.Verdict != "reject" || d.Flag != "UH" || !strings.Contains(d.String(), "REGISTRY_ONLY")) {
			t.Errorf("%s: explained as %s", c.url, d)
		}
	}
	if len(dialled) != 0 {
		t.Errorf("dialled %q", dialled)
	}
	if got, err := get(t, m.Client(), "http://reviews:9080/"); err != nil || got != "reviews:9080" {
		t.Errorf("a service of the mesh: %q, %v", got, err)
	}
}

type closing struct {
	io.Reader
	closed bool
}

func (c *closing) Close() error { c.closed = true; return nil }
