package call_test

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/call"
)

func regex(t *testing.T, expr string) call.StringMatch {
	t.Helper()
	m, err := call.Regex(expr)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestStringMatch(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		match   call.StringMatch
		yes, no []string
	}{
		"zero value":     {call.StringMatch{}, []string{"", "x"}, nil},
		"present":        {call.Present(), []string{"", "x"}, nil},
		"exact":          {call.Exact("/foo"), []string{"/foo"}, []string{"", "/fo", "/foo/", "/FOO", "/foo\n"}},
		"exact empty":    {call.Exact(""), []string{""}, []string{"x", "\x00"}},
		"exact literal":  {call.Exact("a.b"), []string{"a.b"}, []string{"axb"}},
		"prefix":         {call.Prefix("/foo"), []string{"/foo", "/foobar", "/foo/bar"}, []string{"", "/fo", "/Foo", "x/foo"}},
		"prefix empty":   {call.Prefix(""), []string{"", "x"}, nil},
		"exact folded":   {call.Exact("/Foo").IgnoringCase(), []string{"/foo", "/FOO", "/fOo"}, []string{"/fooo", "/fo", "ofoo"}},
		"prefix folded":  {call.Prefix("/Foo").IgnoringCase(), []string{"/foo", "/FOObar"}, []string{"/fo", "/bar"}},
		"fold of signs":  {call.Exact("@[`{-\r").IgnoringCase(), []string{"@[`{-\r"}, []string{"`[`{-\r", "@{`{-\r", "@[`[-\r", "@[`{\r\r", "@[`{--"}},
		"fold is ASCII":  {call.Exact("Éks").IgnoringCase(), []string{"ÉKS", "Éks"}, []string{"éks", "ÉKſ", "É\u212as"}},
		"present folded": {call.Present().IgnoringCase(), []string{"", "x"}, nil},
		"regex":          {regex(t, "/v[12]/.*"), []string{"/v1/", "/v2/x"}, []string{"x/v1/", "/v3/", "/v1"}},
		"regex is whole": {regex(t, "a|ab"), []string{"a", "ab"}, []string{"abc", "xa", "b", ""}},
		"regex lines":    {regex(t, "(?m)^a$"), []string{"a"}, []string{"a\nb", "b\na", "a\n"}},
		"regex dot":      {regex(t, "a.b"), []string{"a-b", "aéb"}, []string{"a\nb", "ab"}},
		"regex raw byte": {regex(t, "a.*b"), []string{"a\xff\xfeb"}, nil},
		"regex own fold": {regex(t, "(?i)abc"), []string{"ABC", "abc"}, []string{"abd"}},
		"regex no fold":  {regex(t, "abc").IgnoringCase(), []string{"abc"}, []string{"ABC"}},
		"regex anchors":  {regex(t, "^abc$"), []string{"abc"}, []string{"xabc", "abc\n"}},
		"regex comment":  {regex(t, `\Qa.b`), []string{"a.b"}, []string{"axb", "a.b)", `a.b)\z`}},
		"regex quoted":   {regex(t, `\Qa|b\E|c`), []string{"a|b", "c"}, []string{"a", "b", "ac"}},
		"regex greedy":   {regex(t, "(a*)*"), []string{"", "aaaa", strings.Repeat("a", 10_000)}, []string{strings.Repeat("a", 10_000) + "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, s := range c.yes {
				if !c.match.Match(s) {
					t.Errorf("%v does not match %q", &c.match, s)
				}
			}
			for _, s := range c.no {
				if c.match.Match(s) {
					t.Errorf("%v matches %q", &c.match, s)
				}
			}
		})
	}
}

func TestStringMatchDescribesItself(t *testing.T) {
	t.Parallel()
	for want, m := range map[string]call.StringMatch{
		`present`:                   call.Present(),
		`exact "a\"b"`:              call.Exact(`a"b`),
		`prefix "/x" ignoring case`: call.Prefix("/x").IgnoringCase(),
		`regex "a.*"`:               regex(t, "a.*"),
	} {
		if got := m.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	m := call.Prefix("/x").IgnoringCase()
	if m.Kind() != call.MatchPrefix || m.Text() != "/x" || !m.Folds() {
		t.Errorf("kind %v, text %q, folds %v", m.Kind(), m.Text(), m.Folds())
	}
	if plain := call.Prefix("/x"); plain.Folds() {
		t.Error("folds unasked")
	}
}

func TestMatchAllocatesNothing(t *testing.T) {
	matches := []call.StringMatch{
		call.Present(), call.Exact("/reviews/1"), call.Prefix("/REV").IgnoringCase(), regex(t, "/reviews/[0-9]+"),
	}
	n := testing.AllocsPerRun(100, func() {
		for i := range matches {
			if !matches[i].Match("/reviews/1") {
				t.Error("no match")
			}
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzStringMatch(f *testing.F) {
	for _, s := range [][2]string{
		{"", ""}, {"/foo", "/foobar"}, {"a)(b", "ab"}, {`\Qa`, "a"}, {"(?i)a|B", "b"}, {"(x{1000}){1000}", "x"},
		{"^a$", "a\n"}, {"a|ab", "ab"}, {"[a-", "a"}, {`a\`, "a"}, {"\xff", "\xff"}, {`\ba\b`, "a"}, {"(?s).", "\n"},
		{`\Q\`, `\`}, {`\\Q`, `\Q`}, {`\Qa\E\Qb`, "ab"}, {"(?U)a+", "aa"},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, text, s string) {
		exact, prefix := call.Exact(text), call.Prefix(text)
		if got := exact.Match(s); got != (s == text) {
			t.Fatalf("exact %q on %q: %v", text, s, got)
		}
		if got := prefix.Match(s); got != strings.HasPrefix(s, text) {
			t.Fatalf("prefix %q on %q: %v", text, s, got)
		}
		foldedExact, foldedPrefix := exact.IgnoringCase(), prefix.IgnoringCase()
		lowText, low := lowerASCII(text), lowerASCII(s)
		if got := foldedExact.Match(s); got != (low == lowText) {
			t.Fatalf("exact %q ignoring case on %q: %v", text, s, got)
		}
		if got := foldedPrefix.Match(s); got != strings.HasPrefix(low, lowText) {
			t.Fatalf("prefix %q ignoring case on %q: %v", text, s, got)
		}
		m, err := call.Regex(text)
		if err != nil {
			var re *call.RegexError
			if !errors.As(err, &re) || re.Offset < 0 || re.Offset > len(text) {
				t.Fatalf("regex %q: the error does not fit: %#v", text, err)
			}
			return
		}
		// A whole match is a leftmost-longest one that spans the value.
		re := regexp.MustCompile(text)
		re.Longest()
		at := re.FindStringIndex(s)
		if got, want := m.Match(s), at != nil && at[0] == 0 && at[1] == len(s); got != want {
			t.Fatalf("regex %q on %q: %v, want %v", text, s, got, want)
		}
	})
}

func lowerASCII(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
