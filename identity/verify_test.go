//go:debug rsa1024min=0

package identity_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/identity"
)

// meet has our identity on one side and a peer with the certificate on the other, in both roles and with both versions
// of TLS, and holds the outcome against want: "" for accepted, else a part of our error.
func meet(t *testing.T, self *identity.Identity, peer tls.Certificate, want map[string]string, aliases ...string) {
	t.Helper()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, role := range []string{"client", "server"} { // the peer's
			var err error
			other := &tls.Config{Certificates: []tls.Certificate{peer}, MinVersion: version, MaxVersion: version,
				InsecureSkipVerify: true, ClientAuth: tls.RequestClientCert}
			if role == "client" {
				config, e := self.ServerConfig(identity.ServerOptions{Aliases: aliases})
				if e != nil {
					t.Fatal(e)
				}
				// crypto/tls would show only what suits the server's wishes.
				other.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &peer, nil }
				err, _ = handshake(t, config, other)
			} else {
				config, e := self.ClientConfig(identity.ClientOptions{ServerName: "reviews", Aliases: aliases})
				if e != nil {
					t.Fatal(e)
				}
				_, err = handshake(t, other, config)
			}
			wanted, ok := want[role]
			if !ok {
				wanted = want[""]
			}
			name := tls.VersionName(version) + ", peer is " + role
			switch {
			case wanted == "" && err != nil:
				t.Errorf("%s: %v, want it accepted", name, err)
			case wanted != "" && (err == nil || !strings.Contains(err.Error(), wanted)):
				t.Errorf("%s: %v, want %q", name, err, wanted)
			}
		}
	}
}

