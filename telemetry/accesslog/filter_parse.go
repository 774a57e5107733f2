package accesslog

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/heddlemesh/mesh/call"
)

// A FilterError says where an expression is none that the mesh evaluates, and why.
type FilterError struct {
	Line, Column int // in the expression, from 1; the column in bytes
	Problem      string
}

func (e *FilterError) Error() string {
	return fmt.Sprintf("%s, at line %d, column %d of the expression", e.Problem, e.Line, e.Column)
}

// Supported says what a filter can be made of.
func Supported() string {
	return "attributes, texts, numbers, true, false, [lists] and duration('1s') can be compared by == != < <= > >= and in, joined by && || ! " +
		"and parentheses, and tested by has(), .startsWith(), .endsWith(), .contains() and .matches(); attributes are " +
		strings.Join(slices.Sorted(maps.Keys(attributes)), ", ") + ", request.headers['name'] and response.headers['name']"
}

const (
	longestFilter = 4096 // bytes
	deepestFilter = 64   // parentheses and operators that stand in each other
)

// ParseFilter reads an expression. Its error is a *FilterError.
func ParseFilter(s string) (*Filter, error) {
	p := &parser{rest: s, all: s}
	root, err := p.parse()
	if err != nil {
		at := len(s) - len(p.rest)
		if p.failed >= 0 {
			at = p.failed
		}
		before := s[:min(at, len(s))]
		line := strings.Count(before, "\n")
		return nil, &FilterError{Line: line + 1, Column: len(before) - strings.LastIndexByte(before, '\n'), Problem: err.Error()}
	}
	return &Filter{text: s, root: root, answer: p.answer}, nil
}

type parser struct {
	all, rest string
	failed    int // where the error is, below 0 for where the rest begins
	answer    bool
	depth     int
}

func (p *parser) parse() (node, error) {
	p.failed = -1
	switch {
	case len(p.all) > longestFilter:
		return nil, fmt.Errorf("an expression has %d bytes at most", longestFilter)
	case !utf8.ValidString(p.all):
		return nil, fmt.Errorf("the expression is no UTF-8")
	}
	n, err := p.or()
	if err != nil {
		return nil, err
	}
	p.space()
	if p.rest != "" {
		return nil, fmt.Errorf("%s is not supported here", p.word())
	}
	if n.kind() != isBool {
		p.failed = 0
		return nil, fmt.Errorf("the expression is %s, not true or false", n.kind())
	}
	return n, nil
}

func (p *parser) space() { p.rest = strings.TrimLeft(p.rest, " \t\r\n") }

// word gives what stands next, for people.
func (p *parser) word() string {
	s := p.rest
	if s == "" {
		return "the end"
	}
	n := 0
	for n < len(s) && n < 40 && isWord(s[n]) {
		n++
	}
	if n == 0 {
		_, n = utf8.DecodeRuneInString(s)
	}
	return strconv.Quote(s[:n])
}

