package call

// Details gives Envoy's response code details of a call that ended for the reason, "" where Envoy has none: configuration
// that ends in no answer of its own, and reasons that only the mesh has.
func (r Reason) Details() string {
	switch r {
	case ReasonNoRoute:
		return "route_not_found"
	case ReasonNoCluster:
		return "cluster_not_found"
	case ReasonNoEndpoint:
		return "no_healthy_upstream"
	case ReasonConnect:
		return "upstream_reset_before_response_started{connection_failure}"
	case ReasonReset:
		return "upstream_reset_before_response_started{connection_termination}"
	case ReasonRefused:
		return "upstream_reset_before_response_started{remote_refused_stream_reset}"
	case ReasonProtocol:
		return "upstream_reset_before_response_started{protocol_error}"
	case ReasonTimeout:
		return "upstream_response_timeout"
	case ReasonRateLimited:
		return "local_rate_limited"
	case ReasonInvalidRequest:
		return "http.invalid_request"
	case ReasonOverflow, ReasonCircuitOpen:
		return "upstream_reset_before_response_started{overflow}"
	case ReasonCanceled:
		return "downstream_remote_disconnect"
	}
	return ""
}
