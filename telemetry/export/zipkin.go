package export

import (
	"encoding/json"
	"net/netip"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// A zipkinSpan is one of Zipkin's API v2 (zipkin2-api.yaml).
type zipkinSpan struct {
	TraceID  string            `json:"traceId"`
	ID       string            `json:"id"`
	ParentID string            `json:"parentId,omitempty"`
	Name     string            `json:"name,omitempty"`
	Kind     string            `json:"kind,omitempty"`
	Start    int64             `json:"timestamp"` // microseconds
	Duration int64             `json:"duration,omitempty"`
	Local    zipkinEndpoint    `json:"localEndpoint"`
	Remote   *zipkinEndpoint   `json:"remoteEndpoint,omitempty"`
	Tags     map[string]string `json:"tags,omitempty"`
}

type zipkinEndpoint struct {
	Service string `json:"serviceName,omitempty"`
	IPv4    string `json:"ipv4,omitempty"`
	IPv6    string `json:"ipv6,omitempty"`
	Port    int64  `json:"port,omitempty"`
}

func encodeZipkin(resource []attribute.KeyValue, spans []Span) ([]byte, error) {
	service := ""
	for _, a := range resource {
		if a.Key == serviceName {
			service = a.Value.AsString()
		}
	}
	list := make([]zipkinSpan, len(spans))
	for i := range spans {
		list[i] = zipkinOf(&spans[i])
		list[i].Local.Service = service
	}
	return json.Marshal(list)
}

func zipkinOf(s *Span) zipkinSpan {
	sc := s.Context
	z := zipkinSpan{TraceID: sc.TraceID().String(), ID: sc.SpanID().String(), Name: s.Name, Start: s.Start.UnixMicro(),
		Duration: max(s.End.Sub(s.Start).Microseconds(), 1), Tags: make(map[string]string, len(s.Attributes))}
	if s.Parent.HasSpanID() {
		z.ParentID = s.Parent.SpanID().String()
	}
	switch s.Kind {
	case trace.SpanKindServer:
		z.Kind = "SERVER"
	case trace.SpanKindClient:
		z.Kind = "CLIENT"
	}
	var remote zipkinEndpoint
	for _, a := range s.Attributes {
		z.Tags[string(a.Key)] = a.Value.String()
		switch a.Key {
		case "network.peer.address", "client.address":
			remote.at(a.Value.AsString())
		case "network.peer.port":
			remote.Port = a.Value.AsInt64()
		}
	}
	if s.Status == codes.Error && z.Tags["error"] == "" {
		z.Tags["error"] = "true"
	}
	if remote != (zipkinEndpoint{}) {
		z.Remote = &remote
	}
	return z
}

func (e *zipkinEndpoint) at(address string) {
	ip, err := netip.ParseAddr(address)
	switch {
	case err != nil:
	case ip.Is4():
		e.IPv4 = address
	default:
		e.IPv6 = address
	}
}
