package call_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/call"
)

// TestRegexRefuses is attacks.md row A-025: refused, with the offset.
func TestRegexRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		expr   string
		offset int
	}{
		"empty":               {"", 0},
		"one byte too long":   {strings.Repeat("a", call.MaxRegex+1), call.MaxRegex},
		"not closed":          {"ab(c", 0},
		"not opened":          {"ab)c", 2},
		"closed and reopened": {"a)(b", 1},
		"lookahead":           {"ab(?=c)", 2},
		"lookbehind":          {"(?<=a)b", 0},
		"back reference":      {`(a)\1`, 3},
		"repeated repeat":     {"(x{1000}){1000}", 9},
		"deeply repeated":     {"((x{10}){10}){100}", 13},
		"large repeat":        {"x{1001}", 1},
		"repeat backwards":    {"ax{2,1}", 2},
		"nested repeat":       {"a*b**", 3},
		"second of two":       {"(a*)|*", 5},
		"nothing to repeat":   {"a(|+)", 3},
		"class not closed":    {"[a][b-", 3},
		"range backwards":     {"[a-z][z-a]", 6},
		"trailing backslash":  {`ab\`, 2},
		"invalid UTF-8":       {"ab\xffc", 2},
		"unknown class":       {`a\pZz\pY`, 5},
		"group cut short":     {"ab(?P<n", 2},
		"just too large":      {strings.Repeat("x{1000}", 4) + strings.Repeat("y", 97), 0},
		"large program":       {".*" + strings.Repeat(".{0,1000}", 100), 0},
		"large by nesting":    {"((abc){10,20}){5,50}x{900}", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := call.Regex(c.expr)
			var re *call.RegexError
			if !errors.As(err, &re) {
				t.Fatalf("Regex(%q): %v, want a RegexError", c.expr, err)
			}
			if re.Offset != c.offset || re.Expr != c.expr || re.Reason == "" {
				t.Errorf("offset %d, want %d: %v", re.Offset, c.offset, err)
			}
			if len(err.Error()) > 500 {
				t.Errorf("the message has %d bytes", len(err.Error()))
			}
		})
	}
}

// TestRegexAccepts: the limits leave room for what people write.
func TestRegexAccepts(t *testing.T) {
	t.Parallel()
	for _, expr := range []string{
		"/api/v[0-9]{1,3}/users/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(/.*)?",
		"/(?:[^/]{1,255}/){0,3}[^/]{1,255}", "x{1000}x{1000}x{1000}x{1000}", ".{0,1000}a.{0,1000}", ".{1,512}/{1,512}a*b+c?", "(a{10}){100}",
		strings.Repeat("(", 500) + strings.Repeat(")", 500), strings.Repeat("[a-z]", 200),
	} {
		if _, err := call.Regex(expr); err != nil {
			t.Error(err)
		}
	}
}

func TestRegexOfMaximalLength(t *testing.T) {
	t.Parallel()
	m := regex(t, strings.Repeat("a", call.MaxRegex))
	if !m.Match(strings.Repeat("a", call.MaxRegex)) {
		t.Error("does not match what it says")
	}
}