// TestVerify is rows C-001 to C-012, C-018 and C-019 of the catalogue of attacks.
func TestVerify(t *testing.T) {
	t.Parallel()
	root, foreign := newMaker(t, nil), newMaker(t, nil)
	self := newIdentity(t, &identity.Material{SVID: root.svid(t, webID, nil),
		Bundles: bundles(map[string]*maker{domain: root, "td-a": root, "td-b": foreign})})
	issuing := root.below(t, nil)
	all := func(s string) map[string]string { return map[string]string{"": s} }
	with := func(change func(*x509.Certificate)) func(*testing.T) tls.Certificate {
		return func(t *testing.T) tls.Certificate { return root.svid(t, restID, change) }
	}
	named := func(id string) func(*testing.T) tls.Certificate { return with(rawNames(uri(id))) }
	rows := map[string]struct {
		peer func(t *testing.T) tls.Certificate
		want map[string]string
	}{
		"sound":                         {with(nil), nil},
		"sound, with issuing":           {func(t *testing.T) tls.Certificate { return issuing.svid(t, restID, nil, issuing) }, nil},
		"sound, federated":              {func(t *testing.T) tls.Certificate { return foreign.svid(t, "spiffe://td-b/x", nil) }, nil},
		"C-001 expired by 1 s":          {with(func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) }), all("expired")},
		"C-001 expires now":             {with(func(c *x509.Certificate) { c.NotAfter = now }), nil},
		"C-002 not valid for 1 s":       {with(func(c *x509.Certificate) { c.NotBefore = now.Add(time.Second) }), all("not yet valid")},
		"C-003 issuing expired":         {expiredIssuing(root), all("expired")},
		"C-004 trust domain":            {with(rawNames(uri("spiffe://other.local/ns/default/sa/x"))), all("nobody is believed for trust domain other.local")},
		"C-005 signed by td-b":          {func(t *testing.T) tls.Certificate { return foreign.svid(t, "spiffe://td-a/x", nil) }, all("unknown authority")},
		"C-006 no name":                 {with(func(c *x509.Certificate) { c.URIs = nil }), all("0 URIs")},
		"C-006 DNS name":                {with(func(c *x509.Certificate) { c.URIs, c.DNSNames = nil, []string{"reviews"} }), all("0 URIs")},
		"C-006 URI beside DNS":          {with(func(c *x509.Certificate) { c.DNSNames = []string{"reviews"} }), nil},
		"C-006 common name":             {with(func(c *x509.Certificate) { c.URIs, c.Subject.CommonName = nil, restID }), all("0 URIs")},
		"C-007 two URIs":                {with(rawNames(uri(restID), uri(webID))), all("2 URIs")},
		"C-007 spiffe and http":         {with(rawNames(uri(restID), uri("http://a/"))), all("2 URIs")},
		"C-008 scheme":                  {named("SPIFFE://cluster.local/a"), all("does not begin")},
		"C-008 upper case":              {named("spiffe://Cluster.local/a"), all("lower-case")},
		"C-008 port":                    {named("spiffe://cluster.local:80/a"), all("lower-case")},
		"C-008 user":                    {named("spiffe://u@cluster.local/a"), all("lower-case")},
		"C-008 query":                   {named("spiffe://cluster.local/a?b"), all("path may not have")},
		"C-008 fragment":                {named("spiffe://cluster.local/a#b"), all("path may not have")},
		"C-008 dots":                    {named("spiffe://cluster.local/a/../b"), all("dot segment")},
		"C-008 empty segment":           {named("spiffe://cluster.local//a"), all("empty path segment")},
		"C-008 trailing slash":          {named("spiffe://cluster.local/a/"), all("empty path segment")},
		"C-008 percent":                 {named("spiffe://cluster.local/%61"), all("path may not have")},
		"C-008 no path":                 {named("spiffe://cluster.local"), all("no path")},
		"C-008 too long":                {named("spiffe://cluster.local/" + strings.Repeat("a", 2049-23)), all("longer than 2048")},
		"C-008 as long as may be":       {named("spiffe://cluster.local/" + strings.Repeat("a", 2048-23)), nil},
		"C-009 NUL in a URI":            {unreadable(root, "spiffe://cluster.local/a\x00b"), all("invalid control character")},
		"C-009 newline in a URI":        {unreadable(root, "spiffe://cluster.local/a\nb"), all("invalid control character")},
		"C-009 NUL in a DNS name":       {with(rawNames(uri(restID), asn1.RawValue{Class: 2, Tag: 2, Bytes: []byte("a\x00.b")})), all("no header can have")},
		"C-009 lines in a DNS name":     {with(rawNames(uri(restID), asn1.RawValue{Class: 2, Tag: 2, Bytes: []byte("a\r\nEvil: 1")})), all("no header can have")},
		"C-009 lines in a mail address": {with(rawNames(uri(restID), asn1.RawValue{Class: 2, Tag: 1, Bytes: []byte("a\r\n@b")})), all("no header can have")},
		"C-009 other name":              {with(rawNames(uri(restID), asn1.RawValue{Class: 2, Tag: 0, IsCompound: true, Bytes: []byte{6, 1, 0x2a}})), all("name of type 0")},
		"C-010 only server":             {with(use(x509.ExtKeyUsageServerAuth)), map[string]string{"client": "not for clients"}},
		"C-010 only client":             {with(use(x509.ExtKeyUsageClientAuth)), map[string]string{"server": "not for servers"}},
		"C-010 none":                    {with(use()), nil},
		"C-010 any":                     {with(use(x509.ExtKeyUsageAny)), all("extended key usage")},
		"C-010 code":                    {with(use(x509.ExtKeyUsageCodeSigning)), all("extended key usage")},
		"C-011 leaf is authority":       {with(func(c *x509.Certificate) { c.IsCA, c.KeyUsage = true, c.KeyUsage|x509.KeyUsageCertSign }), all("authority's")},
		"C-011 may sign":                {with(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }), all("may sign")},
		"C-011 no signature":            {with(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyEncipherment }), all("digitalSignature")},
		"C-011 issuing is none":         {underLeaf(root), all("unknown authority")},
		"C-012 signed by itself":        {signedByItself, all("unknown authority")},
		"C-018 excluded":                {constrained(root, func(c *x509.Certificate) { c.ExcludedURIDomains = []string{domain} }), all("constraint")},
		"C-018 excluded wildcard":       {constrained(root, func(c *x509.Certificate) { c.ExcludedURIDomains = []string{".local"} }), all("constraint")},
		"C-018 excluded, any case":      {constrained(root, func(c *x509.Certificate) { c.ExcludedURIDomains = []string{"CLUSTER.local"} }), all("constraint")},
		"C-018 permitted":               {constrained(root, func(c *x509.Certificate) { c.PermittedURIDomains = []string{domain} }), nil},
		"C-018 permitted another":       {constrained(root, func(c *x509.Certificate) { c.PermittedURIDomains = []string{"a.local"} }), all("constraint")},
		"C-019 100 links":               {longChain(root, 100), all("shows 101 certificates")},
		"C-019 1000 names":              {with(manyNames(1000)), all("1000 names")},
		"C-019 RSA 2048":                {withKey(root, func() (any, any) { k, _ := rsa.GenerateKey(rand.Reader, 2048); return k, k.Public() }), nil},
		"C-019 RSA 1024":                {withKey(root, func() (any, any) { k, _ := rsa.GenerateKey(rand.Reader, 1024); return k, k.Public() }), all("1024 bits")},
	}
	for name, row := range rows {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			meet(t, self, row.peer(t), row.want)
		})
	}
	t.Run("C-004 alias", func(t *testing.T) {
		t.Parallel()
		peer := root.svid(t, restID, rawNames(uri("spiffe://old.local/ns/default/sa/x")))
		meet(t, self, peer, nil, "old.local")
	})
	t.Run("C-003 expired root", func(t *testing.T) {
		t.Parallel()
		old := newMaker(t, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) })
		both := newIdentity(t, &identity.Material{SVID: root.svid(t, webID, nil),
			Bundles: map[string][]*x509.Certificate{domain: {root.cert, old.cert}}})
		meet(t, both, old.svid(t, restID, nil), all("expired"))
	})
}

