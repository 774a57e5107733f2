package meshtest

import (
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/identity/ca"
)

// WithIdentities gives every caller and every instance an identity of an authority that exists in the test only, as in
// spiffe://cluster.local/ns/<namespace>/sa/<account>, so that PeerAuthentication, AuthorizationPolicy and
// RequestAuthentication count as in production: instances stand behind [mesh.Mesh.Serve] as workloads of their own, with
// their labels, in the namespace of their host. accounts has the service accounts of instances, by host, written as for
// [Env.HTTP]; one that is not among them has the first part of its host's name, "reviews" for reviews.shop. A caller
// has that of its workload ([WithWorkload], [Env.As]), "default" where it has none.
//
//	meshtest.Run(t, meshtest.Dir("mesh.d"), func(t *testing.T, e *meshtest.Env) {
//		e.HTTP("ratings", nil, nil)
//		if a := e.As(mesh.Workload{ServiceAccount: "reviews"}).Get("http://ratings/"); a.Status != 200 {
//			t.Error("reviews may not call ratings:", a.Status)
//		}
//		if a := e.As(mesh.Workload{ServiceAccount: "productpage"}).Get("http://ratings/"); a.Status != 403 {
//			t.Error("productpage may call ratings:", a.Status)
//		}
//	}, meshtest.WithIdentities(nil))
//
// A ServiceEntry needs location MESH_INTERNAL, here as in production, for its endpoints to be called by mutual TLS; those
// that meshtest makes have it. What policies refuse does not reach an instance: [Instance.Calls] does not have it.
// Default: no identities; instances take everybody.
func WithIdentities(accounts map[string]string) Option {
	return option(func(s *settings) { s.identities, s.accounts = true, accounts })
}

// testDomain is the trust domain of a test's identities: Istio's default.
const testDomain = "cluster.local"

// source gives the identity of an account, nil in a test without identities.
func (w *world) source(namespace, account string) (identity.Source, error) {
	if w.authority == nil {
		return nil, nil //nolint:nilnil // as mesh.WithIdentity has it
	}
	if account == "" {
		account = "default"
	}
	id, err := identity.Workload(testDomain, namespace, account)
	if err != nil {
		return nil, err
	}
	return w.authority.Source(id), nil
}

// account gives the service account of a host's instances. w.mu is held.
func (w *world) account(host, namespace string) string {
	for name, account := range w.settings.accounts {
		if fullName(name, namespace, func(n string) bool { return n == host }) == host {
			return account
		}
	}
	name, _, _ := strings.Cut(host, ".")
	return name
}

func newAuthority() (*ca.Authority, error) { return ca.New(testDomain, ca.Options{}) }

// member makes an instance a workload of the mesh, with the configuration that is live. w.mu is held.
func (w *world) member(i *Instance, namespace string) error {
	if w.authority == nil {
		return nil
	}
	i.account = w.account(i.host, namespace)
	s, err := w.source(namespace, i.account)
	if err != nil {
		return err
	}
	nobody := func(host string) error { return fmt.Errorf("host %s is not called by instances", host) }
	texts, _ := render(w.docs, w.services)
	i.mesh, err = mesh.New(w.ctx, append(slices.Clone(w.settings.mesh),
		mesh.WithConfig(texts...),
		mesh.WithWorkload(mesh.Workload{Namespace: namespace, ServiceAccount: i.account, Labels: i.labels}),
		mesh.WithDialer(w.net.caller(nobody)),
		mesh.WithResolver(w.net),
		mesh.WithSeed(w.settings.seed),
		mesh.WithLogger(slog.New(slog.DiscardHandler)),
		mesh.WithIdentity(s))...)
	if err == nil {
		w.members = append(w.members, i.mesh)
	}
	return err
}

// meshes are all that have the configuration. w.mu is held.
func (w *world) meshes() []*mesh.Mesh {
	all := slices.Clone(w.members)
	for _, e := range w.envs {
		all = append(all, e.mesh)
	}
	return all
}

// serveHTTP serves the instance's listener, as a workload of the mesh where it is one.
func (i *Instance) serveHTTP() error {
	if i.mesh == nil {
		return i.server.Serve(i.listener)
	}
	i.server.Protocols.SetHTTP2(true)
	return i.mesh.Serve(&i.server, i.listener)
}

// connOf gives the instance's end of a connection that the mesh has handed out: what it wraps has its address. i.mu is
// held.
func (i *Instance) connOf(c net.Conn) *conn {
	if own, ok := c.(*conn); ok || c == nil {
		return own
	}
	for own := range i.conns {
		if net.Addr(own.remote) == c.RemoteAddr() { // the very same, by its pointer
			return own
		}
	}
	return nil
}
