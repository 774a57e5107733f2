package call

// GRPCCode gives the gRPC status code that an HTTP status stands for where an RPC got no status of its own:
// Envoy's Grpc::Utility::httpToGrpcStatus, which is grpc's doc/http-grpc-status-mapping.md.
func GRPCCode(httpStatus int) uint32 {
	const (
		unknown          = 2
		permissionDenied = 7
		methodUnknown    = 12 // UNIMPLEMENTED
		internal         = 13
		unavailable      = 14
		unauthenticated  = 16
	)
	switch httpStatus {
	case 400:
		return internal
	case 401:
		return unauthenticated
	case 403:
		return permissionDenied
	case 404:
		return methodUnknown
	case 429, 502, 503, 504:
		return unavailable
	}
	return unknown
}