func use(list ...x509.ExtKeyUsage) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.ExtKeyUsage = list }
}

// unreadable makes a certificate that x509 refuses to read.
func unreadable(root *maker, id string) func(*testing.T) tls.Certificate {
	return func(t *testing.T) tls.Certificate {
		k, tmpl := key(t), leafTemplate(restID)
		rawNames(uri(id))(tmpl)
		tmpl.SerialNumber = big.NewInt(root.next.Add(1))
		der, err := x509.CreateCertificate(rand.Reader, tmpl, root.cert, k.Public(), root.key)
		if err != nil {
			t.Fatal(err)
		}
		return tls.Certificate{PrivateKey: k, Certificate: [][]byte{der}}
	}
}

func expiredIssuing(root *maker) func(*testing.T) tls.Certificate {
	return func(t *testing.T) tls.Certificate {
		m := root.below(t, func(c *x509.Certificate) { c.NotAfter = now.Add(-time.Second) })
		return m.svid(t, restID, nil, m)
	}
}

func underLeaf(root *maker) func(*testing.T) tls.Certificate {
	return func(t *testing.T) tls.Certificate {
		m := root.below(t, func(c *x509.Certificate) { c.IsCA, c.KeyUsage = false, x509.KeyUsageDigitalSignature })
		return m.svid(t, restID, nil, m)
	}
}

func signedByItself(t *testing.T) tls.Certificate {
	m := &maker{key: key(t)}
	m.cert = leafTemplate(restID)
	c := m.sign(t, leafTemplate(restID), m.key.Public())
	return tls.Certificate{PrivateKey: m.key, Certificate: [][]byte{c.Raw}}
}

func constrained(root *maker, change func(*x509.Certificate)) func(*testing.T) tls.Certificate {
	return func(t *testing.T) tls.Certificate {
		m := root.below(t, change)
		return m.svid(t, restID, nil, m)
	}
}

func longChain(root *maker, n int) func(*testing.T) tls.Certificate {
	return func(t *testing.T) tls.Certificate {
		m := root
		var above []*maker
		for range n {
			m = m.below(t, nil)
			above = append([]*maker{m}, above...)
		}
		return m.svid(t, restID, nil, above...)
	}
}

func manyNames(n int) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		for range n - 1 {
			c.DNSNames = append(c.DNSNames, "a")
		}
	}
}

func withKey(root *maker, generate func() (private, public any)) func(*testing.T) tls.Certificate {
	return func(t *testing.T) tls.Certificate {
		private, public := generate()
		return tls.Certificate{PrivateKey: private, Certificate: [][]byte{root.sign(t, leafTemplate(restID), public).Raw}}
	}
}

