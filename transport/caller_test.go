package transport

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"regexp"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/identity"
)

// oneElement is an element of x-forwarded-client-cert as it is written here: names that are not plain stand in quotes.
var oneElement = regexp.MustCompile(`^By=[^,;="\\ ]+;Hash=[0-9a-f]{64};Subject="(?:[^"\\]|\\.)*";URI=[^,;="\\ ]+((?:;DNS=(?:"(?:[^"\\]|\\.)*"|[^,;="\\ ]*))*)$`)

var oneName = regexp.MustCompile(`;DNS=("(?:[^"\\]|\\.)*"|[^,;="\\ ]*)`)

// FuzzForwardedCert: whatever a certificate has for names, the header has one element of printable text, and the names read back
// (attacks.md B-037).
func FuzzForwardedCert(f *testing.F) {
	f.Add("web", "web.example", "b")
	f.Add(`a;b,c="d\e";URI=spiffe://evil/x,By=f`, `a,By=b`, `"`)
	f.Add("x\r\nX-Role: admin\x00", "a\r\nx-role:admin", "\x7f\xff")
	own, err := identity.ParseID("spiffe://cluster.local/ns/default/sa/web")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, subject, first, second string) {
		names := []string{first, second}
		p := &identity.Peer{ID: own, Certificate: &x509.Certificate{Subject: pkix.Name{CommonName: subject}, DNSNames: names}}
		said := forwardedCert(own, p)
		if strings.ContainsFunc(said, func(c rune) bool { return c < ' ' || c >= 0x7f }) {
			t.Fatalf("%q is no field's value", said)
		}
		parts := oneElement.FindStringSubmatch(said)
		if parts == nil {
			t.Fatalf("%q is not one element", said)
		}
		found := oneName.FindAllStringSubmatch(parts[1], -1)
		if len(found) != len(names) {
			t.Fatalf("%q has %d names", said, len(found))
		}
		for i, name := range names {
			if strings.ContainsFunc(name, func(c rune) bool { return c < ' ' || c >= 0x7f }) {
				continue // what no field can hold is written another way
			}
			got := found[i][1]
			if strings.HasPrefix(got, `"`) {
				got = regexp.MustCompile(`\\(.)`).ReplaceAllString(got[1:len(got)-1], "$1")
			}
			if got != name {
				t.Fatalf("%q reads as %q", name, got)
			}
		}
	})
}
