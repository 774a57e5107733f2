package call

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
}

// Neutral reports whether the outcome says nothing about the endpoint: the caller went away, or we
// answered ourselves.
func (o *Outcome) Neutral() bool {
	switch o.Reason {
	case ReasonConnect, ReasonReset, ReasonRefused, ReasonProtocol, ReasonTimeout:
		return false
	case ReasonNone:
		return o.Status == 0 && o.GRPCStatus == 0
	}
	return true
}

// Failed reports whether the endpoint is to blame: it could not be reached, broke off, or answered 5xx
// or with a grpc-status that Envoy's outlier detection maps to one.
func (o *Outcome) Failed() bool {
	if o.Neutral() {
		return false
	}
	return o.Reason != ReasonNone || o.Status >= 500 && o.Status <= 599 || grpcFailed(o.GRPCStatus)
}

// grpcFailed follows Envoy's Grpc::Utility::grpcToHttpStatus: Unknown 2, DeadlineExceeded 4, Unimplemented
// 12, Internal 13, Unavailable 14, DataLoss 15 and numbers that no code has become 5xx.
func grpcFailed(plusOne uint8) bool {
	switch plusOne {
	case 2 + 1, 4 + 1, 12 + 1, 13 + 1, 14 + 1, 15 + 1:
		return true
	}
	return plusOne > 16+1
}
