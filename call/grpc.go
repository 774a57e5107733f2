package call

import "strings"

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

// IsGRPC reports whether a content-type is that of gRPC; gRPC-Web's is not.
func IsGRPC(contentType string) bool {
	const grpc = "application/grpc"
	return contentType == grpc || strings.HasPrefix(contentType, grpc+"+") || strings.HasPrefix(contentType, grpc+";")
}

// GRPCMessage percent-encodes a text for the grpc-message field (gRPC over HTTP/2, Status-Message).
func GRPCMessage(s string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			b.Write([]byte{'%', hex[c>>4], hex[c&15]})
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
