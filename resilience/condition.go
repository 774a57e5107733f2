package resilience

import (
	"cmp"
	"fmt"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

// A Condition is a set of retryOn tokens (HTTPRetry.retryOn, Envoy's x-envoy-retry-on and
// x-envoy-retry-grpc-on).
type Condition uint32

// The tokens, in the order in which String writes them. What an outcome must be for each, see
// Retry.Judge.
const (
	On5xx Condition = 1 << iota
	OnGatewayError
	OnReset
	OnResetBeforeRequest
	OnConnectFailure
	OnRefusedStream
	OnRetriable4xx
	OnRetriableStatusCodes
	OnRetriableHeaders // has no effect: Istio has no field that names the headers
	OnEnvoyRateLimited
	OnHTTP3PostConnectFailure // has no effect: the mesh does not speak HTTP/3
	OnCancelled
	OnDeadlineExceeded
	OnInternal
	OnResourceExhausted
	OnUnavailable
)

var conditionTokens = [...]string{
	"5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "refused-stream",
	"retriable-4xx", "retriable-status-codes", "retriable-headers", "envoy-ratelimited",
	"http3-post-connect-failure",
	"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable",
}

// String gives the tokens as retryOn has them, "" for none.
func (c Condition) String() string {
	var b strings.Builder
	for ; c != 0; c &= c - 1 {
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		if i := bits.TrailingZeros32(uint32(c)); i < len(conditionTokens) {
			b.WriteString(conditionTokens[i])
		} else {
			fmt.Fprintf(&b, "Condition(%d)", i)
		}
	}
	return b.String()
}

// ParseRetryOn reads Istio's retryOn: tokens and HTTP status codes, separated by commas without spaces.
// Status codes come back sorted, each once, and imply retriable-status-codes. The empty string is the
// empty set. The error of a faulty list is a *RetryOnError.
func ParseRetryOn(s string) (Condition, []int, error) {
	if s == "" {
		return 0, nil, nil
	}
	var (
		on    Condition
		codes []int
	)
	for rest, offset, more := s, 0, true; more; {
		var token string
		token, rest, more = strings.Cut(rest, ",")
		if i := slices.Index(conditionTokens[:], token); i >= 0 {
			on |= 1 << i
		} else if code, ok := statusCode(token); ok {
			on |= OnRetriableStatusCodes
			codes = append(codes, code)
		} else {
			return 0, nil, &RetryOnError{Token: token, Offset: offset, Nearest: nearestTokens(token)}
		}
		offset += len(token) + 1
	}
	slices.Sort(codes)
	return on, slices.Compact(codes), nil
}

// statusCode reads three digits, 100 to 599.
func statusCode(s string) (int, bool) {
	if len(s) != 3 || s[0] < '1' || s[0] > '5' {
		return 0, false
	}
	code, err := strconv.ParseUint(s, 10, 16)
	return int(code), err == nil
}

// A RetryOnError says what in a retryOn list is not a token.
type RetryOnError struct {
	Token   string
	Offset  int      // of the token in the list, in bytes
	Nearest []string // the valid tokens most like it, the best first; all where none is like it
}

// Error names the token, where it stands and what could have been meant.
func (e *RetryOnError) Error() string {
	token := e.Token
	if len(token) > longestToken {
		token = token[:longestToken]
	}
	hint := "one of"
	switch {
	case e.Token == "":
		return fmt.Sprintf("retryOn: empty token at byte %d: separate tokens by single commas", e.Offset)
	case strings.TrimSpace(e.Token) != e.Token:
		hint = "no spaces are allowed; one of"
	case len(e.Nearest) < len(conditionTokens):
		hint = "did you mean"
	}
	return fmt.Sprintf("retryOn: %q at byte %d is no retry condition and no status code from 100 to 599: %s %s",
		token, e.Offset, hint, strings.Join(e.Nearest, ", "))
}

// longestToken bounds what is compared and shown of a token: no valid one is nearly as long.
const longestToken = 40

// nearestTokens gives up to three valid tokens within a third of their length of edits, else all.
func nearestTokens(token string) []string {
	token = strings.ToLower(strings.TrimSpace(token))
	if token == "" || len(token) > longestToken {
		return slices.Clone(conditionTokens[:])
	}
	distance := make(map[string]int, len(conditionTokens))
	var near []string
	for _, valid := range conditionTokens {
		d := editDistance(token, valid)
		if d <= max(len(valid)/3, 1) {
			distance[valid] = d
			near = append(near, valid)
		}
	}
	if len(near) == 0 {
		return slices.Clone(conditionTokens[:])
	}
	slices.SortStableFunc(near, func(a, b string) int { return cmp.Compare(distance[a], distance[b]) })
	return near[:min(len(near), 3)]
}

// editDistance is the number of bytes to insert, delete or replace to make one string the other.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
