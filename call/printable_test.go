package call

import "testing"

func TestPrintable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                    "",
		"reviews v2, ü":       "reviews v2, ü",
		"x\nverdict \x1b[31m": `x\nverdict \x1b[31m`,
		"\u202egnp.yaml":      `\u202egnp.yaml`,
		"a\xffb\u009b":        `a\xffb\u009b`,
	} {
		if got := Printable(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}