// TestNoCertificate is row C-013.
func TestNoCertificate(t *testing.T) {
	t.Parallel()
	root := newMaker(t, nil)
	self := newIdentity(t, &identity.Material{SVID: root.svid(t, webID, nil), Bundles: bundles(map[string]*maker{domain: root})})
	for _, optional := range []bool{false, true} {
		told := 0
		config, err := self.ServerConfig(identity.ServerOptions{Optional: optional, Verified: func(p identity.Peer) {
			told++
			if !p.ID.IsZero() {
				t.Errorf("told %v", p.ID)
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		err, _ = handshake(t, config, &tls.Config{InsecureSkipVerify: true})
		if (err == nil) != optional || (told == 1) != optional {
			t.Errorf("optional %v: %v, told %d times", optional, err, told)
		}
	}
}

// TestSecureNaming is row C-016: the server has to be one that was meant.
func TestSecureNaming(t *testing.T) {
	t.Parallel()
	root := newMaker(t, nil)
	self := newIdentity(t, &identity.Material{SVID: root.svid(t, webID, nil), Bundles: bundles(map[string]*maker{domain: root})})
	for name, row := range map[string]struct {
		server func(*x509.Certificate)
		o      identity.ClientOptions
		ok     bool
	}{
		"anybody":              {nil, identity.ClientOptions{}, true},
		"account":              {nil, identity.ClientOptions{Accounts: []string{"default/reviews"}}, true},
		"one of two":           {nil, identity.ClientOptions{Accounts: []string{"default/a", "default/reviews"}}, true},
		"another account":      {nil, identity.ClientOptions{Accounts: []string{"default/ratings"}}, false},
		"another namespace":    {nil, identity.ClientOptions{Accounts: []string{"prod/reviews"}}, false},
		"prefix":               {nil, identity.ClientOptions{Accounts: []string{"default/review"}}, false},
		"URI":                  {nil, identity.ClientOptions{Names: []string{restID}}, true},
		"another URI":          {nil, identity.ClientOptions{Names: []string{webID}}, false},
		"DNS name":             {dns("a.example.com"), identity.ClientOptions{Names: []string{"a.example.com"}}, true},
		"wildcard certificate": {dns("*.example.com"), identity.ClientOptions{Names: []string{"a.b.example.com"}}, false},
		"no such name":         {nil, identity.ClientOptions{Names: []string{"10.0.0.1"}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var p identity.Peer
			row.o.Verified = func(q identity.Peer) { p = q }
			config, err := self.ClientConfig(row.o)
			if err != nil {
				t.Fatal(err)
			}
			_, err = handshake(t, &tls.Config{Certificates: []tls.Certificate{root.svid(t, restID, row.server)}}, config)
			if (err == nil) != row.ok || row.ok != (p.ID.String() == restID) {
				t.Errorf("%v, peer %v", err, p.ID)
			}
			if err != nil && !strings.Contains(err.Error(), restID) {
				t.Errorf("%v does not say who answered", err)
			}
		})
	}
}

func dns(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.DNSNames = []string{name} }
}

// TestNoTickets is row C-031: a session is never resumed, so that everything is checked each time.
func TestNoTickets(t *testing.T) {
	t.Parallel()
	root := newMaker(t, nil)
	self := newIdentity(t, &identity.Material{SVID: root.svid(t, webID, nil), Bundles: bundles(map[string]*maker{domain: root})})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		cache := tls.NewLRUClientSessionCache(4)
		client := &tls.Config{InsecureSkipVerify: true, ServerName: "x", ClientSessionCache: cache, MaxVersion: version,
			Certificates: []tls.Certificate{root.svid(t, restID, nil)}}
		verified := 0
		for range 2 {
			config, err := self.ServerConfig(identity.ServerOptions{Verified: func(identity.Peer) { verified++ }})
			if err != nil {
				t.Fatal(err)
			}
			if err, _ := handshake(t, config, client); err != nil {
				t.Fatal(err)
			}
		}
		if _, kept := cache.Get("x"); kept || verified != 2 {
			t.Errorf("%s: ticket %v, verified %d times", tls.VersionName(version), kept, verified)
		}
	}
}

// TestALPN is row C-033: no protocol in common, no connection.
func TestALPN(t *testing.T) {
	t.Parallel()
	root := newMaker(t, nil)
	self := newIdentity(t, &identity.Material{SVID: root.svid(t, webID, nil), Bundles: bundles(map[string]*maker{domain: root})})
	config, err := self.ServerConfig(identity.ServerOptions{Protocols: []string{"h2"}})
	if err != nil {
		t.Fatal(err)
	}
	err, _ = handshake(t, config, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"evil\r\n\x1b[0m"},
		Certificates: []tls.Certificate{root.svid(t, restID, nil)}})
	if err == nil || strings.ContainsAny(err.Error(), "\r\n\x1b") {
		t.Errorf("%q", err)
	}
}

// TestStrongKey: keys that a certificate cannot be made with here, or that take minutes to make.
func TestStrongKey(t *testing.T) {
	t.Parallel()
	weak, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	modulus := func(bits uint) *rsa.PublicKey {
		return &rsa.PublicKey{E: 65537, N: new(big.Int).SetBit(new(big.Int), int(bits)-1, 1)}
	}
	for name, row := range map[string]struct {
		key any
		ok  bool
	}{
		"P-224": {weak.Public(), false}, "P-256": {key(t).Public(), true}, "nothing": {nil, false},
		"RSA 16384": {modulus(16384), false}, "RSA 8192": {modulus(8192), true}, "RSA 2047": {modulus(2047), false},
		"Ed25519": {ed25519.PublicKey(make([]byte, 32)), true},
	} {
		if err := identity.StrongKey(row.key); (err == nil) != row.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseID(f *testing.F) {
	for _, s := range []string{webID, "spiffe://a", "spiffe://a/", "spiffe:///a", "spiffe://a/b/../c", "spiffe://a/b%2fc", "http://a/b", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		id, err := identity.ParseID(s)
		if err != nil {
			if !id.IsZero() {
				t.Errorf("%q: %v and %v", s, id, err)
			}
			return
		}
		if id.String() != s {
			t.Errorf("%q reads as %q", s, id)
		}
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "spiffe" || u.Host != id.TrustDomain() || u.Path != id.Path() || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
			t.Errorf("%q: net/url has %+v, %v", s, u, err)
		}
	})
}
