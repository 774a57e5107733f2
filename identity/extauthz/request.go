package extauthz

import (
	"net/netip"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/heddlemesh/mesh/identity/external"
)

// request says what a Check says, as Envoy's ext_authz filter does (AttributeContext).
func request(c *external.Check) *auth.CheckRequest {
	path := c.Path
	if c.Query != "" {
		path += "?" + c.Query
	}
	http := &auth.AttributeContext_HttpRequest{Id: c.ID, Method: c.Method, Headers: headers(c, path), Path: path, Host: c.Host,
		Scheme: c.Scheme, Size: c.Size, Protocol: c.Protocol}
	if c.WithBody {
		if c.Raw {
			http.RawBody = c.Body
		} else {
			http.Body = strings.ToValidUTF8(string(c.Body), "!")
		}
	}
	attributes := &auth.AttributeContext{
		Source:      &auth.AttributeContext_Peer{Address: address(c.Source), Principal: c.Peer, Service: c.Header.Get("X-Envoy-Downstream-Service-Cluster")},
		Destination: &auth.AttributeContext_Peer{Address: address(c.Local), Principal: c.Self},
		Request:     &auth.AttributeContext_Request{Time: timestamppb.New(c.Time), Http: http},
	}
	if c.SNI != "" {
		attributes.TlsSession = &auth.AttributeContext_TLSSession{Sni: c.SNI}
	}
	return &auth.CheckRequest{Attributes: attributes}
}

// headers gives the fields by their names in small letters, several values of one joined by commas, and the pseudo headers
// of HTTP/2 with them.
func headers(c *external.Check, path string) map[string]string {
	all := make(map[string]string, len(c.Header)+5)
	for name, values := range c.Header {
		all[strings.ToLower(name)] = strings.ToValidUTF8(strings.Join(values, ","), "!")
	}
	if c.WithBody {
		partial := "false"
		if c.Partial {
			partial = "true"
		}
		all[strings.ToLower(external.PartialBody)] = partial
	}
	all[":method"], all[":path"], all[":authority"], all[":scheme"] = c.Method, path, c.Host, c.Scheme
	return all
}

// address gives an address of a connection, nil for one that is not known.
func address(a netip.AddrPort) *core.Address {
	if !a.Addr().IsValid() {
		return nil
	}
	return &core.Address{Address: &core.Address_SocketAddress{SocketAddress: &core.SocketAddress{
		Address: a.Addr().Unmap().WithZone("").String(), PortSpecifier: &core.SocketAddress_PortValue{PortValue: uint32(a.Port())}}}}
}
