package config

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/routing"
	"github.com/heddlemesh/mesh/snapshot"
)

// TestConnRules: which rule of tcp and tls takes which connection, and what becomes of those that none takes.
func TestConnRules(t *testing.T) {
	t.Parallel()
	const registry = `{hosts: [%HOST%], location: MESH_INTERNAL, resolution: STATIC, ports: [%PORTS%],
  endpoints: [{address: 10.0.0.1, labels: {version: v1}}, {address: 10.0.0.2, labels: {version: v2}}]}`
	entry := func(name, host, ports string) string {
		return doc("ServiceEntry", name, strings.NewReplacer("%HOST%", host, "%PORTS%", ports).Replace(registry))
	}
	const one, two = "outbound|3306|v1|db.example.com", "outbound|3306|v2|db.example.com"
	documents := []string{
		entry("db", "db.example.com", "{number: 3306, name: tcp, protocol: TCP}, {number: 3307, name: tcp-two, protocol: MYSQL}, {number: 53, name: udp, protocol: UDP}"),
		entry("api", "api.example.com", "{number: 443, name: tls, protocol: TLS}, {number: 8443, name: https, protocol: HTTPS}, {number: 80, name: http, protocol: HTTP}"),
		entry("other", "other.example.com", "{number: 443, name: tls, protocol: TLS}"),
		doc("DestinationRule", "db", "{host: db.example.com, subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]}"),
		doc("VirtualService", "db", `{hosts: [db.example.com], tcp: [
  {match: [{gateways: [edge]}], route: [{destination: {host: other.example.com}}]},
  {match: [{sourceLabels: {app: nobody}}, {sourceNamespace: elsewhere}], route: [{destination: {host: other.example.com}}]},
  {match: [{port: 3307}], route: [{destination: {host: db.example.com, subset: v2, port: {number: 3306}}}]},
  {match: [{destinationSubnets: [10.1.0.0/16, 192.0.2.1], sourceLabels: {app: shop}, gateways: [mesh]}], route: [{destination: {host: db.example.com, subset: v1}, weight: 90}, {destination: {host: db.example.com, subset: v2}, weight: 10}]}]}`),
		doc("VirtualService", "api", `{hosts: [api.example.com, "*.api.example.com"], tls: [
  {match: [{port: 443, sniHosts: [api.example.com]}], route: [{destination: {host: db.example.com, subset: v1, port: {number: 3306}}}]},
  {match: [{port: 443, sniHosts: ["*.api.example.com"], destinationSubnets: [10.2.0.0/16]}], route: [{destination: {host: db.example.com, subset: v2, port: {number: 3306}}}]}]}`),
	}
	w := newWorld(t, Options{Workload: snapshot.Workload{Namespace: "default", Labels: map[string]string{"app": "shop"}}}, documents...)
	if s := w.Status(); s.Refused != nil {
		t.Fatal(s.Refused)
	}
	table := w.live.Tables[snapshot.Mesh]
	for _, c := range []struct {
		name, host, sni, to string
		port                uint16
		want                string // the first destination, "outside" for none
	}{
		{"by subnet", "db.example.com", "", "10.1.2.3", 3306, one},
		{"by address", "db.example.com", "", "192.0.2.1", 3306, one},
		{"by no rule", "db.example.com", "", "192.0.2.2", 3306, "outbound|3306||db.example.com"},
		{"by port", "db.example.com", "", "192.0.2.2", 3307, two},
		{"UDP", "db.example.com", "", "10.1.2.3", 53, "outbound|53||db.example.com"},
		{"by name", "api.example.com", "api.example.com", "", 443, one},
		{"by wildcard and subnet", "api.example.com", "a.api.example.com", "10.2.0.1", 443, two},
		{"by wildcard, another subnet", "api.example.com", "a.api.example.com", "10.3.0.1", 443, "outside"},
		{"no name", "api.example.com", "", "10.2.0.1", 443, "outside"},
		{"another name", "api.example.com", "b.example.com", "", 443, "outside"},
		{"a port of TLS without rules", "api.example.com", "b.example.com", "", 8443, "outbound|8443||api.example.com"},
		{"HTTP", "api.example.com", "api.example.com", "", 80, "outbound|80||api.example.com"},
		{"a host without rules", "other.example.com", "", "", 443, "outbound|443||other.example.com"},
	} {
		v, _ := table.Lookup(c.host, c.port)
		conn := call.Connection{ServerName: c.sni}
		conn.To, _ = netip.ParseAddr(c.to)
		q := &call.Request{Scheme: "https", Host: c.host, Port: c.port, Conn: &conn}
		got, _ := v.ExplainConn(q)
		if r := v.MatchConn(q); r != got {
			t.Errorf("%s: MatchConn and ExplainConn differ", c.name)
		}
		if to := firstOf(got); to != c.want {
			t.Errorf("%s: %s, want %s", c.name, to, c.want)
		}
	}
	for name, want := range map[string]string{"api.example.com": "api.example.com", "a.api.example.com": "api.example.com",
		"other.example.com": "other.example.com", "c.example.com": "", "db.example.com": ""} {
		got := ""
		if v := table.LookupName(name, 443); v != nil {
			got = v.Host
		}
		if got != want {
			t.Errorf("SNI %s: %q, want %q", name, got, want)
		}
	}
}

