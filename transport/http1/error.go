package http1

// An Error is a message that breaks a rule, read or about to be written. Errors are constants of this package:
// they hold no byte of the message and are safe to log, to count by and to share.
type Error struct {
	// Status is what to answer: 400, 414, 417, 431, 501 or 505 for a request, 502 for a response. It is 500 for
	// what the caller asked a [Writer] to write.
	Status int
	// Rule is where the rule stands, "RFC 9112 §6.3", or the name of the limit, "Limits.Head".
	Rule string
	// Text says what was found, in lower case.
	Text string
}

func (e *Error) Error() string { return "http1: " + e.Text + " (" + e.Rule + ")" }

// A refusal is one rule as it is broken by a request, which has a status of its own, and by a response.
type refusal struct{ request, response Error }

func refuse(status int, rule, text string) *refusal {
	return &refusal{request: Error{status, rule, text}, response: Error{502, rule, text}}
}

// in gives the error for the kind of message at hand.
func (r *refusal) in(response bool) *Error {
	if response {
		return &r.response
	}
	return &r.request
}

// What both kinds of message can break.
var (
	errHeadSize   = refuse(431, "Limits.Head", "head too large")
	errLineSize   = refuse(414, "Limits.Line", "start line too long")
	errNoTarget   = refuse(400, "Limits.Line", "start line too long and without a target")
	errFieldSize  = refuse(431, "Limits.Field", "field line too long")
	errNameSize   = refuse(431, "Limits.Field", "field name longer than 256 bytes")
	errFieldCount = refuse(431, "Limits.Fields", "too many field lines")
	errExtSize    = refuse(400, "Limits.ChunkExtension", "chunk extensions too large")
	errTrailer    = refuse(431, "Limits.Trailer", "trailer section too large")

	errBareLF     = refuse(400, "RFC 9112 §2.2", "line ends with a bare LF")
	errBareCR     = refuse(400, "RFC 9112 §2.2", "bare CR")
	errFold       = refuse(400, "RFC 9112 §5.2", "line folding or whitespace before a field name")
	errNoColon    = refuse(400, "RFC 9112 §5", "field line without a colon")
	errEmptyName  = refuse(400, "RFC 9112 §5", "empty field name")
	errSpaceColon = refuse(400, "RFC 9112 §5.1", "whitespace between field name and colon")
	errName       = refuse(400, "RFC 9110 §5.1", "invalid byte in a field name")
	errValue      = refuse(400, "RFC 9110 §5.5", "control character in a field value")

	errVersion    = refuse(400, "RFC 9112 §2.3", "malformed HTTP version")
	errNotOurs    = refuse(505, "RFC 9110 §15.6.6", "HTTP version other than 1.0 and 1.1")
	errLengths    = refuse(400, "RFC 9112 §6.3", "more than one content-length")
	errLength     = refuse(400, "RFC 9110 §8.6", "content-length is not a number")
	errLengthTE   = refuse(400, "RFC 9112 §6.3", "both transfer-encoding and content-length")
	errTE10       = refuse(400, "RFC 9112 §6.1", "transfer-encoding in an HTTP/1.0 message")
	errTE         = refuse(400, "RFC 9112 §6.1", "transfer-encoding is not exactly chunked")
	errTEUnknown  = refuse(501, "RFC 9112 §6.1", "transfer coding other than chunked")
	errChunkSize  = refuse(400, "RFC 9112 §7.1", "malformed chunk size")
	errChunkLarge = refuse(400, "RFC 9112 §7.1", "chunk size too large")
	errChunkExt   = refuse(400, "RFC 9112 §7.1.1", "malformed chunk extension")
	errChunkEnd   = refuse(400, "RFC 9112 §7.1", "chunk data not followed by CRLF")
	errForbidden  = refuse(400, "RFC 9110 §6.5.1", "field that must not be in trailers")
)

