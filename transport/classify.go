package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/heddlemesh/mesh/call"
)

// connectError marks a failure to connect: nothing of the request was sent.
type connectError struct{ err error }

func (e *connectError) Error() string { return e.err.Error() }
func (e *connectError) Unwrap() error { return e.err }

// bodyError marks a failure to read the program's own request body.
type bodyError struct{ err error }

func (e *bodyError) Error() string { return "read request body: " + e.err.Error() }
func (e *bodyError) Unwrap() error { return e.err }

// streamError takes net/http's error of an HTTP/2 stream, which fills in any error with these fields (net/http,
// h2_error.go). golang.org/x/net/http2 has one too, for the price of a second HTTP/2.
type streamError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (e streamError) Error() string { return "HTTP/2 stream error" }

// refusedStream is REFUSED_STREAM (RFC 9113 §7).
const refusedStream = 7

// classify says how an attempt over a leaf ended.
func classify(ctx context.Context, resp *http.Response, err error) call.Outcome {
	if err == nil {
		return answered(resp)
	}
	var own *exchangeError
	var connect *connectError
	var body *bodyError
	var stream streamError
	var protocol textproto.ProtocolError
	switch {
	case ctx.Err() != nil:
		return call.Outcome{Reason: call.ReasonCanceled}
	case errors.As(err, &body):
		return call.Outcome{Reason: call.ReasonCanceled}
	case errors.As(err, &own):
		return own.outcome
	case unsendable(err):
		return call.Outcome{Reason: call.ReasonInvalidRequest}
	case errors.As(err, &connect), isTLSError(err):
		return call.NotConnected(err)
	case errors.As(err, &stream) && stream.Code == refusedStream:
		return call.Outcome{Reason: call.ReasonRefused, Unprocessed: true}
	case refusedWithBody(err), goneAway(err):
		return call.Outcome{Reason: call.ReasonRefused, Unprocessed: true}
	case unused(err): // what the endpoint did, it did to the connection: the same as where the end is seen a moment later
		return call.Outcome{Reason: call.ReasonReset, Unprocessed: true}
	case errors.As(err, &protocol), malformed(err):
		return call.Outcome{Reason: call.ReasonProtocol}
	}
	return call.Outcome{Reason: call.ReasonReset}
}

// unsendable finds the errors by which net/http says that the program's request cannot be sent as it is: a
// header, method or trailer that is none, a body of another length than announced. There is nothing but
// their text to know them by, from its beginning: what an endpoint wrote can only stand further on.
func unsendable(err error) bool {
	return saysFirst(err, "http: nil Request.", "net/http: invalid header ", "net/http: invalid trailer ", "net/http: invalid method ",
		"http: invalid header ", "http: invalid method ",
		"net/http: can't write control character", "http: invalid Host header", "invalid Trailer key ",
		"http: Request.ContentLength=", "http: ContentLength=",
		"http2: invalid ", "http2: request body larger than", "http2: request header list larger than")
}

// unchecked finds the errors of http.ClientConn about a request that it did not even begin, and whose body it leaves open.
func unchecked(err error) bool {
	return saysFirst(err, "http: nil Request.", "http: invalid header ", "http: invalid method ", "http: no Host in request URL")
}

// unused finds the errors by which net/http says that a connection ended before a request began on it.
func unused(err error) bool {
	return saysFirst(err, "http2: client conn not usable", "http2: client conn could not be established")
}

// goneAway finds the errors by which net/http says that an endpoint will not see to the stream: its GOAWAY named one before
// it (RFC 9113 §6.8).
func goneAway(err error) bool {
	return saysFirst(err, "http2: Transport received Server's graceful shutdown GOAWAY", "http2: Transport received GOAWAY from server ErrCode:")
}

// malformed finds the errors by which net/http says that an answer is no HTTP, again by their beginning.
func malformed(err error) bool {
	return saysFirst(err, "malformed HTTP ", "http: message cannot contain multiple Content-Length headers", "bad Content-Length ",
		"unsupported transfer encoding: ", "too many transfer encodings: ", "net/http: server response headers exceeded ")
}

func saysFirst(err error, beginnings ...string) bool {
	text := strings.TrimPrefix(err.Error(), "net/http: HTTP/1.x transport connection broken: ")
	return slices.ContainsFunc(beginnings, func(b string) bool { return strings.HasPrefix(text, b) })
}

// refusedWithBody finds the error by which net/http says that it could send the request once more, the
// server having refused the stream or gone away before it, if only it could make the body again: here it
// never can, for that is the engine's to decide. Of what was refused nothing but the text is left. A stream
// that ended in PROTOCOL_ERROR is among net/http's candidates too, but may have been acted on.
func refusedWithBody(err error) bool {
	text := err.Error()
	return strings.HasPrefix(text, "http2: Transport: cannot retry err [") && !strings.Contains(text, "PROTOCOL_ERROR")
}

// isTLSError finds the failures of the program's own TLS, of an https URL: they end the connection before
// the request is sent.
func isTLSError(err error) bool {
	var alert tls.AlertError
	var record tls.RecordHeaderError
	var verify *tls.CertificateVerificationError
	return errors.As(err, &alert) || errors.As(err, &record) || errors.As(err, &verify)
}

// GRPCPushback reads the values of grpc-retry-pushback-ms: below 0 for none at all, which is also what anything but one
// number says (gRFC A6).
func GRPCPushback(values []string) time.Duration {
	if len(values) == 0 {
		return 0
	}
	n, err := strconv.ParseInt(values[0], 10, 32)
	if err != nil || len(values) > 1 {
		return -1
	}
	return max(time.Duration(n)*time.Millisecond, -1)
}

// RetryAfter reads the field of that name: how long to wait for another attempt, 0 for what says nothing (RFC 9110
// §10.2.3).
func RetryAfter(value string, now time.Time) time.Duration {
	if value == "" {
		return 0
	}
	if n, err := strconv.ParseUint(value, 10, 63); err == nil {
		return time.Duration(min(n, uint64(longestTold/time.Second))) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

func answered(resp *http.Response) call.Outcome {
	o := call.Outcome{Status: resp.StatusCode}
	if resp.ProtoMajor >= 2 {
		// grpc-status among the headers is a trailers-only answer.
		if v := resp.Header["Grpc-Status"]; len(v) > 0 {
			if n, err := strconv.ParseUint(v[0], 10, 7); err == nil {
				o.GRPCStatus = uint8(n) + 1
			}
			o.Pushback = GRPCPushback(resp.Header["Grpc-Retry-Pushback-Ms"])
		}
	}
	switch o.Status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		o.Pushback = RetryAfter(resp.Header.Get("Retry-After"), time.Now())
		o.RateLimited = len(resp.Header["X-Envoy-Ratelimited"]) > 0
		o.Overloaded = len(resp.Header["X-Envoy-Overloaded"]) > 0
	}
	return o
}
