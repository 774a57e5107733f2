package proxy_test

import (
	"context"
	"net"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/proxy"
)

// asking gives a resolver that asks the sidecar.
func asking(r *rig) *net.Resolver {
	at := r.sidecar.DNSAddrs()[0].String()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, at)
	}}
}

// found looks a name up, and gives its addresses in one line.
func found(t *testing.T, r *rig, name string) string {
	t.Helper()
	all, err := asking(r).LookupNetIP(t.Context(), "ip", name+".")
	if err != nil {
		if !strings.Contains(err.Error(), "no such host") && !strings.Contains(err.Error(), "server misbehaving") {
			t.Errorf("%s: %v", name, err)
		}
		return "none"
	}
	slices.SortFunc(all, netip.Addr.Compare)
	var words []string
	for _, a := range all {
		words = append(words, a.Unmap().String())
	}
	return strings.Join(words, " ")
}

// TestCapturedNames: connections to automatic addresses go to the host that has them, whatever they speak and however many share the
// port, and nobody ever dials such an address.
func TestCapturedNames(t *testing.T) {
	t.Parallel()
	web, other := upstream(t, saying("web")), upstream(t, saying("other"))
	db1, db2 := speaking(t, "db1"), speaking(t, "db2")
	secret := httptest.NewTLSServer(saying("secret"))
	t.Cleanup(secret.Close)
	config := entry("sni.example.com", "", "TLS", 443, secret.Listener.Addr().String()) + entry("web.default.svc.cluster.local", "", "HTTP", 9080, web) + entry("other.example.com", "", "HTTP", 9080, other) +
		entry("db1.example.com", "", "TCP", 3306, db1) + entry("db2.example.com", "", "TCP", 3306, db2) +
		entry("fixed.example.com", "10.1.1.1", "TCP", 3306, db2) + entry("udp.example.com", "", "UDP", 53, db1) + `
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: none}
spec: {hosts: [none.example.com], resolution: NONE, ports: [{number: 80, name: http, protocol: HTTP}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: wild}
spec: {hosts: ["*.example.org"], resolution: NONE, ports: [{number: 80, name: http, protocol: HTTP}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: only-rules}
spec: {hosts: [rules.example.com], http: [{route: [{destination: {host: other.example.com}}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: only-one-name}
spec:
  hosts: [sni.example.com]
  tls: [{match: [{sniHosts: [sni.example.com]}], route: [{destination: {host: sni.example.com}}]}]
---
`
	for _, automatic := range []bool{true, false} {
		r, kernel, out, _ := capturing(t, config, func(c *proxy.Config) {
			nobody := netip.MustParseAddrPort("127.0.0.1:1") // where no name server is
			c.DNS = proxy.DNS{Listen: []string{"127.0.0.1:0"}, Upstreams: []netip.AddrPort{nobody}, NoAutomatic: !automatic}
		}, mesh.WithOutboundTrafficPolicy(mesh.RegistryOnly))
		for _, name := range []string{"none.example.com", "any.example.org", "rules.example.com", "udp.example.com", "nobody.example.com"} {
			if got := found(t, r, name); got != "none" {
				t.Errorf("%s: %s", name, got)
			}
		}
		if got := found(t, r, "fixed.example.com"); got != "10.1.1.1" {
			t.Errorf("fixed: %s", got)
		}
		if !automatic {
			if got := found(t, r, "web"); got != "none" {
				t.Errorf("without automatic addresses: %s", got)
			}
			continue
		}
		for name, want := range map[string]string{"web": "240.240.", "web.default": "240.240.", "db1.example.com": "240.240.", "other.example.com": "240.240.", "sni.example.com": "240.240."} {
			v4, v6, _ := strings.Cut(found(t, r, name), " ")
			if !strings.HasPrefix(v4, want) || !strings.HasPrefix(v6, "2001:2:0:0:") && !strings.HasPrefix(v6, "2001:2::") {
				t.Fatalf("%s: %s %s", name, v4, v6)
			}
		}
		at := func(name, port string) []string {
			var all []string
			for a := range strings.FieldsSeq(found(t, r, name)) {
				all = append(all, net.JoinHostPort(a, port))
			}
			return all
		}
		for i := range 2 { // families
			web, db1, db2 := at("web", "9080")[i], at("db1.example.com", "3306")[i], at("db2.example.com", "3306")[i]
			literal, _, _ := net.SplitHostPort(web)
			for _, c := range []struct{ name, got, want string }{
				{"HTTP by its name", asked(t, kernel.dial(t, out, web), "web:9080"), "200 web for web:9080"},
				{"HTTP by another's name", asked(t, kernel.dial(t, out, web), "other.example.com"), "200 other for other.example.com"},
				{"HTTP by the address", asked(t, kernel.dial(t, out, web), net.JoinHostPort(literal, "9080")), "200 web for " + net.JoinHostPort(literal, "9080")},
				{"TCP", greeting(kernel.dial(t, out, db1)), "db1"},
				{"TLS by the rule for its name", answeredBy(t, kernel.dial(t, out, at("sni.example.com", "443")[i]), "sni.example.com"), "200 secret for any"},
				{"TCP on the same port", greeting(kernel.dial(t, out, db2)), "db2"},
			} {
				if c.got != c.want {
					t.Errorf("%s: %q, want %q", c.name, c.got, c.want)
				}
			}
			if got := asked(t, kernel.dial(t, out, web), "nobody.invalid"); !strings.HasPrefix(got, "502 ") {
				t.Errorf("HTTP by nobody's name: %q", got)
			}
			if got := greeting(kernel.dial(t, out, at("db1.example.com", "7")[i])); got != "reset" {
				t.Errorf("a port that the host does not have: %q", got)
			}
			if got := greeting(kernel.dial(t, out, []string{"240.240.0.1:3306", "[2001:2::2]:3306"}[i])); got != "reset" {
				t.Errorf("an automatic address of nobody: %q", got)
			}
		}
		before := found(t, r, "db1.example.com")
		if err := r.mesh.Apply(t.Context(), []byte(entry("aaa.example.com", "", "TCP", 3306, db1)+entry("db1.example.com", "", "TCP", 3306, db1))); err != nil {
			t.Fatal(err)
		}
		if after := found(t, r, "db1.example.com"); after != before {
			t.Errorf("after a reload %s, before %s", after, before)
		}
		if got := found(t, r, "db2.example.com"); got != "none" {
			t.Errorf("a host that is gone: %s", got)
		}
	}
}

