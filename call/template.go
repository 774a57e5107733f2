package call

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A Template is a header value with Envoy's commands in it: "%REQ(x-user)%", "%PROTOCOL%", with "%%" for a
// percent sign (Envoy, substitution formatter). It is immutable; the zero value is the empty text.
type Template struct {
	parts []templatePart
}

type templatePart struct {
	text    string // literal where command is 0
	command command
	name    *Name // of REQ and RESP
	other   *Name // after the question mark, nil for none
	most    int   // bytes, 0 for all
}

type command uint8

const (
	literal command = iota
	reqHeader
	respHeader
	protocol
	startTime
	routeName
	upstreamCluster
	upstreamHost
	responseCode
	responseFlags
)

var commands = map[string]command{
	"REQ": reqHeader, "RESP": respHeader, "PROTOCOL": protocol, "START_TIME": startTime,
	"ROUTE_NAME": routeName, "UPSTREAM_CLUSTER": upstreamCluster, "UPSTREAM_HOST": upstreamHost,
	"RESPONSE_CODE": responseCode, "RESPONSE_FLAGS": responseFlags,
}

// hostname is the machine's, read when the first template wants it.
var hostname = sync.OnceValue(func() string {
	h, err := os.Hostname()
	if err != nil {
		return ""
	}
	return h
})

// Values is what a template's commands stand for. What is not known yet is empty.
type Values struct {
	Request  Request // %REQ(…)%, the pseudo headers :METHOD, :PATH, :AUTHORITY and :SCHEME among them
	Response Headers // %RESP(…)%, nil before there is one
	Protocol string  // "HTTP/1.1", "HTTP/2"
	Route    string
	Cluster  string
	Endpoint string
	Status   int
	Flags    string // Envoy's response flags, "-" for none
	Time     time.Time
}

// ParseTemplate reads a header value. Its error names the first command that is none of ours and lists
// those that are.
func ParseTemplate(s string) (Template, error) {
	var t Template
	text := func(s string) {
		if n := len(t.parts); n > 0 && t.parts[n-1].command == literal {
			t.parts[n-1].text += s
		} else if s != "" {
			t.parts = append(t.parts, templatePart{text: s})
		}
	}
	for s != "" {
		before, rest, found := strings.Cut(s, "%")
		text(before)
		if !found {
			break
		}
		if strings.HasPrefix(rest, "%") {
			text("%")
			s = rest[1:]
			continue
		}
		body, after, closed := strings.Cut(rest, "%")
		if !closed {
			return Template{}, fmt.Errorf("a single %% in %q: write %%%% for a percent sign", s)
		}
		if body == "HOSTNAME" {
			text(hostname())
		} else {
			p, err := parseCommand(body)
			if err != nil {
				return Template{}, err
			}
			t.parts = append(t.parts, p)
		}
		s = after
	}
	return t, nil
}

// parseCommand reads "NAME", "NAME(header)", "NAME(header?other):length".
func parseCommand(s string) (templatePart, error) {
	bad := func(why string) (templatePart, error) {
		return templatePart{}, fmt.Errorf("command %%%s%%: %s", Printable(s), why)
	}
	name, arg, length := s, "", ""
	limited, hasArg := false, false
	if i := strings.LastIndexByte(s, ':'); i > strings.LastIndexByte(s, ')') {
		name, length, limited = s[:i], s[i+1:], true
	}
	if open := strings.IndexByte(name, '('); open >= 0 {
		if !strings.HasSuffix(name, ")") {
			return bad("the parenthesis is not closed")
		}
		name, arg, hasArg = name[:open], name[open+1:len(name)-1], true
	}
	p := templatePart{command: commands[name]}
	switch {
	case p.command == literal:
		known := []string{"HOSTNAME"}
		for k := range commands {
			known = append(known, k)
		}
		slices.Sort(known)
		return bad("not supported in a header's value; these are: " + strings.Join(known, ", "))
	case p.command == reqHeader || p.command == respHeader:
		main, other, two := strings.Cut(arg, "?")
		if main == "" || two && other == "" {
			return bad("name a header, as in %" + name + "(x-request-id)%")
		}
		p.name = NewName(main)
		if two {
			p.other = NewName(other)
		}
	case hasArg:
		return bad("takes no argument")
	}
	if limited {
		n, err := strconv.ParseUint(length, 10, 16)
		if err != nil || n == 0 {
			return bad("the length after the colon is not a number from 1 to 65535")
		}
		p.most = int(n)
	}
	return p, nil
}

// Literal gives the text of a template without commands.
func (t *Template) Literal() (text string, ok bool) {
	switch len(t.parts) {
	case 0:
		return "", true
	case 1:
		return t.parts[0].text, t.parts[0].command == literal
	}
	return "", false
}

// OfResponse reports whether a command asks for what only an answer can tell.
func (t *Template) OfResponse() bool {
	return slices.ContainsFunc(t.parts, func(p templatePart) bool {
		return p.command == respHeader || p.command >= upstreamHost
	})
}

// Text evaluates the template. What a command does not find is empty.
func (t *Template) Text(v *Values) string {
	if text, ok := t.Literal(); ok {
		return text
	}
	if p := &t.parts[0]; len(t.parts) == 1 && p.command == reqHeader && p.most == 0 && p.other == nil {
		return v.Request.field(p.name)
	}
	if r := v.Request.Room; r != nil {
		from := len(r.texts)
		r.texts = t.Append(r.texts, v)
		return r.since(from)
	}
	var room [128]byte
	return string(t.Append(room[:0], v))
}

// Append is Text onto a buffer.
func (t *Template) Append(dst []byte, v *Values) []byte {
	for i := range t.parts {
		p := &t.parts[i]
		from := len(dst)
		switch p.command {
		case literal:
			dst = append(dst, p.text...)
		case reqHeader:
			dst = appendEither(dst, p, func(n *Name) string { return v.Request.field(n) })
		case respHeader:
			dst = appendEither(dst, p, func(n *Name) string { return first(v.Response, n) })
		case protocol:
			dst = append(dst, v.Protocol...)
		case startTime:
			dst = v.Time.UTC().AppendFormat(dst, "2006-01-02T15:04:05.000Z")
		case routeName:
			dst = append(dst, v.Route...)
		case upstreamCluster:
			dst = append(dst, v.Cluster...)
		case upstreamHost:
			dst = append(dst, v.Endpoint...)
		case responseCode:
			if v.Status != 0 {
				dst = strconv.AppendInt(dst, int64(v.Status), 10)
			}
		case responseFlags:
			dst = append(dst, v.Flags...)
		}
		if p.most > 0 && len(dst)-from > p.most {
			dst = dst[:from+p.most]
		}
	}
	return dst
}

func appendEither(dst []byte, p *templatePart, get func(*Name) string) []byte {
	s := get(p.name)
	if s == "" && p.other != nil {
		s = get(p.other)
	}
	return append(dst, s...)
}

// field gives a request header or pseudo header.
func (q *Request) field(n *Name) string {
	switch n.lower {
	case ":method":
		return q.Method
	case ":scheme":
		return q.Scheme
	case ":authority":
		return q.Authority
	case ":path":
		if q.Query != "" {
			return q.Room.Join(q.Path, "?", q.Query)
		}
		return q.Path
	}
	return first(q.Headers, n)
}

func first(h Headers, n *Name) string {
	if h == nil {
		return ""
	}
	v, _ := h.Value(n, 0)
	return v
}
