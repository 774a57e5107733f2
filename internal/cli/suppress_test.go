package cli

import (
	"testing"

	"github.com/heddlemesh/mesh/config"
)

func TestSuppressions(t *testing.T) {
	t.Parallel()
	f := config.Finding{Code: "IST0101", Kind: "VirtualService", Namespace: "shop", Name: "web.v1"}
	for flag, want := range map[string]bool{
		"IST0101":                              true,
		"IST0102":                              false,
		"IST0101=VirtualService shop/web.v1":   true,
		"IST0101=VirtualService web.v1.shop":   true,
		"IST0101=virtualservice shop/*":        true,
		"IST0101=VirtualService *.shop":        true,
		"IST0101=VirtualService */web.*":       true,
		"IST0101=VirtualService default/*":     false,
		"IST0101=VirtualService shop/web":      false,
		"IST0101=DestinationRule shop/web.v1":  false,
		"IST0101=VirtualService  shop/web.v1 ": true,
	} {
		var l suppressions
		if err := l.Set(flag); err != nil {
			t.Errorf("%s: %v", flag, err)
		} else if got := l.covers(f); got != want {
			t.Errorf("%s covers: %v", flag, got)
		}
	}
}

// FuzzSuppressions: what is accepted can be asked, and covers findings of its own code only.
func FuzzSuppressions(f *testing.F) {
	for _, s := range []string{"IST0101", "IST0101=VirtualService shop/*", "IST0101=Kind name.ns", "IST0101=K [/]", "=", "IST0101= "} {
		f.Add(s, "VirtualService", "shop", "web")
	}
	f.Fuzz(func(t *testing.T, flag, kind, namespace, name string) {
		var l suppressions
		if l.Set(flag) != nil {
			if len(l) > 0 {
				t.Fatal("refused and kept")
			}
			return
		}
		l.covers(config.Finding{Code: flag[:7], Kind: kind, Namespace: namespace, Name: name})
		if l.covers(config.Finding{Code: "HDL9999", Kind: kind, Namespace: namespace, Name: name}) && flag[:7] != "HDL9999" {
			t.Fatalf("%q covers another code", flag)
		}
	})
}
