package extauthz

import (
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	auth "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/grpc/codes"

	"github.com/heddlemesh/mesh/identity/external"
)

// answer reads a CheckResponse as Envoy does: OK allows, an error_response is a failure, everything else denies. Dynamic
// metadata is not looked at: there is nobody who could ask for it.
func answer(r *auth.CheckResponse) external.Answer {
	if codes.Code(r.GetStatus().GetCode()) == codes.OK {
		ok := r.GetOkResponse()
		a := external.Answer{Allowed: true, Request: edits(ok.GetHeaders()), Response: edits(ok.GetResponseHeadersToAdd()),
			RemoveQuery: ok.GetQueryParametersToRemove()}
		for _, name := range ok.GetHeadersToRemove() {
			a.Request = append(a.Request, external.Edit{Name: name, Action: external.Remove})
		}
		for _, p := range ok.GetQueryParametersToSet() {
			a.SetQuery = append(a.SetQuery, external.Parameter{Name: p.GetKey(), Value: p.GetValue()})
		}
		return a
	}
	if failed := r.GetErrorResponse(); failed != nil {
		a := said(failed)
		a.Failed = true
		return a
	}
	return said(r.GetDeniedResponse())
}

// said is what the caller is told.
func said(r *auth.DeniedHttpResponse) external.Answer {
	return external.Answer{Status: status(r.GetStatus()), Body: r.GetBody(), Denied: edits(r.GetHeaders())}
}

func status(s *typev3.HttpStatus) int { return int(s.GetCode()) }

// edits reads changes of a header. What says neither append nor append_action replaces: so the documents of CheckResponse
// have it, while the enumeration's own default would leave a caller's forgery beside the value.
func edits(list []*core.HeaderValueOption) []external.Edit {
	made := make([]external.Edit, 0, len(list))
	for _, o := range list {
		e := external.Edit{Name: o.GetHeader().GetKey(), Value: o.GetHeader().GetValue()}
		if raw := o.GetHeader().GetRawValue(); e.Value == "" && len(raw) > 0 {
			e.Value = string(raw)
		}
		switch {
		case o.GetAppend() != nil: //nolint:staticcheck // what older authorizers say
			if o.GetAppend().GetValue() { //nolint:staticcheck // as above
				e.Action = external.Append
			}
		case o.GetAppendAction() == core.HeaderValueOption_ADD_IF_ABSENT:
			e.Action = external.AddIfAbsent
		case o.GetAppendAction() == core.HeaderValueOption_OVERWRITE_IF_EXISTS:
			e.Action = external.SetIfPresent
		}
		made = append(made, e)
	}
	return made
}
