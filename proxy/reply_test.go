package proxy_test

import (
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/internal/loopback"
)

func TestLocalReplies(t *testing.T) {
	t.Parallel()
	up := upstream(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	config := service("reviews", "HTTP", up) + service("dead", "HTTP", loopback.Dead(t)) +
		service("dead2", "HTTP2", loopback.Dead(t)) + `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: empty}
spec:
  hosts: [empty.default.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}]
  workloadSelector: {labels: {app: nobody}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - match: [{uri: {prefix: /v9}}]
    route: [{destination: {host: reviews, subset: v9}}]
  - match: [{uri: {prefix: /ok}}]
    route: [{destination: {host: reviews}}]
`
	r := start(t, config, nil)
	for _, c := range []struct {
		target, flag, reason, text, details string
		status, grpc                        int
	}{
		{"http://reviews/nowhere", "NR", "no_route", "no route matches", "reviews:80", 404, 12},
		{"http://reviews/v9", "NC", "no_cluster", "destination does not exist", "subset v9", 503, 14},
		{"http://empty/", "UH", "no_endpoint", "no healthy upstream", "empty:80", 503, 14},
		{"http://dead/", "UF", "connect", "upstream connect error", "connection refused", 503, 14},
		{"http://" + loopback.Dead(t) + "/", "UF", "connect", "upstream connect error", "connection refused", 503, 14},
		{"http://169.254.169.254/latest/meta-data/", "UH", "destination_refused", "not allowed", "169.254.169.254:80", 403, 7},
		{"http://[::ffff:169.254.169.254]/", "UH", "destination_refused", "not allowed", "link-local", 403, 7},
		{"http://" + r.sidecar.OutboundAddr().String() + "/", "UH", "destination_refused", "not allowed", "the proxy itself", 403, 7},
		{"http://0.0.0.0:" + port(r.sidecar.OutboundAddr()) + "/", "UH", "destination_refused", "not allowed", "the proxy itself", 403, 7},
		{"http://localhost:" + port(r.sidecar.OutboundAddr()) + "/", "UH", "destination_refused", "not allowed", "the proxy itself", 403, 7},
	} {
		for _, contentType := range []string{"", "application/grpc+proto"} {
			// By its Host; a client would not ask a proxy for an address of its own machine.
			req := r.request(http.MethodPost, "http://"+r.sidecar.OutboundAddr().String()+strings.TrimPrefix(c.target, "http://"+hostOf(c.target)), nil)
			req.Host = hostOf(c.target)
			if contentType != "" {
				req.Header.Set("Content-Type", contentType)
			}
			resp, err := clientOf(t, &http.Transport{}).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			body := string(text)
			l := r.last()
			if l.Direction != "outbound" || l.Status != c.status || l.Flag != c.flag || l.Reason != c.reason || l.Method != http.MethodPost ||
				!strings.Contains(l.Details(), c.details) {
				t.Errorf("%s: reported %+v: %s", c.target, l, l.Details())
			}
			if contentType != "" {
				if s := resp.Header.Get("Grpc-Status"); resp.StatusCode != 200 || s != itoa(c.grpc) || body != "" ||
					resp.Header.Get("Content-Type") != "application/grpc" || !strings.Contains(resp.Header.Get("Grpc-Message"), c.text) {
					t.Errorf("%s: gRPC got %d, %v, %q", c.target, resp.StatusCode, resp.Header, body)
				}
				continue
			}
			if resp.StatusCode != c.status || !strings.Contains(body, c.text) || strings.Contains(body, "127.0.0.1") {
				t.Errorf("%s: status %d, body %q", c.target, resp.StatusCode, body)
			}
		}
	}
}

func hostOf(target string) string {
	host, _, _ := strings.Cut(strings.TrimPrefix(target, "http://"), "/")
	return host
}

func port(a net.Addr) string {
	_, p, _ := net.SplitHostPort(a.String())
	return p
}

func itoa(n int) string {
	if n > 9 {
		return string([]byte{'0' + byte(n/10), '0' + byte(n%10)})
	}
	return string([]byte{'0' + byte(n)})
}

// TestInboundReplies: the application is a program that may not be there.
func TestInboundReplies(t *testing.T) {
	t.Parallel()
	r := start(t, "", inboundOf(loopback.Dead(t)))
	resp, body := exchange(t, r.sidecar.InboundAddrs()[0].String(), "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
	if l := r.last(); resp.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "connect failure") ||
		l.Direction != "inbound" || l.Flag != "UF" {
		t.Errorf("status %d, body %q, reported %+v", resp.StatusCode, body, l)
	}
}

// TestRegistryOnly: what no document names is answered as by Istio's BlackHoleCluster, whatever form the request has.
func TestRegistryOnly(t *testing.T) {
	t.Parallel()
	up := upstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.Host) }))
	r := startMesh(t, service("reviews", "HTTP", up), nil, mesh.WithOutboundTrafficPolicy(mesh.RegistryOnly))
	address := r.sidecar.OutboundAddr().String()
	for _, request := range []string{
		"GET http://" + up + "/ HTTP/1.1\r\nHost: " + up + "\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: " + up + "\r\n\r\n",
		"GET http://" + up + "/ HTTP/1.1\r\nHost: reviews\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: reviews:81\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n",
	} {
		resp, body := exchange(t, address, request)
		if l := r.last(); resp.StatusCode != http.StatusBadGateway || !strings.Contains(body, "not in the registry") || strings.Contains(body, "127.0.0.1") ||
			l.Flag != "UH" || l.Reason != "unknown_host" || !strings.Contains(l.Details(), "BlackHoleCluster") {
			t.Errorf("%q: status %d, body %q, reported %+v: %s", request, resp.StatusCode, body, l, l.Details())
		}
	}
	if resp, _ := exchange(t, address, "CONNECT "+up+" HTTP/1.1\r\nHost: "+up+"\r\n\r\n"); resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("CONNECT: status %d", resp.StatusCode)
	}
	if resp, body := exchange(t, address, "GET / HTTP/1.1\r\nHost: reviews\r\n\r\n"); resp.StatusCode != http.StatusOK || body != "reviews" {
		t.Errorf("a service of the mesh: status %d, body %q", resp.StatusCode, body)
	}
}
