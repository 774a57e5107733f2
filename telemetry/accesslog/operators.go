package accesslog

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/telemetry"
)

type known struct {
	argument func(op *operator, s string, given bool) error // nil for none
	give     func(op *operator, e *Entry) value
}

// Operators lists the command operators that a format can have.
func Operators() []string { return slices.Sorted(maps.Keys(operators)) }

func plain(give func(e *Entry) value) known {
	return known{give: func(_ *operator, e *Entry) value { return give(e) }}
}

func fixed(argument func(*operator, string, bool) error) known {
	return known{argument, func(op *operator, _ *Entry) value { return textOf(op.fixed) }}
}

var (
	serviceTime = call.NewName("x-envoy-upstream-service-time")
	requestID   = call.NewName("x-request-id")
)

// operators are Envoy's (access log, command operators), as far as what they tell is known here.
var operators = map[string]known{
	"START_TIME":                             {timeArgument, func(op *operator, e *Entry) value { return value{kind: moment, time: e.Start, clock: op.clock} }},
	"PROTOCOL":                               plain(func(e *Entry) value { return textOf(e.Protocol) }),
	"RESPONSE_CODE":                          plain(func(e *Entry) value { return numberOf(int64(e.Code)) }),
	"RESPONSE_CODE_DETAILS":                  plain(func(e *Entry) value { return textOf(e.Details) }),
	"RESPONSE_FLAGS":                         plain(func(e *Entry) value { return value{kind: text, text: e.Flags.String()} }),
	"RESPONSE_FLAGS_LONG":                    plain(func(e *Entry) value { return value{kind: text, text: e.Flags.Long()} }),
	"CONNECTION_TERMINATION_DETAILS":         plain(func(e *Entry) value { return textOf(e.Terminated) }),
	"UPSTREAM_TRANSPORT_FAILURE_REASON":      plain(func(e *Entry) value { return textOf(e.transportFailure()) }),
	"BYTES_RECEIVED":                         plain(func(e *Entry) value { return numberOf(int64(e.RequestBytes)) }),
	"BYTES_SENT":                             plain(func(e *Entry) value { return numberOf(int64(e.ResponseBytes)) }),
	"DURATION":                               plain(func(e *Entry) value { return numberOf(e.Duration.Milliseconds()) }),
	"RESPONSE_DURATION":                      plain(func(e *Entry) value { return upstreamTime(e) }),
	"UPSTREAM_HOST":                          plain(func(e *Entry) value { return textOf(e.Endpoint) }),
	"UPSTREAM_REMOTE_ADDRESS":                plain(func(e *Entry) value { return textOf(e.Endpoint) }),
	"UPSTREAM_CLUSTER":                       plain(func(e *Entry) value { return textOf(e.Cluster) }),
	"UPSTREAM_CLUSTER_RAW":                   plain(func(e *Entry) value { return textOf(e.Cluster) }),
	"UPSTREAM_LOCAL_ADDRESS":                 plain(func(e *Entry) value { return addressOf(e.UpstreamLocal) }),
	"UPSTREAM_REQUEST_ATTEMPT_COUNT":         plain(func(e *Entry) value { return numberOf(int64(e.Attempts)) }),
	"DOWNSTREAM_LOCAL_ADDRESS":               plain(func(e *Entry) value { return addressOf(e.Local) }),
	"DOWNSTREAM_LOCAL_PORT":                  plain(func(e *Entry) value { return portOf(e.Local) }),
	"DOWNSTREAM_REMOTE_ADDRESS":              plain(func(e *Entry) value { return addressOf(e.Remote) }),
	"DOWNSTREAM_REMOTE_PORT":                 plain(func(e *Entry) value { return portOf(e.Remote) }),
	"DOWNSTREAM_DIRECT_REMOTE_ADDRESS":       plain(func(e *Entry) value { return addressOf(e.direct()) }),
	"DOWNSTREAM_PEER_URI_SAN":                plain(func(e *Entry) value { return textOf(e.Peer) }),
	"REQUESTED_SERVER_NAME":                  plain(func(e *Entry) value { return textOf(e.SNI) }),
	"ROUTE_NAME":                             plain(func(e *Entry) value { return textOf(e.Route) }),
	"GRPC_STATUS_NUMBER":                     plain(func(e *Entry) value { return grpcNumber(e) }),
	"GRPC_STATUS":                            {oneOf("CAMEL_STRING", "SNAKE_STRING", "NUMBER"), grpcStatus},
	"REQ":                                    {headerArgument(":method", ":path", ":authority", ":scheme"), requestField},
	"REQ_WITHOUT_QUERY":                      {headerArgument(":path"), func(op *operator, e *Entry) value { v := requestField(op, e); return v.withoutQuery() }},
	"RESP":                                   {headerArgument(":status"), responseField},
	"TRAILER":                                {headerArgument(), trailerField},
	"TRACE_ID":                               plain(func(e *Entry) value { return textOf(traceID(e)) }),
	"HOSTNAME":                               fixed(hostnameArgument),
	"DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT":  plain(func(e *Entry) value { return hostOf(e.Local) }),
	"DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT": plain(func(e *Entry) value { return hostOf(e.Remote) }),
	"DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT": plain(func(e *Entry) value { return hostOf(e.direct()) }),
	"UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT":           plain(func(e *Entry) value { return hostOf(e.UpstreamLocal) }),
}