// TestCapturedBeyond: what the mesh does not know of a host that it knows goes to where the host is, and not to the address that only
// stands for it.
func TestCapturedBeyond(t *testing.T) {
	t.Parallel()
	web, db := upstream(t, saying("web")), speaking(t, "db")
	r, kernel, out, _ := capturing(t, entry("localhost", "", "HTTP", 9080, web), func(c *proxy.Config) {
		c.DNS.Listen = []string{"127.0.0.1:0"}
	}, mesh.WithOutboundTrafficPolicy(mesh.AllowAny))
	address, _, _ := strings.Cut(found(t, r, "localhost"), " ")
	_, webPort, _ := net.SplitHostPort(web)
	_, dbPort, _ := net.SplitHostPort(db)
	if got := greeting(kernel.dial(t, out, net.JoinHostPort(address, dbPort))); got != "db" {
		t.Errorf("TCP: %q", got)
	}
	beside, kernel, out, _ := capturing(t, entry("localhost", "", "HTTP", 9080, web)+entry("beside.example.com", "", "HTTP", atoi(webPort), web), func(c *proxy.Config) {
		c.DNS.Listen = []string{"127.0.0.1:0"}
	}, mesh.WithOutboundTrafficPolicy(mesh.AllowAny))
	address, _, _ = strings.Cut(found(t, beside, "localhost"), " ")
	if got := asked(t, kernel.dial(t, out, net.JoinHostPort(address, webPort)), "localhost:"+webPort); got != "200 web for localhost:"+webPort {
		t.Errorf("HTTP: %q", got)
	}
}
