package external

import (
	"net/http"
	"strings"
	"time"
)

// Kind is how a provider is asked.
type Kind uint8

const (
	Program Kind = iota // by a call in the program (mesh.WithAuthorizer)
	HTTP                // envoyExtAuthzHttp
	GRPC                // envoyExtAuthzGrpc
)

func (k Kind) String() string {
	switch k {
	case HTTP:
		return "envoyExtAuthzHttp"
	case GRPC:
		return "envoyExtAuthzGrpc"
	}
	return "the program's own"
}

// DefaultTimeout is how long an answer is waited for where nothing is written. It is Istio's.
const DefaultTimeout = 600 * time.Second

// A Provider is one of MeshConfig's extensionProviders. Its zero value is one of the program's, that fails closed with 403.
// It is not changed once it is in use.
type Provider struct {
	Name string
	Kind Kind
	// Host and Port name the service that is asked, as calls of the mesh name it.
	Host string
	Port uint16
	// Timeout is how long its answer is waited for. Default: DefaultTimeout.
	Timeout time.Duration
	// FailOpen lets requests in where it does not answer, or with a status of 5xx. Default: they are refused.
	FailOpen bool
	// StatusOnError is what those are answered that are refused because of that. Default: 403.
	StatusOnError int
	// Body says that the request's body is asked about too. Default: it is not.
	Body *Body

	// What follows is HTTP's. Lists are names in small letters, "abc", "abc*" or "*abc".
	PathPrefix   string
	Include      []string // fields of the request that go with the question
	Additional   []Edit   // fields that go with it in any case
	ToUpstream   []string // fields of an answer that allows, for the program
	OnDeny       []string // fields of one that denies, for the caller; nil for all
	ToDownstream []string // fields of an answer that allows, for the caller
}

// Body says how much of a request's body is asked about (includeRequestBodyInCheck).
type Body struct {
	Max     int  // bytes
	Partial bool // of a longer one its beginning, in place of 413 (allowPartialMessage)
	Raw     bool // as bytes, and not as text (packAsBytes)
}

// Wait gives Timeout, or its default.
func (p *Provider) Wait() time.Duration {
	if p.Timeout > 0 {
		return p.Timeout
	}
	return DefaultTimeout
}

// OnError gives StatusOnError, or its default.
func (p *Provider) OnError() int {
	if p.StatusOnError != 0 {
		return p.StatusOnError
	}
	return http.StatusForbidden
}

// listed reports whether a field's name is in a list of a Provider.
func listed(list []string, name string) bool {
	name = strings.ToLower(name)
	for _, p := range list {
		switch {
		case strings.HasSuffix(p, "*"):
			if strings.HasPrefix(name, p[:len(p)-1]) {
				return true
			}
		case strings.HasPrefix(p, "*"):
			if strings.HasSuffix(name, p[1:]) {
				return true
			}
		case p == name:
			return true
		}
	}
	return false
}
