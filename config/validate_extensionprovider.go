package config

import (
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"
	meshapi "istio.io/api/mesh/v1alpha1"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/identity/external"
)

type (
	extensionProvider = meshapi.MeshConfig_ExtensionProvider
	extAuthzHTTP      = meshapi.MeshConfig_ExtensionProvider_EnvoyExternalAuthorizationHttpProvider
	extAuthzGRPC      = meshapi.MeshConfig_ExtensionProvider_EnvoyExternalAuthorizationGrpcProvider
	extAuthzBody      = meshapi.MeshConfig_ExtensionProvider_EnvoyExternalAuthorizationRequestBody
)

// extensionProviders checks whom CUSTOM policies can ask. Providers of other kinds are not read.
func (v *validation) extensionProviders(p fieldPath, list []*extensionProvider) {
	names := make(map[string]bool)
	for i, e := range list {
		at := p.at(i)
		switch name := e.GetName(); {
		case name == "":
			v.refuse(at, "the provider has no name", "write name: and what policies are to call it")
		case names[name]:
			v.refuseValue(at.at("name"), "names a provider a second time", "write another name, or remove one of the two")
		}
		names[e.GetName()] = true
		switch {
		case e.GetEnvoyExtAuthzHttp() != nil:
			v.extAuthzHTTP(at.at("envoyExtAuthzHttp"), e.GetEnvoyExtAuthzHttp())
		case e.GetEnvoyExtAuthzGrpc() != nil:
			v.extAuthzGRPC(at.at("envoyExtAuthzGrpc"), e.GetEnvoyExtAuthzGrpc())
		case e.GetZipkin() != nil:
			v.collector(at.at("zipkin"), e)
		case e.GetOpentelemetry() != nil:
			v.collector(at.at("opentelemetry"), e)
		case e.GetEnvoyFileAccessLog() != nil:
			v.fileLog(at.at("envoyFileAccessLog"), e.GetEnvoyFileAccessLog())
		case e.GetProvider() == nil:
			v.refuse(at, "the provider is of no kind", "write envoyExtAuthzHttp, envoyExtAuthzGrpc, opentelemetry or zipkin")
		default:
			m := e.ProtoReflect()
			kind := m.WhichOneof(m.Descriptor().Oneofs().ByName("provider")).JSONName()
			v.inform(at.at(kind), codeNotServed, kind+" is for Istio's own proxies and control plane: not read", "")
		}
	}
}

func (v *validation) extAuthzHTTP(p fieldPath, h *extAuthzHTTP) {
	v.asked(p, h.GetService(), h.GetPort(), h.GetStatusOnError(), h.GetTimeout())
	if s := h.GetPathPrefix(); s != "" {
		if _, sound := call.CanonicalPath(s); !sound || !strings.HasPrefix(s, "/") || strings.ContainsAny(s, "?#") {
			v.refuseValue(p.at("pathPrefix"), "is no path", `write one that begins with "/"`)
		}
	}
	for _, f := range []struct {
		name string
		list []string
	}{
		{"includeHeadersInCheck", h.GetIncludeHeadersInCheck()}, //nolint:staticcheck // older documents have it
		{"includeRequestHeadersInCheck", h.GetIncludeRequestHeadersInCheck()},
		{"headersToUpstreamOnAllow", h.GetHeadersToUpstreamOnAllow()},
		{"headersToDownstreamOnDeny", h.GetHeadersToDownstreamOnDeny()},
		{"headersToDownstreamOnAllow", h.GetHeadersToDownstreamOnAllow()},
	} {
		for i, s := range f.list {
			v.namePattern(p.at(f.name, i), s)
		}
	}
	for _, name := range sortedKeys(h.GetIncludeAdditionalHeadersInCheck()) {
		at := p.at("includeAdditionalHeadersInCheck", name)
		v.headerName(at, name, v.refuseKey)
		if external.Protected(name) && isToken(name) {
			v.refuseKey(at, "cannot be changed", "it belongs to the message, or to the mesh")
		}
		if strings.ContainsFunc(h.GetIncludeAdditionalHeadersInCheck()[name], isControl) {
			v.refuseValue(at, "has a control character", "a header's value is one line of text")
		}
	}
	v.bodyInCheck(p, h.GetIncludeRequestBodyInCheck())
	v.routeCache(p, h.GetClearRouteCache())
}

func (v *validation) extAuthzGRPC(p fieldPath, g *extAuthzGRPC) {
	v.asked(p, g.GetService(), g.GetPort(), g.GetStatusOnError(), g.GetTimeout())
	v.bodyInCheck(p, g.GetIncludeRequestBodyInCheck())
	v.routeCache(p, g.GetClearRouteCache())
}

// asked checks what both kinds have.
func (v *validation) asked(p fieldPath, service string, port uint32, status string, timeout *durationpb.Duration) {
	if service == "" {
		v.refuse(p, "the service is missing", "write service: with its host")
	} else if namespace, host := serviceOf(service); strings.Count(service, "/") > 1 || strings.HasPrefix(service, "/") ||
		namespace != "" && !dnsLabel.MatchString(namespace) || !subdomain.MatchString(host) {
		v.refuseValue(p.at("service"), "is no service", `write its host, or "namespace/host"`)
	}
	if port == 0 {
		v.refuse(p, "the port is missing", "write port: and a number from 1 to 65535")
	} else if port > 65535 {
		v.refuseValue(p.at("port"), "is no port", "write a number from 1 to 65535")
	}
	if status != "" {
		if n, err := strconv.Atoi(status); err != nil || n < 200 || http.StatusText(n) == "" {
			v.refuseValue(p.at("statusOnError"), "is no status of an answer", `write one such as "503"`)
		}
	}
	v.duration(p.at("timeout"), timeout)
}

// serviceOf takes "namespace/host" apart.
func serviceOf(s string) (namespace, host string) {
	if namespace, host, two := strings.Cut(s, "/"); two {
		return namespace, host
	}
	return "", s
}

// namePattern checks "abc", "abc*" and "*abc".
func (v *validation) namePattern(p fieldPath, s string) {
	inner := strings.TrimPrefix(strings.TrimSuffix(s, "*"), "*")
	if !isToken(inner) || strings.Contains(inner, "*") || len(s)-len(inner) > 1 {
		v.refuseValue(p, "is no pattern of header names", `write "abc", "abc*" or "*abc"`)
	}
}

func (v *validation) bodyInCheck(p fieldPath, b *extAuthzBody) {
	if b != nil && b.GetMaxRequestBytes() == 0 {
		v.refuse(p.at("includeRequestBodyInCheck"), "maxRequestBytes is missing: of the body nothing would be sent", "write how many bytes at most")
	}
}

func (v *validation) routeCache(p fieldPath, written bool) {
	if written {
		v.inform(p.at("clearRouteCache"), codeNotServed, "clearRouteCache has no effect: a workload's own requests have one route", "")
	}
}
