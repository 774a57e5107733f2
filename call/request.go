package call

import (
	"net/http"
	"net/netip"
	"net/textproto"
	"strings"
)

// A Request is one request as routing and policy see it. Its strings may alias a codec's buffer and its
// Headers the caller's map: whoever keeps something past the decision clones it. Matchers only read it.
type Request struct {
	Scope     string // whose routes apply: "" is the mesh
	Method    string // as sent, "GET"
	Scheme    string // "http" or "https"
	Host      string // canonical: lower case, no port, no trailing dot (see SplitAuthority)
	Port      uint16 // the port the caller dialled, not the one in the Host header
	Authority string // the Host header or :authority as it goes on the wire
	Path      string // canonical (see CanonicalPath), percent-encoded, without the query
	Query     string // raw, without the question mark
	Protocol  string // "HTTP/1.1", "HTTP/2" as the caller speaks it, "" where it is not known
	Headers   Headers
	// Source is the address of who sent the request to us, invalid where it begins here.
	Source netip.Addr
	// Conn is what there is to know of a connection that is not HTTP, nil for none.
	Conn *Connection
	// Room is where what is made of the request stands, for drivers that use the texts no longer than the room. Default nil:
	// texts are allocated.
	Room *Room
}

// A Connection is what rules see of a connection that is not HTTP.
type Connection struct {
	ServerName string     // the host in its ClientHello, canonical, "" for none
	To         netip.Addr // where it was made to, invalid where that is not known
}

// Headers is the view of header fields that matchers need. http.Header, gRPC metadata and a codec's head
// buffer all satisfy it without copying.
type Headers interface {
	// Value gives the i-th value of the field, from 0, and whether there is one.
	Value(n *Name, i int) (string, bool)
}

// A Name is a header field name in the two spellings that header containers look up by. Make it once,
// when configuration is compiled.
type Name struct {
	lower     string
	canonical string
}

// NewName prepares a header field name; case does not matter.
func NewName(s string) *Name {
	return &Name{lower: strings.ToLower(s), canonical: textproto.CanonicalMIMEHeaderKey(s)}
}

// Lower gives the name as HTTP/2 and gRPC metadata spell it.
func (n *Name) Lower() string { return n.lower }

// Canonical gives the name as net/http spells it.
func (n *Name) Canonical() string { return n.canonical }

func (n *Name) String() string { return n.lower }

// HTTPHeaders is net/http's header map as a Headers. Keys in other than canonical form are not seen,
// as in http.Header.Get.
type HTTPHeaders http.Header

// Value implements Headers.
func (h HTTPHeaders) Value(n *Name, i int) (string, bool) {
	v := h[n.canonical]
	if i >= len(v) {
		return "", false
	}
	return v[i], true
}

// A HeaderEditor is a message's header while it may be changed.
type HeaderEditor interface {
	Headers
	Set(n *Name, value string) // in place of all values
	Add(n *Name, value string) // beside those there are
	Remove(n *Name)
}

// Set implements HeaderEditor. The map must be the caller's own.
func (h HTTPHeaders) Set(n *Name, value string) { h[n.canonical] = []string{value} }

// Add implements HeaderEditor.
func (h HTTPHeaders) Add(n *Name, value string) {
	// A full slice is copied: what it was cloned from may share the array.
	h[n.canonical] = append(h[n.canonical][:len(h[n.canonical]):len(h[n.canonical])], value)
}

// Remove implements HeaderEditor.
func (h HTTPHeaders) Remove(n *Name) { delete(h, n.canonical) }
