package conformance

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/heddlemesh/mesh"
)

// TestPeerAuthenticationModes: whom every door takes under which policy, and as whom (istio-semantics §2.10, attacks.md C-013).
func TestPeerAuthenticationModes(t *testing.T) {
	t.Parallel()
	a, foreign := NewAuthority(t), NewAuthority(t)
	mine, theirs := a.Issue(reviewsID), foreign.Issue(reviewsID)
	policy := func(namespace, spec string) string {
		return "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: " + namespace + "-" + fmt.Sprint(len(spec)) + ", namespace: " + namespace + "}\nspec: " + spec + "\n---\n"
	}
	const mesh1, shop, web = "istio-system", "default", "selector: {matchLabels: {app: web}}, "
	mode := func(m string) string { return "{mtls: {mode: " + m + "}}" }
	// Who comes: with mutual TLS, with the mesh's TLS and no certificate, with another authority's, with TLS of his own, in plain text.
	visitors := []string{"mutual TLS", "no certificate", "another authority", "other TLS", "plain text"}
	outcomes := map[string]string{ // + is taken as who he is, o as nobody, - is closed
		"STRICT": "+----", "PERMISSIVE": "+o--o", "DISABLE": "----o",
	}
	for _, row := range []struct{ name, config, mode string }{
		{"nothing said", "", "PERMISSIVE"},
		{"STRICT", policy(shop, mode("STRICT")), "STRICT"},
		{"PERMISSIVE", policy(shop, mode("PERMISSIVE")), "PERMISSIVE"},
		{"DISABLE", policy(shop, mode("DISABLE")), "DISABLE"},
		{"UNSET", policy(shop, mode("UNSET")), "PERMISSIVE"},
		{"for the mesh", policy(mesh1, mode("STRICT")), "STRICT"},
		{"namespace over mesh", policy(mesh1, mode("STRICT")) + policy(shop, mode("PERMISSIVE")), "PERMISSIVE"},
		{"namespace as the mesh", policy(mesh1, mode("STRICT")) + policy(shop, mode("UNSET")), "STRICT"},
		{"another namespace", policy("prod", mode("STRICT")), "PERMISSIVE"},
		{"workload over namespace", policy(shop, mode("STRICT")) + policy(shop, "{"+web+"mtls: {mode: DISABLE}}"), "DISABLE"},
		{"another workload", policy(shop, "{selector: {matchLabels: {app: db}}, mtls: {mode: STRICT}}"), "PERMISSIVE"},
		{"port over workload", policy(shop, "{"+web+"mtls: {mode: PERMISSIVE}, portLevelMtls: {$port: {mode: STRICT}}}"), "STRICT"},
		{"another port", policy(shop, "{"+web+"mtls: {mode: STRICT}, portLevelMtls: {1: {mode: DISABLE}}}"), "STRICT"},
		{"port as workload", policy(shop, "{"+web+"mtls: {mode: STRICT}, portLevelMtls: {$port: {mode: UNSET}}}"), "STRICT"},
	} {
		for _, d := range doors {
			t.Run(d.name+"/"+row.name, func(t *testing.T) {
				t.Parallel()
				m := inboundMesh(t, "", mesh.WithIdentity(held{a.Material(meshDomain, webID)}))
				addr := d.open(t, m)
				_, port, _ := net.SplitHostPort(addr)
				if err := m.Apply(t.Context(), []byte(strings.ReplaceAll(row.config, "$port", port))); err != nil {
					t.Fatal(err)
				}
				own := d.offers[len(d.offers)-1:]
				for i, config := range []*tls.Config{
					{NextProtos: d.offers, Certificates: []tls.Certificate{mine}}, {NextProtos: d.offers},
					{NextProtos: d.offers, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &theirs, nil }},
					{NextProtos: own}, nil,
				} {
					if config != nil {
						config.InsecureSkipVerify = true
					}
					got := "-"
					switch status, caller := d.knock(t, addr, config); {
					case status == http.StatusOK && caller == reviewsID:
						got = "+"
					case status == http.StatusOK && caller == "":
						got = "o"
					case status != 0:
						got = fmt.Sprint(status, caller)
					}
					if want := outcomes[row.mode][i : i+1]; got != want {
						t.Errorf("%s: %s, want %s", visitors[i], got, want)
					}
				}
			})
		}
	}
}