func firstOf(r *routing.Route) string {
	if r == nil {
		return "outside"
	}
	return r.Split[0].Cluster
}

// TestConnReferences: destinations of tcp and tls that are not there.
func TestConnReferences(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{}, doc("ServiceEntry", "db", "{hosts: [db.example.com], resolution: STATIC, ports: [{number: 443, name: tls, protocol: TLS}], endpoints: [{address: 10.0.0.1}]}"),
		doc("VirtualService", "db", `{hosts: [db.example.com], tls: [{match: [{sniHosts: [db.example.com]}], route: [{destination: {host: nowhere.example.com}}]}], tcp: [{route: [{destination: {host: db.example.com, subset: v9}}]}]}`))
	s := w.Status()
	if s.Refused != nil {
		t.Fatal(s.Refused)
	}
	found := make(map[string]bool)
	for _, f := range s.Findings {
		found[f.Code+" "+f.Path] = true
	}
	for _, want := range []string{"IST0101 spec.tls[0].route[0].destination.host", "IST0101 spec.tcp[0].route[0].destination.subset"} {
		if !found[want] {
			t.Errorf("no finding %s in %v", want, found)
		}
	}
}

// TestProxyProtocol: the version of the header is the policy's of ports that are not HTTP; calls to others would not have it.
func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	for written, want := range map[string]uint8{"{}": 1, "{version: V1}": 1, "{version: V2}": 2} {
		w := newWorld(t, Options{}, doc("ServiceEntry", "db", `{hosts: [db.example.com], location: MESH_INTERNAL, resolution: STATIC,
  ports: [{number: 3306, name: tcp, protocol: TCP}, {number: 80, name: http, protocol: HTTP}], endpoints: [{address: 10.0.0.1}]}`),
			doc("DestinationRule", "db", "{host: db.example.com, trafficPolicy: {proxyProtocol: "+written+"}}"))
		s := w.Status()
		if s.Refused != nil || len(s.Findings) != 1 || s.Findings[0].Code != codeUnbuilt {
			t.Fatalf("%s: %+v", written, s)
		}
		table := w.live.Tables[snapshot.Mesh]
		v, _ := table.Lookup("db.example.com", 3306)
		if got := w.live.Clusters[v.Default.Split[0].Index].Policy.ProxyProtocol; got != want {
			t.Errorf("%s: version %d, want %d", written, got, want)
		}
		if v, _ = table.Lookup("db.example.com", 80); v.Default.Split[0].Index >= 0 {
			t.Errorf("%s: HTTP has a cluster", written)
		}
	}
}
