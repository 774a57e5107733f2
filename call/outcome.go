package call

import (
	"errors"
	"slices"
	"syscall"
	"time"
)

// An Outcome says how one attempt ended. The driver makes it, once; retries, outlier detection, load and
// metrics all read the same one.
type Outcome struct {
	// Status is the HTTP status of the answer, 0 where none came.
	Status int
	// GRPCStatus is the grpc-status of a trailers-only answer plus one, so that 0 is "none seen".
	GRPCStatus uint8
	// Reason is why there was no answer; ReasonNone where there was one.
	Reason Reason
	// Unprocessed says that the endpoint certainly did not act on the request: nothing of it was sent,
	// or the endpoint refused it by protocol.
	Unprocessed bool
	// StaleReuse says that a kept connection was found dead before any byte of the answer. The endpoint
	// may have acted.
	StaleReuse bool
	// RateLimited says that the answer carried x-envoy-ratelimited, Overloaded x-envoy-overloaded:
	// neither is retried unless a policy asks for it.
	RateLimited bool
	Overloaded  bool
	// OwnFault says of a failure to connect that this machine had no means for it: no port, no file descriptor, no memory.
	OwnFault bool
	// PerTry says of a time-out that it was the attempt's own, and the call goes on.
	PerTry bool
	// Told says of a time-out that it was the caller's own, as the request has told it: nobody's fault.
	Told bool
	// Pushback is how long the endpoint asks to wait before another attempt, 0 for nothing said; below 0 it asks for
	// none (Retry-After, RFC 9110 §10.2.3; grpc-retry-pushback-ms, gRFC A6).
	Pushback time.Duration
}

// NotConnected gives the outcome of an attempt that could not connect for that cause: nothing of it was sent.
func NotConnected(cause error) Outcome {
	return Outcome{Reason: ReasonConnect, Unprocessed: true, OwnFault: slices.ContainsFunc(
		[]error{syscall.EADDRNOTAVAIL, syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM},
		func(errno error) bool { return errors.Is(cause, errno) })}
}

// Neutral reports whether the outcome says nothing about the endpoint: the caller went away, we answered ourselves, or
// could not even ask.
func (o *Outcome) Neutral() bool {
	switch o.Reason {
	case ReasonConnect:
		return o.OwnFault
	case ReasonReset, ReasonRefused, ReasonProtocol:
		return false
	case ReasonTimeout:
		return o.Told
	case ReasonNone:
		return o.Status == 0 && o.GRPCStatus == 0
	}
	return true
}

// Failed reports whether the endpoint is to blame: it could not be reached, broke off, or answered 5xx
// or with a grpc-status that Envoy's outlier detection maps to one.
func (o *Outcome) Failed() bool {
	code := o.Code()
	return code >= 500 && code <= 599
}

// Code gives the HTTP status that the outcome stands for where endpoints are judged, 0 for a neutral one: 504 for
// a time-out and 503 for every other failure to answer (Envoy, DetectorHostMonitorImpl::resultToHttpCode), what
// the grpc-status of a trailers-only answer maps to (Envoy, Grpc::Utility::grpcToHttpStatus), else the status.
func (o *Outcome) Code() int {
	switch {
	case o.Neutral():
		return 0
	case o.Reason == ReasonTimeout:
		return 504
	case o.Reason != ReasonNone:
		return 503
	case o.GRPCStatus != 0:
		return grpcToHTTP(o.GRPCStatus - 1)
	}
	return o.Status
}

// grpcToHTTP is Envoy's Grpc::Utility::grpcToHttpStatus: numbers that are no code are 500.
func grpcToHTTP(code uint8) int {
	all := [...]int{200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401}
	if int(code) < len(all) {
		return all[code]
	}
	return 500
}
