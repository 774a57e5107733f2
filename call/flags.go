package call

import "strings"

// Flags are Envoy's response flags of one call (access log %RESPONSE_FLAGS%, the label response_flags of Istio's metrics), those
// that the mesh has a use for. They are a set.
type Flags uint32

// In the order in which Envoy writes them (CoreResponseFlag).
const (
	FlagUH   Flags = 1 << iota // no endpoint to pick
	FlagUT                     // a time-out of the mesh
	FlagLR                     // ended by the mesh itself
	FlagUR                     // the endpoint reset the stream
	FlagUF                     // the endpoint could not be connected to
	FlagUC                     // the endpoint ended the connection
	FlagUO                     // a limit or a circuit breaker
	FlagNR                     // no rule matches
	FlagDI                     // an injected delay
	FlagFI                     // an injected abort
	FlagRL                     // a rate limit
	FlagUAEX                   // an external authorizer has refused, or failed
	FlagDC                     // the caller has gone
	FlagURX                    // no retry was left
	FlagSI                     // nothing moved for too long
	FlagDPE                    // the request breaks its protocol
	FlagUPE                    // the answer does
	FlagNC                     // the rule's destination does not exist
	FlagOM                     // memory is scarce
)

var flagNames = [...]string{"UH", "UT", "LR", "UR", "UF", "UC", "UO", "NR", "DI", "FI", "RL", "UAEX", "DC", "URX", "SI", "DPE", "UPE", "NC", "OM"}

// String gives the flags as Envoy writes them, with commas between them, "-" for none.
func (f Flags) String() string { return f.join(&flagNames) }

func (f Flags) join(names *[len(flagNames)]string) string {
	text := "-"
	for i, name := range names {
		switch {
		case f&(1<<i) == 0:
		case text == "-":
			text = name
		default:
			text += "," + name
		}
	}
	return text
}

var longNames = [...]string{"NoHealthyUpstream", "UpstreamRequestTimeout", "LocalReset", "UpstreamRemoteReset", "UpstreamConnectionFailure",
	"UpstreamConnectionTermination", "UpstreamOverflow", "NoRouteFound", "DelayInjected", "FaultInjected", "RateLimited",
	"UnauthorizedExternalService", "DownstreamConnectionTermination", "UpstreamRetryLimitExceeded", "StreamIdleTimeout",
	"DownstreamProtocolError", "UpstreamProtocolError", "NoClusterFound", "OverloadManagerTerminated"}

// Long gives the flags by Envoy's long names (access log %RESPONSE_FLAGS_LONG%).
func (f Flags) Long() string { return f.join(&longNames) }

// bits are the flags as numbers (Envoy, CoreResponseFlag by its legacy mask).
var bits = [...]int64{0x2, 0x4, 0x8, 0x10, 0x20, 0x40, 0x80, 0x100, 0x200, 0x400, 0x800, 0x1000, 0x4000, 0x8000, 0x10000, 0x40000, 0x800000, 0x1000000, 0x2000000}

// Bits gives the flags as Envoy's attribute response.flags has them.
func (f Flags) Bits() (n int64) {
	for i, bit := range bits {
		if f&(1<<i) != 0 {
			n |= bit
		}
	}
	return n
}

// ParseFlags reads what String gives; words that are no flag of the mesh's are none.
func ParseFlags(s string) (f Flags) {
	for word := range strings.SplitSeq(s, ",") {
		for i, name := range flagNames {
			if word == name {
				f |= 1 << i
			}
		}
	}
	return f
}
