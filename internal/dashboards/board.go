package dashboards

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A Board is a dashboard as Grafana stores it: what of it asks for metrics, and where that stands.
type Board struct {
	UID        string `json:"uid"`
	Title      string `json:"title"`
	Templating struct {
		List []Variable `json:"list"`
	} `json:"templating"`
	Panels []Panel `json:"panels"`
}

// A Variable is what people choose at the head of a dashboard.
type Variable struct {
	Name     string          `json:"name"`
	Type     string          `json:"type"` // "datasource", "custom", "query"
	Query    json.RawMessage `json:"query"`
	AllValue string          `json:"allValue"`
	Multi    bool            `json:"multi"`
}

// A Panel is one graph, table or number.
type Panel struct {
	ID      int      `json:"id"`
	Type    string   `json:"type"`
	Title   string   `json:"title"`
	GridPos Place    `json:"gridPos"`
	Targets []Target `json:"targets"`
}

// A Place is where a panel is, in a grid 24 wide.
type Place struct{ X, Y, W, H int }

// A Target is one of a panel's queries.
type Target struct {
	Expr         string `json:"expr"`
	LegendFormat string `json:"legendFormat"`
	Datasource   struct {
		Type, UID string
	} `json:"datasource"`
}

// Read reads a dashboard of schema 38. Its error is that of the JSON.
func Read(text []byte) (*Board, error) {
	b := new(Board)
	d := json.NewDecoder(bytes.NewReader(text))
	if err := d.Decode(b); err != nil {
		return nil, fmt.Errorf("read dashboard: %w", err)
	}
	return b, nil
}

// Values is the query that gives a variable of type "query" its values: those of a label, in the series of a selector.
func (v *Variable) Values() (selector, label string, err error) {
	var q struct{ Query string }
	if err := json.Unmarshal(v.Query, &q); err != nil {
		return "", "", fmt.Errorf("read variable %s: %w", v.Name, err)
	}
	inside, ok := strings.CutPrefix(q.Query, "label_values(")
	inside, closed := strings.CutSuffix(inside, ")")
	at := strings.LastIndex(inside, ",")
	if !ok || !closed || at < 0 {
		return "", "", fmt.Errorf("read variable %s: expected label_values(selector, label), found %s", v.Name, q.Query)
	}
	return strings.TrimSpace(inside[:at]), strings.TrimSpace(inside[at+1:]), nil
}

var reference = regexp.MustCompile(`\$(\w+)|\$\{(\w+)\}`)

// Expand puts values in the place of variables, $name and ${name}. Several values become an expression that matches each of them, as
// Grafana's source for Prometheus makes it. A variable without a value is an error.
func Expand(expr string, values map[string][]string) (string, error) {
	var missing []string
	out := reference.ReplaceAllStringFunc(expr, func(ref string) string {
		name := strings.Trim(ref, "${}")
		all, ok := values[name]
		switch {
		case !ok || len(all) == 0:
			missing = append(missing, name)
			return ref
		case len(all) == 1:
			return all[0]
		}
		return "(" + strings.Join(all, "|") + ")"
	})
	if len(missing) > 0 {
		slices.Sort(missing)
		return "", fmt.Errorf("expand %q: no value of %s", expr, strings.Join(slices.Compact(missing), ", "))
	}
	return out, nil
}

// Escape makes of a value what matches it in PromQL: a text within an expression within quotes.
func Escape(value string) string {
	return strings.ReplaceAll(regexp.QuoteMeta(value), `\`, `\\`)
}
