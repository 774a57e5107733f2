package ca

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	security "istio.io/api/security/v1alpha1"

	"github.com/heddlemesh/mesh/identity"
)

// Tokens are bearer tokens and the workloads that they were given to.
type Tokens struct {
	ids map[[sha256.Size]byte]identity.ID
}

// Add gives the token to a workload. A token of less than 16 characters, or one that somebody has, is refused.
func (t *Tokens) Add(token string, id identity.ID) error {
	sum := sha256.Sum256([]byte(token))
	switch {
	case len(token) < minToken:
		return fmt.Errorf("a token of %d characters: %d are the least", len(token), minToken)
	case !t.ids[sum].IsZero():
		return fmt.Errorf("the token of %s is that of %s too", id, t.ids[sum])
	case t.ids == nil:
		t.ids = make(map[[sha256.Size]byte]identity.ID)
	}
	t.ids[sum] = id
	return nil
}

const minToken = 16

// of gives whose the token is. It is looked up by its hash: how long that takes says nothing of it.
func (t *Tokens) of(token string) (identity.ID, bool) {
	id, ok := t.ids[sha256.Sum256([]byte(token))]
	return id, ok
}

// ServeIstio serves Istio's CSR protocol, istio.v1.auth.IstioCertificateService, over TLS, on a listener, until ctx ends,
// or with an error of the listener, which it closes. The server shows a certificate of the authority for istiod's service
// account and the names "localhost", "istiod.istio-system.svc" and the listener's address. Every request needs a token of
// a workload in "authorization: Bearer", from whatever address it comes, and gets a certificate of that workload's ID:
// what else the CSR asks for is not signed, and one that asks for another ID is refused.
func (a *Authority) ServeIstio(ctx context.Context, l net.Listener, tokens *Tokens) error {
	shown := &serving{authority: a, names: []string{"localhost", "istiod.istio-system.svc"}}
	if tcp, ok := l.Addr().(*net.TCPAddr); ok {
		shown.ip = tcp.IP
	}
	if _, err := shown.certificate(nil); err != nil {
		return errors.Join(err, l.Close())
	}
	s := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: shown.certificate})),
		grpc.MaxRecvMsgSize(maxRequest), grpc.MaxConcurrentStreams(maxStreams), grpc.ConnectionTimeout(10*time.Second))
	security.RegisterIstioCertificateServiceServer(s, &istioAPI{authority: a, tokens: tokens})
	return serveGRPC(ctx, s, l)
}

type istioAPI struct {
	security.UnimplementedIstioCertificateServiceServer
	authority *Authority
	tokens    *Tokens
}

// CreateCertificate implements IstioCertificateService. The chain ends with the roots, all of them in its last element.
func (i *istioAPI) CreateCertificate(ctx context.Context, r *security.IstioCertificateRequest) (*security.IstioCertificateResponse, error) {
	id, ok := i.caller(ctx)
	if !ok {
		return nil, status.Error(codes.Unauthenticated, "no token of a workload")
	}
	request, err := ParseCSR([]byte(r.GetCsr()))
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	for _, uri := range request.URIs {
		if uri.String() != id.String() {
			return nil, status.Errorf(codes.PermissionDenied, "the token is that of %s, and the CSR asks for %q", id, uri)
		}
	}
	// A life that is none, or longer than fits, is bounded as every other.
	life := time.Duration(max(0, min(r.GetValidityDuration(), int64(i.authority.o.Life/time.Second)))) * time.Second
	chain, err := i.authority.Sign(id, request.PublicKey, life, "a token over Istio's CSR protocol")
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	answer := new(security.IstioCertificateResponse)
	for _, c := range chain {
		answer.CertChain = append(answer.CertChain, string(EncodeCertificates(c)))
	}
	answer.CertChain = append(answer.CertChain, string(EncodeCertificates(i.authority.Bundle()...)))
	return answer, nil
}

// caller says whose token the request has.
func (i *istioAPI) caller(ctx context.Context) (identity.ID, bool) {
	md, _ := metadata.FromIncomingContext(ctx)
	values := md.Get("authorization")
	if len(values) != 1 {
		return identity.ID{}, false
	}
	kind, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(kind, "Bearer") {
		return identity.ID{}, false
	}
	return i.tokens.of(token)
}

// ParseCSR reads a certificate request in PEM, and checks that its maker has the key, and that it is a strong one.
func ParseCSR(text []byte) (*x509.CertificateRequest, error) {
	block, rest := pem.Decode(text)
	switch {
	case block == nil || block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST":
		return nil, errors.New("read CSR: expected a certificate request in PEM")
	case len(bytes.TrimSpace(rest)) > 0:
		return nil, errors.New("read CSR: there is something after the request")
	}
	request, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read CSR: %w", err)
	}
	if err := identity.StrongKey(request.PublicKey); err != nil {
		return nil, fmt.Errorf("read CSR: %w", err)
	}
	if err := request.CheckSignature(); err != nil {
		return nil, fmt.Errorf("read CSR: %w", err)
	}
	return request, nil
}

// serving is the certificate that a server of the authority shows.
type serving struct {
	authority *Authority
	names     []string
	ip        net.IP

	mu   sync.Mutex // guards what follows
	held *tls.Certificate
	by   *x509.Certificate // who issued it
	till time.Time         // when it is renewed
}

func (s *serving) certificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.authority.o.Now(); s.held != nil && now.Before(s.till) && s.by == s.authority.Issuing() {
		return s.held, nil
	}
	id, err := identity.Workload(s.authority.domain, "istio-system", "istiod")
	if err != nil {
		return nil, err
	}
	c, err := s.authority.issueServer(id, s.names, s.ip)
	if err != nil {
		return nil, err
	}
	s.held, s.by, s.till = c, s.authority.Issuing(), s.authority.o.Now().Add(s.authority.renewal(c.Leaf))
	return c, nil
}
