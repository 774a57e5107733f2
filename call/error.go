package call

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"time"
)

// An Error is a call that got no answer from an endpoint, with everything known about where it went.
// It is immutable once returned. errors.Is finds its Reason and whatever Err wraps.
type Error struct {
	Reason   Reason
	Host     string // the name the caller used, with the port
	Route    string // the rule that matched, "" where none did
	Cluster  string // outbound|<port>|<subset>|<host>, "" where none was chosen
	Endpoint string // the last endpoint tried
	Attempts int    // how many tries were made
	Err      error  // the cause, nil where Reason says it all
	Detail   string // more for people: which ports are known, which subset is missing
	// RetryAfter is when such a call can be let through again, 0 where that is not known.
	RetryAfter time.Duration
	// GRPC is the grpc-status that the policy asks for, or the caller's own deadline is, plus one; 0 where HTTPStatus says it.
	GRPC uint8
}

// Error says host, reason and flag, then what is known of the way.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("mesh: call ")
	b.WriteString(e.Host)
	b.WriteString(": ")
	b.WriteString(e.Reason.Error())
	b.WriteString(" (flag ")
	b.WriteString(e.Reason.Flag())
	for _, f := range [...]struct{ key, value string }{
		{"route", e.Route}, {"cluster", e.Cluster}, {"endpoint", e.Endpoint},
	} {
		if f.value != "" {
			b.WriteString(", ")
			b.WriteString(f.key)
			b.WriteByte(' ')
			b.WriteString(f.value)
		}
	}
	if e.Attempts > 1 {
		b.WriteString(", ")
		b.WriteString(strconv.Itoa(e.Attempts))
		b.WriteString(" attempts")
	}
	b.WriteByte(')')
	if e.Detail != "" {
		b.WriteString(": ")
		b.WriteString(e.Detail)
	}
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Unwrap gives the reason and the cause to errors.Is and errors.As.
func (e *Error) Unwrap() []error {
	if e.Err == nil {
		return []error{e.Reason}
	}
	return []error{e.Reason, e.Err}
}

// Flag gives Envoy's response flag, "NR", "UH", "UF", ….
func (e *Error) Flag() string { return e.Reason.Flag() }

// HTTPStatus gives the status with which a proxy would answer the call.
func (e *Error) HTTPStatus() int { return e.Reason.HTTPStatus() }

// GRPCStatusCode gives the grpc-status with which a proxy would answer the call.
func (e *Error) GRPCStatusCode() uint32 {
	if e.GRPC != 0 {
		return uint32(e.GRPC) - 1
	}
	return GRPCCode(e.HTTPStatus())
}

// Timeout reports whether the call ended because a time ran out, the mesh's or the caller's (net.Error).
func (e *Error) Timeout() bool {
	if e.Reason == ReasonTimeout || errors.Is(e.Err, context.DeadlineExceeded) {
		return true
	}
	var ne net.Error
	return errors.As(e.Err, &ne) && ne.Timeout()
}

// Temporary implements net.Error; it is always false, as net/http's own errors have it.
func (e *Error) Temporary() bool { return false }

// ReasonOf gives the reason of a call's error, ReasonNone where err is nil or not the mesh's.
func ReasonOf(err error) Reason {
	if e, ok := AsError(err); ok {
		return e.Reason
	}
	return ReasonNone
}

// AsError finds the mesh's own error in err.
func AsError(err error) (*Error, bool) {
	if err == nil {
		return nil, false // without the allocation below
	}
	var e *Error
	ok := errors.As(err, &e)
	return e, ok
}
