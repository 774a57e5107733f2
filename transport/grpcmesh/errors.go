package grpcmesh

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

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
	s := grpcstatus.New(codeOf(e.err), e.err.Error())
	if own, ok := call.AsError(e.err); ok {
		return detailed(s, own)
	}
	return s
}

// errorDomain is whose reasons the details of a status speak of.
const errorDomain = "heddle.dev"

// detailed adds to a status what programs can read of an error of the mesh: google.rpc.ErrorInfo with the reason's name in capitals and
// Envoy's flag, and google.rpc.RetryInfo where it is known when such an RPC can be let through. They say nothing of rules and endpoints:
// a server that returns the error of an RPC of its own passes them on to its callers.
func detailed(s *grpcstatus.Status, e *call.Error) *grpcstatus.Status {
	details := []protoadapt.MessageV1{&errdetails.ErrorInfo{Reason: strings.ToUpper(e.Reason.String()), Domain: errorDomain,
		Metadata: map[string]string{"flag": e.Flag()}}}
	if e.RetryAfter > 0 {
		details = append(details, &errdetails.RetryInfo{RetryDelay: durationpb.New(e.RetryAfter)})
	}
	with, err := s.WithDetails(details...)
	if err != nil { // of OK, which no error is
		return s
	}
	return with
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
