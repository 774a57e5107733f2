package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/heddlemesh/mesh/identity/authz"
	"github.com/heddlemesh/mesh/identity/external"
)

// A customPolicy is one of action CUSTOM that is for the workload.
type customPolicy struct {
	doc  *document
	name string // of its provider
}

// provider finds whom CUSTOM policies ask: of all for one workload that is one and the same, as in Istio. It gives nil where
// nobody is asked, and where it is not known who: what the policies match is then refused at every request.
func (c *compiler) provider(custom []customPolicy) *external.Provider {
	if len(custom) == 0 {
		return nil
	}
	first := custom[0]
	for _, p := range custom[1:] {
		if p.name != first.name {
			c.add(p.doc.finding(Error, codeSchema, true, []any{"spec", "provider", "name"},
				fmt.Sprintf("provider %s beside %s of %s (%s): for one workload only one can be asked", quoted(p.name), quoted(first.name), first.doc.key,
					first.doc.place("spec", "provider", "name")), "name the same provider, or select other workloads"))
		}
	}
	own := slices.Contains(c.own.Authorizers, first.name)
	for _, e := range c.mesh.GetExtensionProviders() {
		if e.GetName() == first.name {
			return c.providerOf(custom, e, own)
		}
	}
	if own {
		return &external.Provider{Name: first.name}
	}
	c.unasked(custom, fmt.Sprintf("provider %s is not in the mesh's settings", quoted(first.name)),
		"write it under extensionProviders of MeshConfig, or give the program one of that name (mesh.WithAuthorizer)")
	return nil
}

// unasked says of policies that nobody can be asked.
func (c *compiler) unasked(custom []customPolicy, message, hint string) {
	for _, p := range custom {
		c.add(p.doc.finding(Error, "IST0101", false, []any{"spec", "provider", "name"},
			message+"; requests that the policy matches are denied", hint))
	}
}

func (c *compiler) providerOf(custom []customPolicy, e *extensionProvider, own bool) *external.Provider {
	p := &external.Provider{Name: e.GetName()}
	switch h, g := e.GetEnvoyExtAuthzHttp(), e.GetEnvoyExtAuthzGrpc(); {
	case h != nil:
		p.Kind, p.Timeout, p.FailOpen = external.HTTP, h.GetTimeout().AsDuration(), h.GetFailOpen()
		p.StatusOnError, _ = strconv.Atoi(h.GetStatusOnError())
		p.Body = bodyOf(h.GetIncludeRequestBodyInCheck())
		p.PathPrefix = h.GetPathPrefix()
		if p.Include = lowerAll(h.GetIncludeRequestHeadersInCheck()); p.Include == nil {
			p.Include = lowerAll(h.GetIncludeHeadersInCheck()) //nolint:staticcheck // what came before it
		}
		for _, name := range sortedKeys(h.GetIncludeAdditionalHeadersInCheck()) {
			p.Additional = append(p.Additional, external.Edit{Name: name, Value: h.GetIncludeAdditionalHeadersInCheck()[name]})
		}
		p.ToUpstream, p.OnDeny = lowerAll(h.GetHeadersToUpstreamOnAllow()), lowerAll(h.GetHeadersToDownstreamOnDeny())
		p.ToDownstream = lowerAll(h.GetHeadersToDownstreamOnAllow())
		return c.reach(custom, p, h.GetService(), h.GetPort(), own)
	case g != nil:
		p.Kind, p.Timeout, p.FailOpen = external.GRPC, g.GetTimeout().AsDuration(), g.GetFailOpen()
		p.StatusOnError, _ = strconv.Atoi(g.GetStatusOnError())
		p.Body = bodyOf(g.GetIncludeRequestBodyInCheck())
		if !own && !c.own.GRPCAuthorizers {
			c.unasked(custom, fmt.Sprintf("provider %s is envoyExtAuthzGrpc, and the program has nobody to ask it by", quoted(p.Name)),
				"give it mesh.WithGRPCAuthorizers(extauthz.Dial)")
		}
		return c.reach(custom, p, g.GetService(), g.GetPort(), own)
	}
	if !own {
		c.unasked(custom, fmt.Sprintf("provider %s is nobody to ask about requests", quoted(p.Name)),
			"name one of envoyExtAuthzHttp or envoyExtAuthzGrpc")
		return nil
	}
	return p
}

// reach finds the provider's service. One that the workload does not see cannot be asked, and a call to it would leave the
// mesh.
func (c *compiler) reach(custom []customPolicy, p *external.Provider, service string, port uint32, own bool) *external.Provider {
	namespace, host := serviceOf(service)
	if namespace != "" && !strings.Contains(host, ".") {
		host = resolveHost(host, namespace)
	}
	p.Host, p.Port = host, uint16(port)
	s := c.service(host)
	switch {
	case own:
		return p
	case s == nil:
		c.unasked(custom, fmt.Sprintf("the service of provider %s, %s, is none that the workload sees", quoted(p.Name), quoted(service)),
			c.hostHint(service, host))
	case s.port(port) == nil:
		c.unasked(custom, fmt.Sprintf("the service of provider %s, %s, has no port %d, only %s", quoted(p.Name), s.host, port, s.portList()), "")
	default:
		return p
	}
	return nil
}

func bodyOf(b *extAuthzBody) *external.Body {
	if b == nil {
		return nil
	}
	return &external.Body{Max: int(b.GetMaxRequestBytes()), Partial: b.GetAllowPartialMessage(), Raw: b.GetPackAsBytes()}
}

func lowerAll(list []string) []string {
	var lower []string
	for _, s := range list {
		lower = append(lower, strings.ToLower(s))
	}
	return lower
}

// ofLater reports an attribute that is not known yet when somebody is asked: CUSTOM goes before tokens, and Istio's before
// peers.
func ofLater(a authz.Attribute) bool { return a.OfPeer() || a.OfToken() }
