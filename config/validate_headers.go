package config

import (
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/heddlemesh/mesh/call"
)

// framing are headers that belong to the connection or to how a message is framed, and grpc-status, which is
// the answer itself: no rule may touch them.
var framing = []string{"connection", "content-length", "transfer-encoding", "grpc-status"}

// headers checks what a rule or a destination does to headers. authority is what rewrites the authority
// already.
func (v *validation) headers(p fieldPath, h *networking.Headers, authority string) {
	if len(setFields(h)) == 0 {
		return
	}
	v.headerOperations(p.at("request"), h.GetRequest(), true, authority != "")
	v.headerOperations(p.at("response"), h.GetResponse(), false, false)
}

func (v *validation) headerOperations(p fieldPath, ops *networking.Headers_HeaderOperations, request, rewritten bool) {
	for _, op := range []struct {
		name    string
		headers map[string]string
	}{{"set", ops.GetSet()}, {"add", ops.GetAdd()}} {
		for _, name := range sortedKeys(op.headers) {
			at := p.at(op.name, name)
			if isAuthority(name) && request {
				if rewritten {
					v.refuseKey(at, "rewrites the authority a second time", "keep one of the two")
				}
				rewritten = true
				v.authority(at, op.headers[name])
			} else {
				v.headerName(at, name, v.refuseKey)
			}
			v.headerValue(at, op.headers[name], request)
		}
	}
	for i, name := range ops.GetRemove() {
		v.headerName(p.at("remove", i), name, v.refuseValue)
	}
}

func isAuthority(name string) bool {
	return strings.EqualFold(name, "host") || strings.EqualFold(name, ":authority")
}

// headerName checks the name of a header that is to be changed.
func (v *validation) headerName(p fieldPath, name string, refuse func(p fieldPath, problem, hint string)) {
	switch {
	case strings.HasPrefix(name, ":") || isAuthority(name):
		refuse(p, "cannot be changed here", "rewrite the request with rewrite, or set host in request.set")
	case !isToken(name):
		refuse(p, "is no name of a header", "write letters, digits and '-'")
	case slices.Contains(framing, strings.ToLower(name)):
		refuse(p, "cannot be changed", "it belongs to the framing of the message")
	}
}

// headerValue checks a value with Envoy's commands in it.
func (v *validation) headerValue(p fieldPath, value string, request bool) {
	if strings.ContainsFunc(value, func(r rune) bool { return isControl(r) && r != '\t' }) {
		v.refuseValue(p, "has a control character", "a header's value is one line of text")
		return
	}
	t, err := call.ParseTemplate(value)
	switch {
	case err != nil:
		v.refuseValue(p, "cannot be read", err.Error())
	case request && t.OfResponse():
		v.doubt(p, quoted(value)+" asks for what only an answer can tell, and the request goes before it", "use it under response")
	}
}
