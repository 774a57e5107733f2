package config

import (
	"encoding/base64"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// A complaint is why a value cannot be taken for what its field wants. The zero value is no complaint.
type complaint struct{ message, hint string }

func expected(what string, n *yaml.Node, hint string) complaint {
	if isNull(target(n)) {
		hint = "remove the line or give it a value"
	}
	return complaint{"expected " + what + ", found " + describe(n), hint}
}

func isText(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!str" }

func isPlain(n *yaml.Node) bool {
	const quotes = yaml.DoubleQuotedStyle | yaml.SingleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle | yaml.TaggedStyle
	return n.Kind == yaml.ScalarNode && n.Style&quotes == 0
}

// textValue reads a string. What YAML takes for a number, a boolean or null is not turned into text behind
// the writer's back, since 1.0 and 0755 would not come out as they went in. A date is text: JSON, which
// Istio speaks, has no dates.
func textValue(n *yaml.Node) (string, complaint) {
	n = target(n)
	if isText(n) || n.Kind == yaml.ScalarNode && n.Tag == "!!timestamp" && isPlain(n) {
		return n.Value, complaint{}
	}
	hint := ""
	if n.Kind == yaml.ScalarNode {
		hint = "write " + quoted(n.Value) + " in quotes"
	}
	return "", expected("text", n, hint)
}

func boolValue(n *yaml.Node) (bool, complaint) {
	n = target(n)
	if n.Kind == yaml.ScalarNode && n.Tag == "!!bool" {
		return n.Value[0] == 't' || n.Value[0] == 'T', complaint{}
	}
	hint := "write true or false, without quotes"
	switch {
	case n.Kind != yaml.ScalarNode:
		hint = ""
	case isIn(n.Value, "true", "yes", "on", "y", "1"):
		hint = "write true, without quotes"
	case isIn(n.Value, "false", "no", "off", "n", "0"):
		hint = "write false, without quotes"
	}
	return false, expected("true or false", n, hint)
}

func isIn(s string, words ...string) bool {
	for _, w := range words {
		if strings.EqualFold(s, w) {
			return true
		}
	}
	return false
}

var (
	wholeNumber = regexp.MustCompile(`^[-+]?(0|[1-9][0-9]*)$`)
	// A leading zero would be octal to one reader and decimal to the next.
	realNumber = regexp.MustCompile(`^[-+]?((0|[1-9][0-9]*)(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?$`)
)

// wholeValue reads an integer of the field's type. Quoted numbers are taken for 64-bit fields only, as in
// protobuf's JSON, where such numbers are quoted because JavaScript cannot hold them.
func wholeValue(n *yaml.Node, kind protoreflect.Kind) (protoreflect.Value, complaint) {
	n = target(n)
	bits, signed := 32, kind == protoreflect.Int32Kind || kind == protoreflect.Int64Kind
	if kind == protoreflect.Int64Kind || kind == protoreflect.Uint64Kind {
		bits = 64
	}
	if !isPlain(n) && !(bits == 64 && isText(n)) || !wholeNumber.MatchString(n.Value) {
		return protoreflect.Value{}, expected("a whole number", n, wholeHint(n))
	}
	if signed {
		v, err := strconv.ParseInt(n.Value, 10, bits)
		if err != nil {
			return protoreflect.Value{}, outOfRange(n, -1<<(bits-1), 1<<(bits-1)-1)
		}
		if bits == 32 {
			return protoreflect.ValueOfInt32(int32(v)), complaint{}
		}
		return protoreflect.ValueOfInt64(v), complaint{}
	}
	v, err := strconv.ParseUint(strings.TrimPrefix(n.Value, "+"), 10, bits)
	if n.Value == "-0" {
		v, err = 0, nil
	}
	if err != nil {
		return protoreflect.Value{}, outOfRange(n, 0, math.MaxUint64>>(64-bits))
	}
	if bits == 32 {
		return protoreflect.ValueOfUint32(uint32(v)), complaint{}
	}
	return protoreflect.ValueOfUint64(v), complaint{}
}

func outOfRange(n *yaml.Node, least int64, most uint64) complaint {
	return complaint{clip(n.Value) + " is out of range", fmt.Sprintf("expected %d to %d", least, most)}
}

func wholeHint(n *yaml.Node) string {
	switch {
	case n.Kind != yaml.ScalarNode:
		return ""
	case isText(n) && wholeNumber.MatchString(n.Value):
		return "write " + clip(n.Value) + " without quotes"
	}
	return "write plain decimal digits"
}

func realValue(n *yaml.Node) (float64, complaint) {
	n = target(n)
	if !isPlain(n) || !realNumber.MatchString(n.Value) {
		hint := "write plain decimal digits"
		switch {
		case n.Kind != yaml.ScalarNode:
			hint = ""
		case isText(n) && realNumber.MatchString(n.Value):
			hint = "write " + clip(n.Value) + " without quotes"
		}
		return 0, expected("a number", n, hint)
	}
	v, err := strconv.ParseFloat(n.Value, 64)
	if err != nil {
		return 0, complaint{clip(n.Value) + " is out of range", ""}
	}
	return v, complaint{}
}

// durationValue reads a duration in Go's syntax, which is what Istio's own decoder takes: "1h30m", "500ms".
func durationValue(n *yaml.Node) (time.Duration, complaint) {
	n = target(n)
	const what = "a duration"
	switch {
	case n.Kind != yaml.ScalarNode || isNull(n):
		return 0, expected(what, n, "")
	case realNumber.MatchString(n.Value):
		return 0, expected(what, n, `write "`+clip(n.Value)+`s" for seconds`)
	case !isText(n):
		return 0, expected(what, n, `write it as "10s" or "500ms"`)
	}
	v, err := time.ParseDuration(n.Value)
	if err != nil {
		return 0, expected(what, n, durationHint(n.Value))
	}
	if v == 0 && strings.ContainsAny(n.Value, "123456789") {
		return 0, complaint{quoted(n.Value) + " is too short to be represented", "the shortest duration is 1ns"}
	}
	return v, complaint{}
}

func durationHint(s string) string {
	joined := strings.Join(strings.Fields(s), "")
	if _, err := time.ParseDuration(joined); err == nil && joined != s {
		return "write " + quoted(joined)
	}
	if strings.ContainsAny(s, "0123456789") && strings.Trim(s, " -+.0123456789hmnsuµ") == "" {
		return "durations reach from -292 to 292 years and have a number before each unit of ns, us, ms, s, m, h"
	}
	return "units are ns, us, ms, s, m, h"
}

func bytesValue(n *yaml.Node) ([]byte, complaint) {
	s, bad := textValue(n)
	if bad != (complaint{}) {
		return nil, bad
	}
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, complaint{"expected base64, found " + quoted(s), err.Error()}
	}
	return b, complaint{}
}

// enumValue reads the name of an enum's value. Numbers, which protobuf's JSON would take, say nothing to
// the reader of a document and are refused.
func enumValue(n *yaml.Node, enum protoreflect.EnumDescriptor) (protoreflect.EnumNumber, complaint) {
	n = target(n)
	values := enum.Values()
	if isText(n) {
		if v := values.ByName(protoreflect.Name(n.Value)); v != nil {
			return v.Number(), complaint{}
		}
	}
	names := make([]string, values.Len())
	for i := range names {
		names[i] = string(values.Get(i).Name())
	}
	if n.Kind != yaml.ScalarNode || isNull(n) {
		return 0, expected("a name", n, oneOf("", names))
	}
	return 0, complaint{"unknown value " + describe(n), oneOf(n.Value, names)}
}