// TestMutualTLSByRule: what every driver makes of a call by rule and endpoint: which TLS, by which names (istio-semantics §2.3).
func TestMutualTLSByRule(t *testing.T) {
	t.Parallel()
	a := NewAuthority(t)
	const label, account = "labels: {security.istio.io/tlsMode: istio}", "serviceAccount: reviews"
	alpn := map[string]string{"HTTP": "istio-http/1.1 istio http/1.1", "HTTP2": "istio-h2 istio h2", "GRPC": "istio-h2 istio h2"}
	const auto, plain, files = "outbound_.80_._.HOST.default.svc.cluster.local", "plain", "files"
	rule := func(policy string) string {
		return "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: HOST}\nspec: {host: HOST, " + policy + "}\n---\n"
	}
	peers := func(spec string) string {
		return "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: HOST}\nspec: " + spec + "\n---\n"
	}
	rows := []struct{ name, endpoint, rule, want string }{
		{"account", account, "", auto},
		{"label", label, "", auto},
		{"nothing known", "weight: 1", "", plain},
		{"label disabled", account + ", labels: {security.istio.io/tlsMode: disabled}", "", plain},
		{"ISTIO_MUTUAL", "weight: 1", rule("trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}"), auto},
		{"DISABLE", account, rule("trafficPolicy: {tls: {mode: DISABLE}}"), plain},
		{"SIMPLE", account, rule("trafficPolicy: {tls: {mode: SIMPLE, insecureSkipVerify: true, sni: a.example.com}}"), files},
		{"another policy", account, rule("trafficPolicy: {connectionPool: {tcp: {connectTimeout: 5s}}}"), auto},
		{"limits of connections", account, rule("trafficPolicy: {connectionPool: {tcp: {maxConnections: 3}, http: {http1MaxPendingRequests: 3}}}"), auto},
		{"the port's", account, rule("trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}]}"), plain},
		{"the server says DISABLE", "labels: {app: HOST}, " + account, peers("{selector: {matchLabels: {app: HOST}}, mtls: {mode: DISABLE}}"), plain},
		{"another server says DISABLE", "labels: {app: HOST}, " + account, peers("{selector: {matchLabels: {app: other-HOST}}, mtls: {mode: DISABLE}}"), auto},
	}
	for _, caller := range callers {
		t.Run(caller.name, func(t *testing.T) {
			t.Parallel()
			var config strings.Builder
			heard := make([]<-chan string, len(rows))
			hosts := make([]string, len(rows))
			for i, row := range rows {
				hosts[i] = fmt.Sprint("s", i)
				addr, h := overhears(t, describes(a.Issue(reviewsID)))
				heard[i] = h
				config.WriteString(strings.Replace(serviceAt(hosts[i], caller.protocol, addr), "serviceAccount: reviews", strings.ReplaceAll(row.endpoint, "HOST", hosts[i]), 1))
				config.WriteString(strings.ReplaceAll(row.rule, "HOST", hosts[i]))
			}
			call := caller.start(t, config.String(), held{a.Material(meshDomain, webID)})
			for i, row := range rows {
				call(hosts[i])
				want := strings.ReplaceAll(row.want, "HOST", hosts[i])
				switch want {
				case plain:
				case files:
					want = "a.example.com " + strings.Fields(alpn[caller.protocol])[2]
				default:
					want += " " + alpn[caller.protocol] + " " + webID
				}
				if got := <-heard[i]; got != want {
					t.Errorf("%s: %q, want %q", row.name, got, want)
				}
			}
		})
	}
}

// TestLeastVersion: TLS 1.2 is taken from who has no more, unless MeshConfig says otherwise, at both ends of every driver.
func TestLeastVersion(t *testing.T) {
	t.Parallel()
	a := NewAuthority(t)
	own := held{a.Material(meshDomain, webID)}
	mine := a.Issue(reviewsID)
	const only13 = "apiVersion: mesh.istio.io/v1alpha1\nkind: MeshConfig\nmetadata: {name: m}\nspec: {meshMTLS: {minProtocolVersion: TLSV1_3}}\n---\n"
	for config, least := range map[string]uint16{"": tls.VersionTLS12, only13: tls.VersionTLS13} {
		for version := uint16(tls.VersionTLS11); version <= tls.VersionTLS13; version++ {
			want := version >= least
			for _, d := range doors {
				addr := d.open(t, inboundMesh(t, config+peerAuthentication("STRICT"), mesh.WithIdentity(own)))
				as := d.as(mine)
				as.MinVersion, as.MaxVersion = version, version
				if status, _ := d.knock(t, addr, as); (status == http.StatusOK) != want {
					t.Errorf("%s, %s, least %s: %d", d.name, tls.VersionName(version), tls.VersionName(least), status)
				}
			}
			for _, caller := range callers {
				addr, heard := overhears(t, handshakes(&tls.Config{Certificates: []tls.Certificate{mine}, ClientAuth: tls.RequestClientCert,
					NextProtos: []string{"h2", "http/1.1"}, MinVersion: version, MaxVersion: version}))
				caller.start(t, config+serviceAt("s", caller.protocol, addr), own)("s")
				if got := <-heard; (got != "") != want {
					t.Errorf("%s, %s, least %s: heard %q", caller.name, tls.VersionName(version), tls.VersionName(least), got)
				}
			}
		}
	}
}

// describes meets a client of TLS and gives, to be read, the names in its hello and who it proves to be: "plain" for one that says no
// hello.
func describes(own tls.Certificate) func(net.Conn) io.Reader {
	return func(c net.Conn) io.Reader {
		first := make([]byte, 1)
		if _, err := io.ReadFull(c, first); err != nil || first[0] != 0x16 {
			return strings.NewReader("plain")
		}
		said := ""
		s := tls.Server(&unread{c, first}, &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequestClientCert, NextProtos: []string{"h2", "http/1.1"},
			GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
				said = h.ServerName + " " + strings.Join(h.SupportedProtos, " ")
				return nil, nil
			},
			VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
				if len(raw) == 0 {
					return nil
				}
				leaf, err := x509.ParseCertificate(raw[0])
				if err == nil && len(leaf.URIs) > 0 {
					said += " " + leaf.URIs[0].String()
				}
				return err
			}})
		_ = s.SetDeadline(time.Now().Add(time.Minute))
		if err := s.Handshake(); err != nil {
			said += " " + err.Error()
		}
		return strings.NewReader(said)
	}
}

// An unread connection has its first byte still to be read.
type unread struct {
	net.Conn
	first []byte
}

func (u *unread) Read(p []byte) (int, error) {
	if len(u.first) > 0 {
		n := copy(p, u.first)
		u.first = u.first[n:]
		return n, nil
	}
	return u.Conn.Read(p)
}