// What a request alone can break.
var (
	errEmptyLines = &Error{400, "Limits.EmptyLines", "empty lines before the request line"}
	errLine       = &Error{400, "RFC 9112 §3", "malformed request line"}
	errLineSpace  = &Error{400, "RFC 9112 §3", "whitespace in the request line other than two spaces"}
	errHTTP09     = &Error{400, "RFC 9112 §3", "request line without a version"}
	errMethod     = &Error{400, "RFC 9110 §9.1", "invalid byte in the method"}
	errMethodSize = &Error{501, "RFC 9112 §3", "method longer than 32 bytes"}
	errPreface    = &Error{400, "RFC 9113 §3.4", "the method of the HTTP/2 preface"}

	errTarget     = &Error{400, "RFC 9112 §3.2", "invalid byte in the target"}
	errFragment   = &Error{400, "RFC 9112 §3.2", "fragment in the target"}
	errTargetForm = &Error{400, "RFC 9112 §3.2", "target in no form that the method can have"}
	errPercent    = &Error{400, "RFC 3986 §2.1", "malformed percent-encoding in the path"}
	errScheme     = &Error{400, "RFC 9112 §3.2.2", "target with a scheme other than http and https"}
	errUserinfo   = &Error{400, "RFC 9110 §4.2.4", "userinfo in the target"}
	errAuthority  = &Error{400, "RFC 3986 §3.2", "malformed authority in the target"}
	errConnect    = &Error{400, "RFC 9112 §3.2.3", "CONNECT needs a host and a port"}
	errNoHost     = &Error{400, "RFC 9112 §3.2", "no host"}
	errHosts      = &Error{400, "RFC 9112 §3.2", "more than one host"}
	errHost       = &Error{400, "RFC 9112 §3.2", "malformed host"}
	errExpect     = &Error{417, "RFC 9110 §10.1.1", "expectation other than 100-continue"}
)

// What a response alone can break.
var (
	errStatusLine = &Error{502, "RFC 9112 §4", "malformed status line"}
	errStatus     = &Error{502, "RFC 9110 §15", "status code outside of 100 to 599"}
	errReason     = &Error{502, "RFC 9112 §4", "control character in the reason phrase"}
	errNoContent  = &Error{502, "RFC 9112 §6.1", "1xx or 204 that announces a body"}
)

// What a caller can ask a Writer for in vain.
var (
	errWriteMethod  = &Error{500, "RFC 9110 §9.1", "write method: not a token"}
	errWriteTarget  = &Error{500, "RFC 9112 §3.2", "write target: empty or with an invalid byte"}
	errWriteStatus  = &Error{500, "RFC 9110 §15", "write status: outside of 100 to 599"}
	errWriteReason  = &Error{500, "RFC 9112 §4", "write reason: control character"}
	errWriteName    = &Error{500, "RFC 9110 §5.1", "write field name: not a token"}
	errWriteValue   = &Error{500, "RFC 9110 §5.5", "write field value: control character"}
	errWriteFraming = &Error{500, "RFC 9112 §6", "write field: framing belongs to Length and Chunked"}
	errWriteTwice   = &Error{500, "RFC 9112 §6.3", "write framing: a message has one"}
	errWriteLength  = &Error{500, "RFC 9110 §8.6", "write length: negative"}
	errWriteOrder   = &Error{500, "RFC 9112 §2.1", "write: out of order"}
	errWriteBody    = &Error{500, "RFC 9112 §6.3", "write body: none can follow this head"}
	errWriteLong    = &Error{500, "RFC 9110 §8.6", "write body: more than its length"}
	errWriteShort   = &Error{500, "RFC 9110 §8.6", "write body: less than its length"}
	errWriteTrailer = &Error{500, "RFC 9110 §6.5.1", "write trailer: not in a chunked body, or not a trailer field"}
	errWriteSize    = &Error{500, "Limits.Head", "write head: larger than 128 KiB"}
	errWriteUntil   = &Error{500, "RFC 9112 §6.3", "write framing: a request body cannot end with the connection"}
)