func isWord(c byte) bool {
	return c == '_' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func (p *parser) take(s string) bool {
	p.space()
	rest, ok := strings.CutPrefix(p.rest, s)
	if ok {
		p.rest = rest
	}
	return ok
}

func (p *parser) at() int { return len(p.all) - len(p.rest) }

func (p *parser) fail(at int, format string, args ...any) error {
	p.failed = at
	return fmt.Errorf(format, args...)
}

func (p *parser) or() (node, error)  { return p.joined("||", true, p.and) }
func (p *parser) and() (node, error) { return p.joined("&&", false, p.relation) }

func (p *parser) joined(op string, decides bool, operand func() (node, error)) (node, error) {
	p.space()
	at := p.at()
	x, err := operand()
	for err == nil && p.take(op) {
		if x.kind() != isBool {
			return nil, p.fail(at, "%s joins true and false, not %s", op, x.kind())
		}
		p.space()
		right := p.at()
		var y node
		if y, err = operand(); err == nil && y.kind() != isBool {
			return nil, p.fail(right, "%s joins true and false, not %s", op, y.kind())
		}
		if err == nil {
			x = junction{x, y, decides}
		}
	}
	return x, err
}

func (p *parser) relation() (node, error) {
	x, err := p.unary()
	if err != nil {
		return nil, err
	}
	p.space()
	at := p.at()
	for _, op := range []string{"==", "!=", "<=", ">=", "<", ">"} {
		if !p.take(op) {
			continue
		}
		y, err := p.unary()
		switch {
		case err != nil:
			return nil, err
		case x.kind() != y.kind() || x.kind() == isList:
			return nil, p.fail(at, "%s compares %s with %s", op, x.kind(), y.kind())
		case x.kind() == isBool && op != "==" && op != "!=":
			return nil, p.fail(at, "%s has no meaning between truth values", op)
		}
		return comparison{x, y, op}, nil
	}
	if !strings.HasPrefix(p.rest, "in") || len(p.rest) > 2 && isWord(p.rest[2]) {
		return x, nil
	}
	p.take("in")
	y, err := p.unary()
	if err != nil {
		return nil, err
	}
	all, ok := y.(list)
	switch {
	case !ok:
		return nil, p.fail(at, "in looks into a list, not into %s", y.kind())
	case slices.ContainsFunc(all, func(r result) bool { return r.is != x.kind() }):
		return nil, p.fail(at, "in looks for %s in a list of others", x.kind())
	}
	return membership{x, all}, nil
}

func (p *parser) unary() (node, error) {
	if p.depth++; p.depth > deepestFilter {
		return nil, fmt.Errorf("more than %d operations stand in each other", deepestFilter)
	}
	defer func() { p.depth-- }()
	p.space()
	at := p.at()
	if !strings.HasPrefix(p.rest, "!=") && p.take("!") {
		x, err := p.unary()
		if err == nil && x.kind() != isBool {
			err = p.fail(at, "! turns true and false around, not %s", x.kind())
		}
		return not{x}, err
	}
	x, err := p.primary()
	for err == nil && p.take(".") {
		x, err = p.method(x)
	}
	return x, err
}

func (p *parser) primary() (node, error) {
	p.space()
	if p.rest == "" {
		return nil, fmt.Errorf("something is missing")
	}
	switch c := p.rest[0]; {
	case c == '(':
		p.take("(")
		x, err := p.or()
		if err == nil && !p.take(")") {
			err = fmt.Errorf("%s stands in the place of )", p.word())
		}
		return x, err
	case c == '[':
		return p.list()
	case c == '\'' || c == '"':
		s, err := p.text()
		return constant{result{is: isText, text: s}}, err
	case '0' <= c && c <= '9' || c == '-':
		return p.number()
	case isWord(c):
		return p.name()
	}
	return nil, fmt.Errorf("%s is not supported here", p.word())
}

func (p *parser) list() (node, error) {
	p.take("[")
	all := list{}
	for !p.take("]") {
		if len(all) > 0 && !p.take(",") {
			return nil, fmt.Errorf("%s stands in the place of a comma", p.word())
		}
		p.space()
		at := p.at()
		x, err := p.primary()
		if err != nil {
			return nil, err
		}
		c, ok := x.(constant)
		if !ok {
			return nil, p.fail(at, "a list has fixed values only")
		}
		all = append(all, c.result)
	}
	return all, nil
}

// text reads a text in quotes.
func (p *parser) text() (string, error) {
	quote := p.rest[0]
	if strings.HasPrefix(p.rest, strings.Repeat(string(quote), 3)) {
		return "", fmt.Errorf("texts in three quotes are not supported")
	}
	var b strings.Builder
	for i := 1; i < len(p.rest); i++ {
		switch c := p.rest[i]; c {
		case quote:
			p.rest = p.rest[i+1:]
			return b.String(), nil
		case '\n':
			return "", fmt.Errorf("a text ends within its line")
		case '\\':
			if i++; i < len(p.rest) {
				plain, ok := map[byte]byte{'\\': '\\', '\'': '\'', '"': '"', 'n': '\n', 't': '\t', 'r': '\r'}[p.rest[i]]
				if !ok {
					return "", p.fail(p.at()+i-1, `the escape \%c is not supported`, p.rest[i])
				}
				b.WriteByte(plain)
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", fmt.Errorf("a text has no end")
}

func (p *parser) number() (node, error) {
	n := 1
	for n < len(p.rest) && (isWord(p.rest[n]) || p.rest[n] == '.') {
		n++
	}
	v, err := strconv.ParseFloat(strings.TrimSuffix(p.rest[:n], "u"), 64)
	if err != nil || strings.ContainsAny(p.rest[:n], "xXpP_") {
		return nil, fmt.Errorf("%q is no number", p.rest[:n])
	}
	p.rest = p.rest[n:]
	return constant{result{is: isNumber, n: v}}, nil
}

// name reads an attribute, true and false, or a function.
func (p *parser) name() (node, error) {
	at := p.at()
	n := 0
	for n < len(p.rest) && (isWord(p.rest[n]) || p.rest[n] == '.' && n+1 < len(p.rest) && isWord(p.rest[n+1])) {
		n++
	}
	word, whole := p.rest[:n], p.rest
	p.rest = p.rest[n:]
	switch word {
	case "true", "false":
		return constant{result{is: isBool, yes: word == "true"}}, nil
	case "has":
		return p.has()
	case "duration":
		return p.duration()
	case "request.headers", "response.headers":
		return p.field(word, at)
	}
	if a, ok := attributes[word]; ok {
		return &a, nil
	}
	if attr, _, ok := cutLast(word); ok {
		if a, known := attributes[attr]; known { // of which a method is asked
			p.rest = whole[len(attr):]
			return &a, nil
		}
	}
	return nil, p.fail(at, "%q is no attribute or function that is supported", word)
}

func cutLast(s string) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, '.')
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

func (p *parser) has() (node, error) {
	if !p.take("(") {
		return nil, fmt.Errorf("%s stands in the place of (", p.word())
	}
	p.space()
	at := p.at()
	x, err := p.primary()
	if err != nil {
		return nil, err
	}
	if _, ok := x.(*attribute); !ok {
		return nil, p.fail(at, "has() asks for an attribute")
	}
	if !p.take(")") {
		return nil, fmt.Errorf("%s stands in the place of )", p.word())
	}
	return has{x}, nil
}

func (p *parser) argument() (string, error) {
	if !p.take("(") {
		return "", fmt.Errorf("%s stands in the place of (", p.word())
	}
	p.space()
	if p.rest == "" || p.rest[0] != '\'' && p.rest[0] != '"' {
		return "", fmt.Errorf("the argument is a text in quotes")
	}
	s, err := p.text()
	if err == nil && !p.take(")") {
		err = fmt.Errorf("%s stands in the place of )", p.word())
	}
	return s, err
}

func (p *parser) duration() (node, error) {
	at := p.at()
	s, err := p.argument()
	if err != nil {
		return nil, err
	}
	v, err := durationOf(s)
	if err != nil {
		return nil, p.fail(at, "%w", err)
	}
	return constant{v}, nil
}

func (p *parser) field(of string, at int) (node, error) {
	if !p.take("[") {
		return nil, p.fail(at, "%s is a map: write %s['name']", of, of)
	}
	p.space()
	if p.rest == "" || p.rest[0] != '\'' && p.rest[0] != '"' {
		return nil, fmt.Errorf("the name of a field is a text in quotes")
	}
	s, err := p.text()
	if err != nil {
		return nil, err
	}
	if !p.take("]") {
		return nil, fmt.Errorf("%s stands in the place of ]", p.word())
	}
	p.answer = p.answer || of == "response.headers"
	return fieldAttribute(strings.TrimSuffix(of, ".headers"), s), nil
}

func (p *parser) method(x node) (node, error) {
	at := p.at()
	n := 0
	for n < len(p.rest) && isWord(p.rest[n]) {
		n++
	}
	name := p.rest[:n]
	var test func(arg string) (func(string) bool, error)
	switch name {
	case "startsWith":
		test = func(arg string) (func(string) bool, error) {
			return func(s string) bool { return strings.HasPrefix(s, arg) }, nil
		}
	case "endsWith":
		test = func(arg string) (func(string) bool, error) {
			return func(s string) bool { return strings.HasSuffix(s, arg) }, nil
		}
	case "contains":
		test = func(arg string) (func(string) bool, error) {
			return func(s string) bool { return strings.Contains(s, arg) }, nil
		}
	case "matches":
		test = func(arg string) (func(string) bool, error) {
			if _, err := call.Regex(arg); err != nil { // which bounds it
				return nil, err
			}
			re, err := regexp.Compile(arg)
			if err != nil {
				return nil, fmt.Errorf("%q is no regular expression: %w", arg, err)
			}
			return re.MatchString, nil
		}
	default:
		return nil, p.fail(at, "%q is no attribute or function that is supported", name)
	}
	if x.kind() != isText {
		return nil, p.fail(at, "%s() is a function of texts, not of %s", name, x.kind())
	}
	p.rest = p.rest[n:]
	arg, err := p.argument()
	if err != nil {
		return nil, err
	}
	matches, err := test(arg)
	if err != nil {
		return nil, p.fail(at, "%w", err)
	}
	return method{x, matches}, nil
}
