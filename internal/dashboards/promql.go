package dashboards

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// A Selector is what a query picks series by.
type Selector struct {
	Metric string
	Labels []string // that have matchers
}

// A Query is what a text of PromQL asks for.
type Query struct {
	Selectors []Selector
	Grouping  []string // labels of by, without, on, ignoring, group_left and group_right
}

// grouping are the keywords that labels follow in parentheses, operators those that stand between operands.
var (
	grouping  = []string{"by", "without", "on", "ignoring", "group_left", "group_right"}
	operators = []string{"and", "or", "unless", "bool", "offset", "inf", "nan"}
)

// aggregated follows an aggregation that says its labels first.
var aggregated = regexp.MustCompile(`^(by|without)\s*\(`)

// Parse reads a query (Prometheus, Querying basics). Its errors say what was found, and where.
func Parse(expr string) (Query, error) {
	p := parser{rest: expr, whole: expr}
	err := p.run()
	return p.query, err
}

type parser struct {
	whole, rest string
	open        []byte   // brackets
	names       []string // of metrics, of the last matcher of __name__
	query       Query
}

func (p *parser) fail(format string, args ...any) error {
	return fmt.Errorf("%s at column %d of %q", fmt.Sprintf(format, args...), len(p.whole)-len(p.rest)+1, p.whole)
}

func (p *parser) run() error {
	for p.space(); p.rest != ""; p.space() {
		switch c := p.rest[0]; {
		case c == '"' || c == '\'':
			if _, err := p.text(); err != nil {
				return err
			}
		case letter(c):
			if err := p.word(); err != nil {
				return err
			}
		case c == '{':
			if err := p.unnamed(); err != nil {
				return err
			}
		case strings.IndexByte("([", c) >= 0:
			p.open = append(p.open, c)
			p.rest = p.rest[1:]
		case strings.IndexByte(")]", c) >= 0:
			if n := len(p.open); n == 0 || p.open[n-1] != map[byte]byte{')': '(', ']': '['}[c] {
				return p.fail("a bracket that nothing opened")
			}
			p.open = p.open[:len(p.open)-1]
			p.rest = p.rest[1:]
		case digit(c):
			p.take(func(c byte) bool { return letter(c) || digit(c) || c == '.' })
		case strings.IndexByte("+-*/%^=!<>~,:@ ", c) >= 0:
			p.rest = p.rest[1:]
		default:
			return p.fail("%q", c)
		}
	}
	if len(p.open) > 0 {
		return p.fail("a bracket that nothing closes")
	}
	if len(p.query.Selectors) == 0 {
		return p.fail("no metric")
	}
	return nil
}

// word takes a function, a keyword with its labels, or a selector.
func (p *parser) word() error {
	name := p.take(func(c byte) bool { return letter(c) || digit(c) || c == ':' })
	p.space()
	switch {
	case slices.Contains(grouping, name):
		labels, err := p.list('(', ')', func() (string, error) { return p.name() })
		p.query.Grouping = append(p.query.Grouping, labels...)
		return err
	case slices.Contains(operators, strings.ToLower(name)), strings.HasPrefix(p.rest, "("), aggregated.MatchString(p.rest):
		return nil
	}
	s := Selector{Metric: name}
	if strings.HasPrefix(p.rest, "{") {
		var err error
		if s.Labels, err = p.list('{', '}', p.matcher); err != nil {
			return err
		}
	}
	p.query.Selectors = append(p.query.Selectors, s)
	return nil
}

// unnamed takes a selector that names its metrics in a matcher, with '|' between them.
func (p *parser) unnamed() error {
	p.names = nil
	labels, err := p.list('{', '}', p.matcher)
	if err != nil {
		return err
	}
	if len(p.names) == 0 {
		return p.fail("a selector without a metric")
	}
	labels = slices.DeleteFunc(labels, func(label string) bool { return label == metricName })
	for _, name := range p.names {
		p.query.Selectors = append(p.query.Selectors, Selector{Metric: name, Labels: labels})
	}
	return nil
}

// metricName is the label that a metric's name is (Prometheus, Querying basics).
const metricName = "__name__"

// list takes items between brackets, with commas.
func (p *parser) list(begin, end byte, item func() (string, error)) ([]string, error) {
	if p.rest == "" || p.rest[0] != begin {
		return nil, p.fail("expected %q", begin)
	}
	p.rest = p.rest[1:]
	var all []string
	for {
		p.space()
		if p.rest != "" && p.rest[0] == end {
			p.rest = p.rest[1:]
			return all, nil
		}
		one, err := item()
		if err != nil {
			return nil, err
		}
		all = append(all, one)
		p.space()
		switch {
		case strings.HasPrefix(p.rest, ","):
			p.rest = p.rest[1:]
		case p.rest == "" || p.rest[0] != end:
			return nil, p.fail("expected a comma or %q", end)
		}
	}
}

func (p *parser) name() (string, error) {
	name := p.take(func(c byte) bool { return letter(c) || digit(c) })
	if name == "" || digit(name[0]) {
		return "", p.fail("expected the name of a label")
	}
	return name, nil
}

func (p *parser) matcher() (string, error) {
	name, err := p.name()
	if err != nil {
		return "", err
	}
	p.space()
	for _, operator := range []string{"=~", "!~", "!=", "="} {
		if rest, ok := strings.CutPrefix(p.rest, operator); ok {
			p.rest = rest
			p.space()
			quoted, err := p.text()
			if value, _ := strconv.Unquote(quoted); name == metricName && err == nil && operator[0] == '=' {
				p.names = strings.Split(value, "|")
			}
			return name, err
		}
	}
	return "", p.fail("expected a matcher of %s", name)
}

// text takes a text in quotes.
func (p *parser) text() (string, error) {
	quoted, err := strconv.QuotedPrefix(p.rest)
	if err != nil || quoted[0] == '\'' {
		return "", p.fail("expected a text in quotes")
	}
	p.rest = p.rest[len(quoted):]
	return quoted, nil
}

func (p *parser) space() { p.rest = strings.TrimLeft(p.rest, " \t\n") }

func (p *parser) take(part func(byte) bool) string {
	n := 0
	for n < len(p.rest) && part(p.rest[n]) {
		n++
	}
	taken := p.rest[:n]
	p.rest = p.rest[n:]
	return taken
}

func letter(c byte) bool { return c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' }
func digit(c byte) bool  { return '0' <= c && c <= '9' }
