package accesslog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// DefaultText is Istio's text format (pilot/pkg/model, EnvoyTextLogFormat).
const DefaultText = `[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% ` +
	`%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% ` +
	`%DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" ` +
	`"%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% ` +
	`%DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%` + "\n"

// DefaultJSON is Istio's JSON format (EnvoyJSONLogFormatIstio).
const DefaultJSON = `{"start_time": "%START_TIME%", "route_name": "%ROUTE_NAME%", "method": "%REQ(:METHOD)%",
	"path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", "protocol": "%PROTOCOL%", "response_code": "%RESPONSE_CODE%",
	"response_flags": "%RESPONSE_FLAGS%", "response_code_details": "%RESPONSE_CODE_DETAILS%",
	"connection_termination_details": "%CONNECTION_TERMINATION_DETAILS%", "bytes_received": "%BYTES_RECEIVED%",
	"bytes_sent": "%BYTES_SENT%", "duration": "%DURATION%", "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
	"x_forwarded_for": "%REQ(X-FORWARDED-FOR)%", "user_agent": "%REQ(USER-AGENT)%", "request_id": "%REQ(X-REQUEST-ID)%",
	"authority": "%REQ(:AUTHORITY)%", "upstream_host": "%UPSTREAM_HOST%", "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
	"upstream_local_address": "%UPSTREAM_LOCAL_ADDRESS%", "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
	"downstream_remote_address": "%DOWNSTREAM_REMOTE_ADDRESS%", "requested_server_name": "%REQUESTED_SERVER_NAME%",
	"upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%"}`

// A Format makes a line of an entry. It is immutable.
type Format struct {
	parts  []part
	answer bool // fields of the answer are asked for
	omits  bool // see WithoutEmpty
	top    *member
	object map[string]any // that it was made of, nil for a text
}

// A part is a text as it stands, or an operator where that is nil.
type part struct {
	literal []byte
	op      operator
	as      place
}

// A place is where the value of an operator stands.
type place uint8

const (
	bare      place = iota // in a text
	quoted                 // in a text, between quotes
	jsonValue              // of a key of JSON
	jsonInner              // in a text of JSON
)

// ParseText reads a format of Envoy's for text (config/core/v3 SubstitutionFormatString text_format). A line that does not end
// with a line feed gets one: lines of two requests are never one.
func ParseText(s string) (*Format, error) {
	if !strings.HasSuffix(s, "\n") {
		s += "\n"
	}
	f := new(Format)
	inQuotes := false
	err := scan(s, func(literal string, op *operator) {
		if op != nil {
			f.answer = f.answer || op.ofAnswer()
			p := part{op: *op, as: bare}
			if inQuotes {
				p.as = quoted
			}
			f.parts = append(f.parts, p)
			return
		}
		inQuotes = inQuotes != (strings.Count(literal, `"`)%2 == 1)
		f.literal(literal)
	})
	if err != nil {
		return nil, err
	}
	return f, nil
}

// ParseJSON reads a format of Envoy's for JSON (json_format): an object whose texts hold operators. A text that is one
// operator has that one's value: a number, or null for nothing. Keys are written in their order.
func ParseJSON(s string) (*Format, error) {
	d := json.NewDecoder(strings.NewReader(s))
	d.UseNumber()
	var object map[string]any
	if err := d.Decode(&object); err != nil {
		return nil, fmt.Errorf("read the format as an object of JSON: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("read the format as an object of JSON: there is more behind it")
	}
	return ObjectFormat(object)
}

// ObjectFormat is ParseJSON of an object that is read: its values are those of package encoding/json.
func ObjectFormat(object map[string]any) (*Format, error) {
	f := &Format{object: object}
	if err := f.json(object, 0); err != nil {
		return nil, err
	}
	f.literal("\n")
	return f, nil
}

const deepest = 16

func (f *Format) json(v any, depth int) error {
	if depth > deepest {
		return fmt.Errorf("more than %d levels", deepest)
	}
	switch v := v.(type) {
	case map[string]any:
		f.literal("{")
		for i, key := range slices.Sorted(maps.Keys(v)) {
			if i > 0 {
				f.literal(",")
			}
			f.literal(`"` + string(appendJSON(nil, key)) + `":`)
			if err := f.json(v[key], depth+1); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		}
		f.literal("}")
	case []any:
		f.literal("[")
		for i, one := range v {
			if i > 0 {
				f.literal(",")
			}
			if err := f.json(one, depth+1); err != nil {
				return fmt.Errorf("[%d]: %w", i, err)
			}
		}
		f.literal("]")
	case string:
		return f.jsonText(v)
	default:
		text, err := json.Marshal(v)
		if err != nil {
			return fmt.Errorf("write a value: %w", err)
		}
		f.literal(string(text))
	}
	return nil
}

func (f *Format) jsonText(s string) error {
	var parts []part
	err := scan(s, func(literal string, op *operator) {
		if op != nil {
			f.answer = f.answer || op.ofAnswer()
			parts = append(parts, part{op: *op, as: jsonInner})
		} else {
			parts = append(parts, part{literal: appendJSON(nil, literal)})
		}
	})
	if err != nil {
		return err
	}
	if len(parts) == 1 && parts[0].literal == nil {
		parts[0].as = jsonValue
		f.parts = append(f.parts, parts[0])
		return nil
	}
	f.literal(`"`)
	for _, p := range parts {
		if p.literal != nil {
			f.literal(string(p.literal))
		} else {
			f.parts = append(f.parts, p)
		}
	}
	f.literal(`"`)
	return nil
}

// ofAnswer reports an operator that reads the header of the answer, or its trailer.
func (op *operator) ofAnswer() bool {
	return op.name == "TRAILER" || op.name == "RESP" && !(op.field.serviceTime() && op.other == nil)
}

// literal adds a text, to the one before where there is one.
func (f *Format) literal(s string) {
	if n := len(f.parts); n > 0 && f.parts[n-1].literal != nil {
		f.parts[n-1].literal = append(f.parts[n-1].literal, s...)
		return
	}
	f.parts = append(f.parts, part{literal: []byte(s)})
}

// Equal reports that two formats write the same.
func (f *Format) Equal(o *Format) bool {
	return f.omits == o.omits && slices.EqualFunc(f.parts, o.parts, func(a, b part) bool {
		return bytes.Equal(a.literal, b.literal) && a.as == b.as && a.op.equal(&b.op)
	})
}

// Append appends the line of an entry, with its line feed. It allocates where b is too small, and where a request has several
// response flags.
func (f *Format) Append(b []byte, e *Entry) []byte {
	if f.top != nil {
		b, some := f.top.append(b, e)
		if !some {
			b = append(b, "{}"...)
		}
		return append(b, '\n')
	}
	for i := range f.parts {
		p := &f.parts[i]
		if p.literal != nil {
			b = append(b, p.literal...)
			continue
		}
		v := p.op.of(e)
		if f.omits && v.kind == nothing {
			continue
		}
		switch p.as {
		case jsonValue:
			b = v.appendJSON(b)
		case jsonInner:
			b = v.appendWithin(b)
		default:
			b = v.appendText(b, p.as == bare)
		}
	}
	return b
}
