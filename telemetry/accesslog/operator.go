package accesslog

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/heddlemesh/mesh/call"
)

// An operator is one of Envoy's command operators: %NAME(ARGUMENT):LENGTH%. It is immutable.
type operator struct {
	name  string
	field *field // of REQ, RESP and TRAILER
	other *field // what is taken where there is no such field, nil for none
	most  int    // bytes of it, 0 for all
	clock []clockPart
	fixed string
	give  func(op *operator, e *Entry) value
}

// A field is one of a header, or one of those that begin with a colon.
type field struct {
	pseudo string
	name   *call.Name
}

func (op *operator) equal(o *operator) bool {
	return op.name == o.name && op.field.equal(o.field) && op.other.equal(o.other) && op.most == o.most && op.fixed == o.fixed &&
		slices.Equal(op.clock, o.clock)
}

func (f *field) equal(o *field) bool {
	if f == nil || o == nil {
		return f == o
	}
	return f.pseudo == o.pseudo && (f.name == nil) == (o.name == nil) && (f.name == nil || f.name.Lower() == o.name.Lower())
}

func (op *operator) of(e *Entry) value {
	v := op.give(op, e)
	v.most = op.most
	return v
}

// A FormatError says which command operator of a format is none.
type FormatError struct {
	Operator string // as it is written, with its percent signs as far as there are any
	Offset   int    // where it begins, in bytes
	Problem  string
	Hint     string // what would be right, "" for nothing to say
}

func (e *FormatError) Error() string {
	s := fmt.Sprintf("%s at byte %d %s", e.Operator, e.Offset+1, e.Problem)
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// scan takes a format apart. It gives texts, and operators where those are not nil.
func scan(s string, found func(literal string, op *operator)) error {
	for at := 0; at < len(s); {
		i := strings.IndexByte(s[at:], '%')
		if i < 0 {
			found(s[at:], nil)
			return nil
		}
		if i > 0 {
			found(s[at:at+i], nil)
		}
		at += i
		if strings.HasPrefix(s[at:], "%%") {
			found("%", nil)
			at += 2
			continue
		}
		n := operatorEnd(s[at:])
		if n < 0 {
			return &FormatError{Operator: s[at:min(len(s), at+40)], Offset: at, Problem: "has no end", Hint: "write %% for a percent sign"}
		}
		op, err := parseOperator(s[at+1 : at+n])
		if err != nil {
			return &FormatError{Operator: s[at : at+n+1], Offset: at, Problem: err.Error(), Hint: hintFor(err)}
		}
		found("", op)
		at += n + 1
	}
	return nil
}

// operatorEnd gives where the second percent sign of an operator stands; those in parentheses are no end.
func operatorEnd(s string) int {
	depth := 0
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '(':
			depth++
		case ')':
			depth--
		case '%':
			if depth <= 0 {
				return i
			}
		case '\n':
			return -1
		}
	}
	return -1
}

var errUnknown = errors.New("is no operator of the mesh's")

func hintFor(err error) string {
	if errors.Is(err, errUnknown) {
		return "there are " + strings.Join(Operators(), ", ")
	}
	return ""
}

func parseOperator(s string) (*operator, error) {
	op := &operator{name: s}
	argument, given := "", false
	if i := strings.IndexByte(s, '('); i >= 0 {
		end := strings.LastIndexByte(s, ')')
		if end < i {
			return nil, errors.New("has a parenthesis that nothing closes")
		}
		op.name, argument, given = s[:i], s[i+1:end], true
		s = s[end+1:]
	} else {
		op.name, _, _ = strings.Cut(s, ":")
		s = s[len(op.name):]
	}
	known, ok := operators[op.name]
	if !ok {
		return nil, errUnknown
	}
	if s != "" {
		n, err := strconv.Atoi(strings.TrimPrefix(s, ":"))
		if err != nil || n <= 0 || s[0] != ':' {
			return nil, fmt.Errorf("has %q in the place of a length", s)
		}
		op.most = n
	}
	op.give = known.give
	if known.argument == nil {
		if given {
			return nil, errors.New("has an argument, and takes none")
		}
		return op, nil
	}
	if err := known.argument(op, argument, given); err != nil {
		return nil, err
	}
	return op, nil
}

// headerArgument reads X?Y of %REQ(X?Y)%.
func headerArgument(pseudo ...string) func(*operator, string, bool) error {
	return func(op *operator, s string, _ bool) error {
		first, second, two := strings.Cut(s, "?")
		var err error
		if op.field, err = fieldOf(first, pseudo); err == nil && two {
			op.other, err = fieldOf(second, pseudo)
		}
		return err
	}
}

func fieldOf(s string, pseudo []string) (*field, error) {
	lower := strings.ToLower(s)
	if strings.HasPrefix(lower, ":") {
		if !slices.Contains(pseudo, lower) {
			return nil, fmt.Errorf("names %q, and there are %s", s, strings.Join(pseudo, ", "))
		}
		return &field{pseudo: lower}, nil
	}
	if s == "" || strings.ContainsFunc(s, func(r rune) bool {
		return !(r == '-' || r == '_' || r == '.' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9')
	}) {
		return nil, fmt.Errorf("names %q, which is no field of a header", s)
	}
	return &field{name: call.NewName(s)}, nil
}

// oneOf reads an argument that is one of a few words, the first of which is meant where there is none.
func oneOf(words ...string) func(*operator, string, bool) error {
	return func(op *operator, s string, given bool) error {
		if op.fixed = words[0]; !given {
			return nil
		}
		if !slices.Contains(words, s) {
			return fmt.Errorf("takes one of %s", strings.Join(words, ", "))
		}
		op.fixed = s
		return nil
	}
}

// timeArgument reads strftime's directives.
func timeArgument(op *operator, s string, given bool) (err error) {
	if !given || s == "" {
		op.clock = defaultClock
		return nil
	}
	op.fixed = s
	op.clock, err = parseClock(s)
	return err
}

func hostnameArgument(op *operator, _ string, given bool) (err error) {
	if given {
		return errors.New("has an argument, and takes none")
	}
	op.fixed, err = os.Hostname()
	return err
}
