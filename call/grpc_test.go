package call_test

import (
	"testing"

	"github.com/heddlemesh/mesh/call"
)

// TestGRPCCode: grpc, doc/http-grpc-status-mapping.md.
func TestGRPCCode(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]uint32{
		400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14,
		0: 2, 200: 2, 405: 2, 499: 2, 500: 2,
	} {
		if got := call.GRPCCode(status); got != want {
			t.Errorf("GRPCCode(%d) = %d, want %d", status, got, want)
		}
	}
}
