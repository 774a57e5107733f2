package accesslog

import (
	"net/netip"
	"time"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/telemetry"
)

// An Entry is one request at its end, a call that was made or a request that came in. What is not known has its zero value.
// Its texts and headers may stand in buffers that are used again: they are read while [Logger.Log] runs, and not changed.
type Entry struct {
	Reporter              telemetry.Reporter // Source for a call, Destination for a request that came in
	Start                 time.Time
	telemetry.Outcome                   // Code is 0 where nobody was answered
	telemetry.Measurement               // Duration is to the end of the answer's body
	UpstreamTime          time.Duration // of the last attempt, to the head of its answer

	Method, Scheme, Authority string
	Path, Query               string       // as the caller wrote them; the query without "?"
	Protocol                  string       // "HTTP/1.1", "HTTP/2"
	Request                   call.Headers // as it came, nil for none
	RequestID                 string       // where the mesh has made one, for a request without
	Response, Trailer         call.Headers // nil for none, and where nobody asks for them (Logs.Answers)

	Reason  call.Reason // why there was no answer of an endpoint's, ReasonNone where there was
	Details string      // Envoy's response code details
	Ruled   bool        // a rule of the configuration has answered: an abort, a redirect, a direct response
	Err     error       // what the caller was told in the place of an answer, nil for none

	Route, Cluster, Endpoint string
	Attempts                 int
	Tries                    []Try // the attempts that were followed by another, sixteen at most

	UpstreamLocal, Local, Remote netip.AddrPort // of the connection to the endpoint, and of that to the caller
	Direct                       netip.AddrPort // who is at the caller's end where Remote is who he names (the PROXY protocol); else invalid
	SNI                          string
	Terminated                   string // why a connection that is not HTTP was ended, "" for what its two ends have done
	Peer                         string // the SPIFFE ID that the caller has proved, "" for none
}

// A Try is one attempt of a call that did not end it.
type Try struct {
	Endpoint string      `json:"endpoint"`
	Status   int         `json:"status,omitempty"` // of the answer, 0 where none came
	Reason   call.Reason `json:"-"`                // why none came
	Why      string      `json:"reason"`           // Reason's name, or that it was answered
}

// A Logger hears of requests at their end. It is called concurrently and must not wait; it may keep nothing of e.
type Logger interface {
	Log(e *Entry)
}
