package grpcmesh

import (
	"context"
	"errors"

	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh/call"
)

// A statusError is an error of the mesh as gRPC wants it: status.FromError finds a status, errors.Is and
// errors.As the reason, the *call.Error and what that wraps.
type statusError struct{ err error }

func wrap(err error) error { return &statusError{err} }

func (e *statusError) Error() string { return e.err.Error() }
func (e *statusError) Unwrap() error { return e.err }

// GRPCStatus is what google.golang.org/grpc/status looks for.
func (e *statusError) GRPCStatus() *grpcstatus.Status {
	return grpcstatus.New(codeOf(e.err), e.err.Error())
}

// codeOf gives the code of an RPC that got no answer: the one that a proxy's HTTP status for it becomes by
// Envoy's Grpc::Utility::httpToGrpcStatus; for a caller that gave up, grpc-go's own.
func codeOf(err error) codes.Code {
	var e *call.Error
	if !errors.As(err, &e) {
		return codes.Unavailable
	}
	switch e.Reason {
	case call.ReasonTimeout: // grpc-go's own word for it, where a proxy's 504 would be Unavailable
		return codes.DeadlineExceeded
	case call.ReasonCanceled:
		if errors.Is(e.Err, context.DeadlineExceeded) {
			return codes.DeadlineExceeded
		}
		return codes.Canceled
	}
	return codes.Code(e.GRPCStatusCode())
}

// messageOf gives the text of a status error without its frame.
func messageOf(err error) string {
	if s, ok := grpcstatus.FromError(err); ok {
		return s.Message()
	}
	return err.Error()
}
