package call

// A Reason says why a call failed or was answered by the mesh itself. It is an error, so that
// errors.Is(err, call.ReasonNoRoute) asks for it. Numbers may change between releases, names do not.
type Reason uint8

// The reasons, each with Envoy's response flag and the HTTP status it stands for.
const (
	ReasonNone           Reason = iota // nothing went wrong
	ReasonNoRoute                      // the host is known, no rule matches: NR, 404
	ReasonNoCluster                    // the rule names a subset, host or port that does not exist: NC, 503
	ReasonNoEndpoint                   // the cluster has no endpoint to pick: UH, 503
	ReasonUnknownHost                  // the registry does not have the host, and calls elsewhere are not allowed: UH, 502
	ReasonConnect                      // the endpoint could not be connected to: UF, 503
	ReasonReset                        // the endpoint ended the connection or stream before it answered: UC, 503
	ReasonRefused                      // the endpoint refused the stream unprocessed (HTTP/2 REFUSED_STREAM): UR, 503
	ReasonProtocol                     // the endpoint's answer breaks its protocol: UPE, 502
	ReasonTimeout                      // a time-out of the mesh expired: UT, 504
	ReasonCanceled                     // the caller gave up, or its own deadline passed: DC, 499
	ReasonInvalidRequest               // the request has no safe spelling or no host, or cannot be sent as it is: DPE, 400
	ReasonClosed                       // the mesh is closed: LR, 503
	ReasonOverflow                     // a limit of the cluster is reached; nothing was sent: UO, 503
	ReasonRateLimited                  // a rate limit of the configuration is reached: RL, 429
	ReasonCircuitOpen                  // the circuit breaker of the service is open: UO, 503
	reasonEnd
)

var reasons = [reasonEnd]struct {
	name   string
	flags  Flags
	text   string
	status int
}{
	ReasonNone:           {"none", 0, "no failure", 0},
	ReasonNoRoute:        {"no_route", FlagNR, "no route matches", 404},
	ReasonNoCluster:      {"no_cluster", FlagNC, "the route's destination does not exist", 503},
	ReasonNoEndpoint:     {"no_endpoint", FlagUH, "no healthy upstream", 503},
	ReasonUnknownHost:    {"unknown_host", FlagUH, "the host is not in the registry", 502}, // Istio's BlackHoleCluster
	ReasonConnect:        {"connect", FlagUF, "connect failure", 503},
	ReasonReset:          {"reset", FlagUC, "connection ended before the response", 503},
	ReasonRefused:        {"refused", FlagUR, "stream refused", 503},
	ReasonProtocol:       {"protocol", FlagUPE, "malformed response", 502},
	ReasonTimeout:        {"timeout", FlagUT, "upstream request timeout", 504},
	ReasonCanceled:       {"canceled", FlagDC, "canceled by the caller", 499},
	ReasonInvalidRequest: {"invalid_request", FlagDPE, "invalid request", 400},
	ReasonClosed:         {"closed", FlagLR, "mesh is closed", 503},
	ReasonOverflow:       {"overflow", FlagUO, "a limit of the cluster is reached", 503},
	ReasonRateLimited:    {"rate_limited", FlagRL, "rate limit reached", 429},
	ReasonCircuitOpen:    {"circuit_open", FlagUO, "circuit breaker open", 503},
}

func (r Reason) entry() (name string, flags Flags, text string, status int) {
	if r >= reasonEnd {
		return "unknown", 0, "unknown reason", 503
	}
	e := &reasons[r]
	return e.name, e.flags, e.text, e.status
}

// String gives the stable name, as metrics and logs carry it.
func (r Reason) String() string { n, _, _, _ := r.entry(); return n }

// Error describes the reason for people.
func (r Reason) Error() string { _, _, t, _ := r.entry(); return t }

// Flag gives Envoy's response flag (access log %RESPONSE_FLAGS%), "-" for none.
func (r Reason) Flag() string { return r.Flags().String() }

// Flags is Flag among those of a call.
func (r Reason) Flags() Flags { _, f, _, _ := r.entry(); return f }

// HTTPStatus gives the status with which a proxy answers such a call, 0 for ReasonNone.
func (r Reason) HTTPStatus() int { _, _, _, s := r.entry(); return s }
