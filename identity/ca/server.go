package ca

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/internal/socket"
)

// A Workload is one that a server issues to.
type Workload struct {
	Name string // of its socket and its token file
	ID   identity.ID
	// User is whose processes may ask beside the CA's own, by number: a sidecar behind which connections are captured has a user
	// of its own. The socket is then that user's, which needs root, and the directory of the sockets stays closed to him: the
	// socket is to be mounted where he finds it. Default: nobody's.
	User uint32
}

// ServerOptions is what a Server is made of.
type ServerOptions struct {
	// Sockets is the directory of the sockets, made with mode 0700 where it is not there. Whoever can open a socket
	// has the workload's identity. A relative path is one below the working directory.
	Sockets   string
	Workloads []Workload
	// Istio is where Istio's CSR protocol is served, "host:port" of this machine; each workload's token is then the file
	// <name>.token beside its socket, a new one with each start. Default: nowhere.
	Istio string
	// Federated are files with the bundles of other trust domains, by name, read again when they change. Default: none.
	Federated map[string]string
	// Report hears of what fails while the server goes on: a rotation, a bundle that cannot be read. Default: nobody hears.
	Report func(error)
}

// A Server issues to workloads: over the SPIFFE Workload API, a socket for each, and over Istio's CSR protocol.
type Server struct {
	authority *Authority
	o         ServerOptions
	sockets   []net.Listener
	istio     net.Listener // nil for none
	tokens    Tokens
	seen      map[string]identity.Stamp // of the bundles
	files     []string                  // to be removed at the end
}

// Listen opens a server's sockets; Run serves them. Where one cannot be opened, none is. A socket that nobody listens on
// is taken to be one that was left behind, and replaced.
func (a *Authority) Listen(o ServerOptions) (*Server, error) {
	if o.Report == nil {
		o.Report = func(error) {}
	}
	s := &Server{authority: a, o: o, seen: make(map[string]identity.Stamp)}
	if err := s.open(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *Server) open() error {
	if err := s.federate(); err != nil {
		return err
	}
	dir, err := filepath.Abs(s.o.Sockets)
	if err != nil {
		return err
	}
	s.o.Sockets = dir
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := private(dir); err != nil {
		return fmt.Errorf("whoever can open a workload's socket has its identity: %w", err)
	}
	for _, w := range s.o.Workloads {
		l, err := listenFor(s.Socket(w), w.User)
		if err != nil {
			return fmt.Errorf("open socket of %s: %w", w.Name, err)
		}
		s.sockets = append(s.sockets, l)
	}
	if s.o.Istio == "" {
		return nil
	}
	if err := s.writeTokens(); err != nil {
		return err
	}
	if s.istio, err = net.Listen("tcp", s.o.Istio); err != nil {
		return err
	}
	if a, ok := s.istio.Addr().(*net.TCPAddr); !ok || !a.IP.IsLoopback() {
		return fmt.Errorf("listen on %s: not a loopback address, and this is a CA for one machine", s.o.Istio)
	}
	return nil
}

// Socket gives the path of a workload's socket.
func (s *Server) Socket(w Workload) string { return filepath.Join(s.o.Sockets, w.Name+".sock") }

// IstioAddr gives the address of Istio's CSR protocol, nil where it is not served.
func (s *Server) IstioAddr() net.Addr {
	if s.istio == nil {
		return nil
	}
	return s.istio.Addr()
}

// listenFor opens a socket that only a user can connect to, 0 for the owner of this process.
func listenFor(path string, user uint32) (net.Listener, error) {
	l, err := socket.Listen(path)
	if err != nil || user == 0 {
		return l, err
	}
	if err := os.Chown(path, int(user), -1); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// writeTokens gives every workload a token.
func (s *Server) writeTokens() error {
	for _, w := range s.o.Workloads {
		token := rand.Text()
		if err := s.tokens.Add(token, w.ID); err != nil {
			return err
		}
		name := filepath.Join(s.o.Sockets, w.Name+".token")
		if err := WriteFile(name, []byte(token+"\n")); err != nil {
			return err
		}
		s.files = append(s.files, name)
	}
	return nil
}

// Run serves until ctx ends, rotates what is due, reads bundles that have changed, and then takes away sockets and
// tokens. It fails where a listener breaks.
func (s *Server) Run(ctx context.Context) error {
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error)
	serve := func(f func() error) {
		go func() {
			err := f()
			stop()
			ended <- err
		}()
	}
	for i, w := range s.o.Workloads {
		serve(func() error { return s.authority.serveWorkloadAPI(running, s.sockets[i], w) })
	}
	if s.istio != nil {
		serve(func() error { return s.authority.ServeIstio(running, s.istio, &s.tokens) })
	}
	serve(func() error { s.maintain(running); return nil })
	var err error
	for range len(s.o.Workloads) + 1 {
		err = errors.Join(err, <-ended)
	}
	if s.istio != nil {
		err = errors.Join(err, <-ended)
	}
	return errors.Join(err, s.close())
}

// every is how often a server looks for what is due.
const every = time.Second

func (s *Server) maintain(ctx context.Context) {
	t := time.NewTicker(every)
	defer t.Stop()
	told := ""
	for {
		err := errors.Join(s.authority.Rotate(), s.federate())
		if err != nil && err.Error() != told {
			s.o.Report(err)
		}
		if told = ""; err != nil {
			told = err.Error()
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// federate reads the bundles of other trust domains where one has changed: all are taken or none.
func (s *Server) federate() error {
	changed := false
	for _, name := range s.o.Federated {
		if now := identity.StampOf(name); s.seen[name] != now || now == (identity.Stamp{}) {
			changed, s.seen[name] = true, now
		}
	}
	if !changed {
		return nil
	}
	bundles := make(map[string][]*x509.Certificate, len(s.o.Federated))
	for domain, name := range s.o.Federated {
		bundle, err := identity.ReadBundle(name)
		if err != nil {
			clear(s.seen) // and so it is tried again
			return err
		}
		bundles[domain] = bundle
	}
	return s.authority.Federate(bundles)
}

func (s *Server) close() error {
	var err error
	all := slices.Clone(s.sockets)
	if s.istio != nil {
		all = append(all, s.istio)
	}
	for _, l := range all {
		if closed := l.Close(); closed != nil && !errors.Is(closed, net.ErrClosed) {
			err = errors.Join(err, closed)
		}
	}
	for _, name := range s.files {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}

// ParseWorkload reads "name=namespace/account" or "namespace/account", whose name is the account's.
func ParseWorkload(trustDomain, text string) (Workload, error) {
	name, account, named := strings.Cut(text, "=")
	if !named {
		account = text
	}
	namespace, sa, ok := strings.Cut(account, "/")
	if !named {
		name = sa
	}
	if !ok || name == "" || strings.ContainsAny(name, `/\`) || strings.HasPrefix(name, ".") {
		return Workload{}, fmt.Errorf("%q: expected name=namespace/account or namespace/account", text)
	}
	id, err := identity.Workload(trustDomain, namespace, sa)
	return Workload{Name: name, ID: id}, err
}
