package external

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/transport/http1"
)

// Action says how a field is changed (Envoy, HeaderValueOption.append_action).
type Action uint8

const (
	// Set puts the value in place of all there are (OVERWRITE_IF_EXISTS_OR_ADD).
	Set Action = iota
	// Append puts it beside them (APPEND_IF_EXISTS_OR_ADD).
	Append
	// AddIfAbsent puts it where there is none (ADD_IF_ABSENT).
	AddIfAbsent
	// SetIfPresent puts it in place of those there are, if any (OVERWRITE_IF_EXISTS).
	SetIfPresent
	// Remove takes all values away; of an answer's header it does nothing.
	Remove
)

// An Edit changes one field of a header. One that names what is not an authorizer's to change does nothing: Host, pseudo
// headers, what frames a message or concerns one connection, grpc-status and its message, x-forwarded-client-cert and
// x-heddle-*.
type Edit struct {
	Name, Value string
	Action      Action
}

// The bounds of an answer. What goes beyond them is a failure that opens nothing.
const (
	MaxBody   = 1 << 20  // bytes of a body
	MaxHeader = 64 << 10 // bytes of all names and values
	MaxEdits  = 200      // changes in all
)

// ErrMalformed is an answer that is none: a field that no header can hold, a status that is none, more than the bounds. The
// request is then refused, whatever failOpen says.
var ErrMalformed = errors.New("malformed answer of an authorizer")

// Valid says what is wrong with an answer: an error that wraps ErrMalformed, nil for nothing.
func (a *Answer) Valid() error {
	if a.Status != 0 && (a.Status < 200 || a.Status > 599) {
		return fmt.Errorf("%w: status %d", ErrMalformed, a.Status)
	}
	if len(a.Body) > MaxBody {
		return fmt.Errorf("%w: a body of more than %d bytes", ErrMalformed, MaxBody)
	}
	size, count := 0, len(a.SetQuery)+len(a.RemoveQuery)
	for _, list := range [][]Edit{a.Denied, a.Request, a.Response} {
		count += len(list)
		for i := range list {
			e := &list[i]
			size += len(e.Name) + len(e.Value)
			if !strings.HasPrefix(e.Name, ":") && !isToken(e.Name) {
				return fmt.Errorf("%w: %q is no name of a field", ErrMalformed, call.Printable(e.Name))
			}
			if !isValue(e.Value) {
				return fmt.Errorf("%w: field %s has a value that no field can hold", ErrMalformed, e.Name)
			}
		}
	}
	for _, p := range a.SetQuery {
		size += len(p.Name) + len(p.Value)
	}
	if size > MaxHeader || count > MaxEdits {
		return fmt.Errorf("%w: %d changes of %d bytes", ErrMalformed, count, size)
	}
	return nil
}

// isToken reports what can be a field's name (RFC 9110 §5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i] | 0x20
		if !('a' <= c && c <= 'z' || '0' <= s[i] && s[i] <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", s[i]) >= 0) {
			return false
		}
	}
	return s != ""
}

// isValue reports what a field can hold (RFC 9110 §5.5).
func isValue(s string) bool {
	for i := range len(s) {
		if c := s[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// Protected reports a field that no authorizer changes. The name may be in any case, and with "_" for "-".
func Protected(name string) bool {
	const peer, ours, status = "x-forwarded-client-cert", "x-heddle-", "grpc-"
	switch id := http1.Identify(name); {
	case id != http1.FieldOther && id != http1.FieldUserAgent:
		return true
	case strings.HasPrefix(name, ":"), http1.FramingAlike(name):
		return true
	}
	return len(name) == len(peer) && http1.Alike(name, peer) || len(name) >= len(ours) && http1.Alike(name[:len(ours)], ours) ||
		len(name) >= len(status) && http1.Alike(name[:len(status)], status)
}

// Apply makes the changes, in their order, but for those of protected fields.
func Apply(edits []Edit, h call.HeaderEditor) {
	for i := range edits {
		e := &edits[i]
		if Protected(e.Name) {
			continue
		}
		n := call.NewName(e.Name)
		_, there := h.Value(n, 0)
		value := strings.Trim(e.Value, " \t")
		switch {
		case e.Action == Remove:
			h.Remove(n)
		case e.Action == Append, e.Action == AddIfAbsent && !there:
			h.Add(n, value)
		case e.Action == Set, e.Action == SetIfPresent && there:
			h.Set(n, value)
		}
	}
}

// Query gives the query as the answer changes it: parameters that it names leave, and those that it sets come at the end.
// What it does not name stays as it is written.
func (a *Answer) Query(raw string) string {
	if len(a.SetQuery)+len(a.RemoveQuery) == 0 {
		return raw
	}
	named := make(map[string]bool)
	for _, p := range a.SetQuery {
		named[p.Name] = true
	}
	for _, name := range a.RemoveQuery {
		named[name] = true
	}
	var parts []string
	for part := range strings.SplitSeq(raw, "&") {
		name, _, _ := strings.Cut(part, "=")
		if decoded, err := url.QueryUnescape(name); err == nil {
			name = decoded
		}
		if part != "" && !named[name] {
			parts = append(parts, part)
		}
	}
	last := make(map[string]int)
	for i, p := range a.SetQuery {
		last[p.Name] = i
	}
	removed := make(map[string]bool)
	for _, name := range a.RemoveQuery {
		removed[name] = true
	}
	for i, p := range a.SetQuery {
		if last[p.Name] == i && !removed[p.Name] { // Envoy sets first, and then removes
			parts = append(parts, url.QueryEscape(p.Name)+"="+url.QueryEscape(p.Value))
		}
	}
	return strings.Join(parts, "&")
}
