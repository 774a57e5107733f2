package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/identity/ca"
	"github.com/heddlemesh/mesh/internal/capture"
)

// trustDomain is Istio's default, by which rules name principals: cluster.local/ns/default/sa/bookinfo-reviews.
const trustDomain = "cluster.local"

// socketEnv says where a process finds its identity, as SPIFFE has it. heddle proxy reads it by itself.
const socketEnv = "SPIFFE_ENDPOINT_SOCKET"

// An issuer is the development CA of the demo: every process has a socket of its own, by which it is known.
type issuer struct {
	dir    string
	server *ca.Server
	stop   func()
}

// openIssuer makes an authority in a temporary directory and issues by it to the instances. SVIDs live for minutes, so that
// they are seen to be replaced.
func openIssuer(instances []*instance, failed func(error)) (*issuer, error) {
	dir, err := os.MkdirTemp("", "bookinfo-ca-")
	if err != nil {
		return nil, err
	}
	authority, err := ca.Init(filepath.Join(dir, "ca.d"), trustDomain, ca.Options{Life: 10 * time.Minute})
	if err != nil {
		return nil, fmt.Errorf("%w (in %s)", err, dir)
	}
	i := &issuer{dir: dir}
	var workloads []ca.Workload
	for _, one := range instances {
		w, err := one.workload()
		if err != nil {
			return nil, err
		}
		workloads = append(workloads, w)
	}
	if i.server, err = authority.Listen(ca.ServerOptions{Sockets: filepath.Join(dir, "s"), Workloads: workloads, Report: failed}); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := i.server.Run(ctx); err != nil {
			failed(err)
		}
	}()
	i.stop = func() {
		cancel()
		<-done
		_ = authority.Close()
		_ = os.RemoveAll(dir)
	}
	return i, nil
}

// workload is what an instance is to the CA: a name of its own, and the account of its service.
func (i *instance) workload() (ca.Workload, error) {
	id, err := identity.Workload(trustDomain, "default", i.account())
	w := ca.Workload{Name: i.name, ID: id}
	if i.captured() {
		w.User = capture.Owner
	}
	return w, err
}

// account is the service account, as Istio's BookInfo has them.
func (i *instance) account() string { return "bookinfo-" + i.service }

// endpoint is the Workload API of an instance.
func (s *issuer) endpoint(i *instance) string {
	return "unix://" + s.server.Socket(ca.Workload{Name: i.name})
}
