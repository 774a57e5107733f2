package resilience

import "fmt"

// A Verdict says why an attempt was or was not repeated. Numbers may change between releases.
type Verdict uint8

// The verdicts, in the order in which they are looked for.
const (
	Unjudged      Verdict = iota // nothing was asked: the call was answered by the mesh, or is under way
	Repeated                     // it was followed by another attempt
	NoRetries                    // the rule has none
	NotRetried                   // no condition of retryOn meets the outcome; a good answer, for one
	NotIdempotent                // a condition does, but the endpoint may have acted and the request is not idempotent
	TurnedOff                    // the program has asked for one attempt only
	BodyLost                     // too much of the body was read to send it again
	AttemptsSpent                // it was the last the rule allows for (flag URX)
	PushedBack                   // the endpoint has asked for no more, or for a longer wait than the call has time
	BudgetSpent                  // as many retries of the cluster are under way as may be
	verdicts
)

var verdictTexts = [verdicts]string{
	"", "repeated", "the rule has no retries", "no condition of retryOn", "not idempotent", "turned off by the program",
	"the body cannot be sent again", "no attempt left", "the endpoint asks to wait too long", "no retry budget left",
}

// String says it in words, "" for Unjudged.
func (v Verdict) String() string {
	if v < verdicts {
		return verdictTexts[v]
	}
	return fmt.Sprintf("Verdict(%d)", uint8(v))
}

// MarshalText implements encoding.TextMarshaler.
func (v Verdict) MarshalText() ([]byte, error) { return []byte(v.String()), nil }
