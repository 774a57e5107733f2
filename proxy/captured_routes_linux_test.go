package proxy_test

import (
	"crypto/tls"
	"net"
	"net/http/httptest"
	"testing"
)

// TestCapturedRoutes: rules of tcp and tls for captured connections, by weight, by address and by the name in a ClientHello.
func TestCapturedRoutes(t *testing.T) {
	t.Parallel()
	secure := func(name string) string {
		srv := httptest.NewTLSServer(saying(name))
		t.Cleanup(srv.Close)
		return srv.Listener.Addr().String()
	}
	old, young := speaking(t, "old"), speaking(t, "young")
	config := entry("old.example.com", "10.1.1.1", "TCP", 3306, old) + entry("young.example.com", "10.1.1.2", "TCP", 3306, young) +
		entry("one.example.com", "", "TLS", 443, secure("one")) + entry("two.example.com", "10.1.1.3", "TLS", 443, secure("two")) + `
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: old}
spec:
  hosts: [old.example.com]
  tcp:
  - match: [{destinationSubnets: [10.9.0.0/16]}]
    route: [{destination: {host: nobody.example.com}}]
  - route:
    - {destination: {host: old.example.com}, weight: 0}
    - {destination: {host: young.example.com}, weight: 100}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: one}
spec:
  hosts: [one.example.com, "*.one.example.com", two.example.com]
  tls:
  - match: [{sniHosts: [one.example.com]}]
    route: [{destination: {host: two.example.com}}]
  - match: [{sniHosts: ["*.one.example.com"], destinationSubnets: [10.9.0.0/16]}]
    route: [{destination: {host: one.example.com}}]
  - match: [{sniHosts: [two.example.com], destinationSubnets: [10.1.1.3]}]
    route: [{destination: {host: one.example.com}}]
`
	_, kernel, out, _ := capturing(t, config, nil)
	for to, want := range map[string]string{"10.1.1.1:3306": "young", "10.1.1.2:3306": "young"} {
		if got := greeting(kernel.dial(t, out, to)); got != want {
			t.Errorf("%s: %q, want %q", to, got, want)
		}
	}
	for _, c := range []struct{ to, name, want string }{
		{"10.9.9.9:443", "one.example.com", "two"},
		{"10.9.9.9:443", "a.one.example.com", "one"},
		{"10.1.1.3:443", "two.example.com", "one"},
	} {
		if got := answeredBy(t, kernel.dial(t, out, c.to), c.name); got != "200 "+c.want+" for any" {
			t.Errorf("%s of %s: %q, want %s", c.name, c.to, got, c.want)
		}
	}
}

// answeredBy makes a request over TLS and gives status and body.
func answeredBy(t *testing.T, c net.Conn, name string) string {
	t.Helper()
	return asked(t, tls.Client(c, &tls.Config{ServerName: name, InsecureSkipVerify: true}), "any")
}
