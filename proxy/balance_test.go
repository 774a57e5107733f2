package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// hashed is a service with two endpoints, whose calls are kept together by their source.
func hashed(t *testing.T, policy string) string {
	t.Helper()
	var addresses []string
	for _, name := range []string{"a", "b"} {
		addresses = append(addresses, upstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Endpoint", name)
			_, _ = io.WriteString(w, r.Proto)
		})))
	}
	_, one, _ := net.SplitHostPort(addresses[0])
	_, two, _ := net.SplitHostPort(addresses[1])
	return `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews}
spec:
  hosts: [reviews.default.svc.cluster.local]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints:
  - {address: 127.0.0.1, ports: {http: ` + one + `}}
  - {address: 127.0.0.1, ports: {http: ` + two + `}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  trafficPolicy: ` + policy
}

// TestSourceAddress: to the sidecar a call has a source, whatever its client speaks and by whichever way it goes on.
func TestSourceAddress(t *testing.T) {
	t.Parallel()
	for name, policy := range map[string]string{
		"the wire":           "{loadBalancer: {consistentHash: {useSourceIp: true}}}",
		"net/http":           "{loadBalancer: {consistentHash: {useSourceIp: true}}, connectionPool: {http: {idleTimeout: 10s}}}",
		"another connection": "{loadBalancer: {consistentHash: {useSourceIp: true}}, connectionPool: {http: {maxRequestsPerConnection: 1}}}",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := start(t, hashed(t, policy), nil)
			h2 := &http.Transport{Protocols: new(http.Protocols)}
			h2.Protocols.SetUnencryptedHTTP2(true)
			defer h2.CloseIdleConnections()
			seen := map[string]int{}
			for range 20 {
				resp, _ := r.get("http://reviews/")
				seen[resp.Header.Get("Endpoint")]++
				req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+r.sidecar.OutboundAddr().String()+"/", nil)
				req.Host = "reviews"
				resp, err := h2.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				_ = resp.Body.Close()
				seen[resp.Header.Get("Endpoint")]++
			}
			if len(seen) != 1 {
				t.Errorf("calls from one address went to %v", seen)
			}
		})
	}
}

// TestGoneEndpoints: an endpoint that is taken out of the configuration keeps no idle connection.
func TestGoneEndpoints(t *testing.T) {
	t.Parallel()
	ended := make(chan struct{}, 1)
	gone := raw(t, func(c net.Conn, br *bufio.Reader) {
		for {
			if _, err := http.ReadRequest(br); err != nil {
				ended <- struct{}{}
				return
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	r := start(t, service("reviews", "HTTP", gone), nil)
	if resp, _ := r.get("http://reviews/"); resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	if err := r.mesh.Apply(t.Context(), []byte(service("reviews", "HTTP", "127.0.0.1:1"))); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ended:
	case <-t.Context().Done():
	case <-time.After(time.Minute):
		t.Error("the connection is kept")
	}
}

// TestClientProtocol: under useClientProtocol endpoints are spoken to as the client speaks.
func TestClientProtocol(t *testing.T) {
	t.Parallel()
	r := start(t, hashed(t, "{connectionPool: {http: {useClientProtocol: true}}}"), nil)
	if _, body := r.get("http://reviews/"); body != "HTTP/1.1" {
		t.Errorf("an HTTP/1.1 client's endpoint saw %s", body)
	}
	h2 := &http.Transport{Protocols: new(http.Protocols)}
	h2.Protocols.SetUnencryptedHTTP2(true)
	defer h2.CloseIdleConnections()
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+r.sidecar.OutboundAddr().String()+"/", strings.NewReader("x"))
	req.Host = "reviews"
	resp, err := h2.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != "HTTP/2.0" {
		t.Errorf("an HTTP/2 client's endpoint saw %s", body)
	}
}
