package dashboards_test

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/internal/dashboards"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, one := range []struct {
		expr      string
		selectors []dashboards.Selector
		grouping  []string
	}{
		{`up`, []dashboards.Selector{{Metric: "up"}}, nil},
		{`up{job="a", instance!~'b'}`, nil, nil},
		{`sum by (le, x) (rate(a_bucket{y=~"1,2}", z!="\"",}[5m]))`, []dashboards.Selector{{"a_bucket", []string{"y", "z"}}}, []string{"le", "x"}},
		{`sum(a:b:c{} offset 5m) without (d) / on (e) group_left (f) g @ 12.5`, []dashboards.Selector{{Metric: "a:b:c"}, {Metric: "g"}}, []string{"d", "e", "f"}},
		{`(a and b unless c or vector(0)) > bool -1e3`, []dashboards.Selector{{Metric: "a"}, {Metric: "b"}, {Metric: "c"}}, nil},
		{`{__name__=~"a|b", c="d"}`, []dashboards.Selector{{"a", []string{"c"}}, {"b", []string{"c"}}}, nil},
		{`label_join(a, "x", ".", "y")`, []dashboards.Selector{{Metric: "a"}}, nil},
	} {
		q, err := dashboards.Parse(one.expr)
		if one.selectors == nil {
			if err == nil {
				t.Errorf("%s: single quotes are not read, and nothing says so", one.expr)
			}
			continue
		}
		if err != nil || !reflect.DeepEqual(q.Selectors, one.selectors) || !slices.Equal(q.Grouping, one.grouping) {
			t.Errorf("%s: %+v, %v", one.expr, q, err)
		}
	}
	for expr, want := range map[string]string{
		``: "no metric", `1 + 2`: "no metric", `sum(a`: "nothing closes", `a)`: "nothing opened", `a[5m)`: "nothing opened", `{a="b"}`: "without a metric", `{__name__!="a"}`: "without a metric",
		`a{b}`: "a matcher of b", `a{b=c}`: "in quotes", `a{b="c"`: "a comma", `a / on b`: "expected '('", `sum by (1) (a)`: "name of a label", `a{b="c}`: "in quotes", "a # b": `'#'`,
	} {
		if q, err := dashboards.Parse(expr); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, %v, want an error with %q", expr, q, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{`sum by (le) (rate(a{b=~"c"}[5m])) / 2`, `a{`, `"`, `a{b="\"}`, `((`, `a offset 5m`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, expr string) {
		q, err := dashboards.Parse(expr)
		if err == nil && len(q.Selectors) == 0 {
			t.Errorf("%q asks for nothing", expr)
		}
	})
}

func TestExpand(t *testing.T) {
	t.Parallel()
	got, err := dashboards.Expand(`a{b=~"$x", c="${y}"}[$__rate_interval]`, map[string][]string{"x": {"1", "2"}, "y": {dashboards.Escape("d.e")}, "__rate_interval": {"1m"}})
	if want := `a{b=~"(1|2)", c="d\\.e"}[1m]`; got != want || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	if got, err := dashboards.Expand("$b $a $b", map[string][]string{"a": nil}); err == nil || !strings.HasSuffix(err.Error(), "no value of a, b") {
		t.Errorf("%s, %v", got, err)
	}
}