func (e *Entry) direct() netip.AddrPort {
	if e.Direct.IsValid() {
		return e.Direct
	}
	return e.Remote
}

func portOf(a netip.AddrPort) value {
	if !a.IsValid() {
		return value{}
	}
	return numberOf(int64(a.Port()))
}

func upstreamTime(e *Entry) value {
	if e.UpstreamTime <= 0 {
		return value{}
	}
	return numberOf(int64(e.UpstreamTime / time.Millisecond))
}

// transportFailure is why the endpoint could not be connected to.
func (e *Entry) transportFailure() string {
	if e.Reason != call.ReasonConnect || e.Err == nil {
		return ""
	}
	if ours, ok := call.AsError(e.Err); ok {
		if ours.Err == nil {
			return ours.Detail
		}
		return ours.Err.Error()
	}
	return e.Err.Error()
}

func grpcNumber(e *Entry) value {
	if e.GRPC == 0 {
		return value{}
	}
	return numberOf(int64(e.GRPC) - 1)
}

func grpcStatus(op *operator, e *Entry) value {
	if e.GRPC == 0 || op.fixed == "NUMBER" {
		return grpcNumber(e)
	}
	snake := telemetry.GRPCStatusName(e.GRPC)
	if op.fixed == "SNAKE_STRING" {
		return textOf(snake)
	}
	return textOf(camel[snake])
}

// camel are the status codes as Envoy writes them.
var camel = map[string]string{"OK": "OK", "CANCELLED": "Canceled", "UNKNOWN": "Unknown", "INVALID_ARGUMENT": "InvalidArgument",
	"DEADLINE_EXCEEDED": "DeadlineExceeded", "NOT_FOUND": "NotFound", "ALREADY_EXISTS": "AlreadyExists", "PERMISSION_DENIED": "PermissionDenied",
	"RESOURCE_EXHAUSTED": "ResourceExhausted", "FAILED_PRECONDITION": "FailedPrecondition", "ABORTED": "Aborted", "OUT_OF_RANGE": "OutOfRange",
	"UNIMPLEMENTED": "Unimplemented", "INTERNAL": "Internal", "UNAVAILABLE": "Unavailable", "DATA_LOSS": "DataLoss", "UNAUTHENTICATED": "Unauthenticated"}

func requestField(op *operator, e *Entry) value {
	if v := op.field.inRequest(e); v.kind != nothing || op.other == nil {
		return v
	}
	return op.other.inRequest(e)
}

func (f *field) inRequest(e *Entry) value {
	switch f.pseudo {
	case "":
		v := fieldIn(e.Request, f.name)
		if v.kind == nothing && e.RequestID != "" && f.name.Lower() == requestID.Lower() {
			return textOf(e.RequestID)
		}
		return v
	case ":method":
		return textOf(e.Method)
	case ":authority":
		return textOf(e.Authority)
	case ":scheme":
		return textOf(e.Scheme)
	}
	v := textOf(e.Path)
	v.tail = e.Query
	return v
}

func (v value) withoutQuery() value {
	v.tail = ""
	v.text, _, _ = strings.Cut(v.text, "?")
	return v
}

func responseField(op *operator, e *Entry) value {
	if v := op.field.inResponse(e); v.kind != nothing || op.other == nil {
		return v
	}
	return op.other.inResponse(e)
}

// inResponse gives a field of the answer. Envoy adds the time of the endpoint to it, which the mesh only measures.
func (f *field) inResponse(e *Entry) value {
	if f.pseudo != "" {
		return numberOf(int64(e.Code))
	}
	if f.serviceTime() && e.UpstreamTime > 0 {
		v := numberOf(e.UpstreamTime.Milliseconds())
		v.header = true
		return v
	}
	return fieldIn(e.Response, f.name)
}

func (f *field) serviceTime() bool { return f.name != nil && f.name.Lower() == serviceTime.Lower() }

func trailerField(op *operator, e *Entry) value {
	if v := fieldIn(e.Trailer, op.field.name); v.kind != nothing || op.other == nil {
		return v
	}
	return fieldIn(e.Trailer, op.other.name)
}

func fieldIn(h call.Headers, n *call.Name) value {
	if h == nil {
		return value{}
	}
	s, _ := h.Value(n, 0)
	return textOf(s)
}

var (
	traceparent = call.NewName("traceparent")
	b3TraceID   = call.NewName("x-b3-traceid")
)

// traceID gives that of the request's trace (W3C Trace Context, B3), "" for none.
func traceID(e *Entry) string {
	if e.Request == nil {
		return ""
	}
	if s, _ := e.Request.Value(traceparent, 0); len(s) >= 36 && s[2] == '-' && s[35] == '-' {
		return s[3:35]
	}
	s, _ := e.Request.Value(b3TraceID, 0)
	return s
}
