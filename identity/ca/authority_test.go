package ca_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/identity/ca"
)

func id(t *testing.T, domain string) identity.ID {
	t.Helper()
	i, err := identity.Workload(domain, "default", "web")
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// TestSign: only what the caller vouches for is signed, for its own trust domain, for no longer than is allowed, and nothing
// that is not logged.
func TestSign(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log []ca.Issuance
		var full error
		a, err := ca.New("cluster.local", ca.Options{Life: time.Hour, IssuingLife: 90 * time.Minute, Issued: func(i ca.Issuance) error {
			log = append(log, i)
			return full
		}})
		if err != nil {
			t.Fatal(err)
		}
		key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		weak, _ := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
		chain, err := a.Sign(id(t, "cluster.local"), key.Public(), 10*365*24*time.Hour, "somebody")
		if err != nil {
			t.Fatal(err)
		}
		leaf := chain[0]
		if !leaf.NotAfter.Equal(time.Now().Add(time.Hour)) || leaf.IsCA || len(leaf.URIs) != 1 || len(leaf.DNSNames) != 0 {
			t.Errorf("until %v, authority %v, names %v %v", leaf.NotAfter, leaf.IsCA, leaf.URIs, leaf.DNSNames)
		}
		var what []string
		for _, i := range log {
			what = append(what, i.What)
		}
		last := log[len(log)-1]
		if strings.Join(what, " ") != "root issuing svid" || last.ID != "spiffe://cluster.local/ns/default/sa/web" || last.To != "somebody" || last.Serial != leaf.SerialNumber.Text(16) {
			t.Errorf("%v, %+v", what, last)
		}
		if _, err := a.Sign(id(t, "other.local"), key.Public(), 0, ""); err == nil {
			t.Error("signed for another trust domain")
		}
		if _, err := a.Sign(id(t, "cluster.local"), weak.Public(), 0, ""); err == nil {
			t.Error("signed a weak key")
		}
		full = errors.New("the disk is full")
		if chain, err := a.Sign(id(t, "cluster.local"), key.Public(), 0, ""); chain != nil || !errors.Is(err, full) {
			t.Errorf("signed without a log: %v", err)
		}
		full = nil
		time.Sleep(time.Hour) // an SVID ends with its issuer
		if chain, err = a.Sign(id(t, "cluster.local"), key.Public(), 0, ""); err != nil || chain[0].NotAfter.After(chain[1].NotAfter) {
			t.Errorf("until %v, its issuer until %v, %v", chain[0].NotAfter, chain[1].NotAfter, err)
		}
	})
}

// TestSourceRenews: at 40 to 50 % of its life an SVID is replaced, and at once where the authority changes.
func TestSourceRenews(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a, err := ca.New("cluster.local", ca.Options{Life: 100 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		taken := make(chan time.Time, 10)
		i := identity.New(identity.Options{Report: func(e identity.Event) {
			if e.Kind == identity.EventTaken {
				taken <- time.Now()
			}
		}})
		go func() { _ = i.Run(t.Context(), a.Source(id(t, "cluster.local"))) }()
		first := <-taken
		second := <-taken
		if apart := second.Sub(first); apart < 40*time.Second || apart > 50*time.Second {
			t.Errorf("renewed after %v", apart)
		}
		if err := a.AddRoot(); err != nil {
			t.Fatal(err)
		}
		if third := <-taken; !third.Equal(second) || len(i.Status().Bundles["cluster.local"]) != 2 {
			t.Errorf("told %v later, %d authorities", third.Sub(second), len(i.Status().Bundles["cluster.local"]))
		}
	})
}
