package call

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"sort"
)

// MaxRegex is the longest regular expression accepted, in bytes, as istiod's validation has it.
const MaxRegex = 1024

// maxProgram bounds what an expression may expand to, in instructions. Each byte of a value can cost as
// many steps, and 1024 bytes of repeats make 200,000: a minute and a half of work on one long path.
const maxProgram = 4096

// Regex matches values that the RE2 expression describes from end to end. It refuses one that is empty,
// longer than MaxRegex or expands, by its repeats, to more than 4096 instructions (Istio's sidecars allow
// 32768). The error of a faulty expression is a *RegexError.
func Regex(expr string) (StringMatch, error) {
	if expr == "" {
		return StringMatch{}, &RegexError{Expr: expr, Reason: "is empty"}
	}
	if len(expr) > MaxRegex {
		return StringMatch{}, &RegexError{Expr: expr, Offset: MaxRegex,
			Reason: fmt.Sprintf("has %d bytes, more than the %d allowed", len(expr), MaxRegex)}
	}
	// Parsed on its own first: "a)(b" is only balanced inside the anchoring group.
	tree, err := syntax.Parse(expr, syntax.Perl)
	if err != nil {
		return StringMatch{}, regexError(expr, err)
	}
	if n := programSize(tree); n > maxProgram {
		return StringMatch{}, &RegexError{Expr: expr,
			Reason: fmt.Sprintf("expands to some %d instructions, more than the %d allowed", n, maxProgram)}
	}
	re, err := regexp.Compile(`\A(?:` + expr + `)\z`)
	if err != nil { // a quotation \Q that is left open runs over the closing parenthesis
		re, err = regexp.Compile(`\A(?:` + expr + `\E)\z`)
	}
	if err != nil {
		return StringMatch{}, regexError(expr, err)
	}
	return StringMatch{kind: MatchRegex, text: expr, re: re}, nil
}

// programSize estimates the instructions an expression compiles to, without expanding it.
func programSize(re *syntax.Regexp) int {
	n := 0
	for _, sub := range re.Sub {
		n += programSize(sub)
	}
	switch {
	case re.Op == syntax.OpConcat:
		return n
	case re.Op == syntax.OpLiteral:
		return len(re.Rune)
	case re.Op == syntax.OpRepeat && re.Max < 0:
		return max(re.Min, 1)*n + 1
	case re.Op == syntax.OpRepeat:
		return re.Max*n + re.Max - re.Min // each copy that may be missing is a choice
	case re.Op == syntax.OpAlternate:
		return n + len(re.Sub) - 1
	}
	return n + 1
}

// A RegexError says where an expression is faulty.
type RegexError struct {
	Expr   string
	Offset int // byte offset in Expr, 0 where unknown
	Reason string
}

func (e *RegexError) Error() string {
	return fmt.Sprintf("regular expression %s, at byte %d: %s", quote(e.Expr), e.Offset, e.Reason)
}

func regexError(expr string, err error) error {
	var se *syntax.Error
	if !errors.As(err, &se) {
		return &RegexError{Expr: expr, Reason: err.Error()}
	}
	return &RegexError{Expr: expr, Offset: faultOffset(expr, se), Reason: se.Code.String() + " " + quote(se.Expr)}
}

// faultOffset finds where the fault is, which package syntax does not say: it ends where the shortest part
// of the expression that has it ends.
func faultOffset(expr string, fault *syntax.Error) int {
	switch fault.Code {
	case syntax.ErrMissingParen, syntax.ErrLarge, syntax.ErrNestingDepth:
		return 0 // of the expression as a whole
	case syntax.ErrTrailingBackslash:
		return len(expr) - 1
	}
	end := sort.Search(len(expr), func(n int) bool {
		_, err := syntax.Parse(expr[:n], syntax.Perl)
		var se *syntax.Error
		return errors.As(err, &se) && se.Code == fault.Code &&
			(se.Expr == fault.Expr || se.Code == syntax.ErrUnexpectedParen)
	})
	if fault.Code == syntax.ErrUnexpectedParen {
		return end - 1
	}
	return max(end-len(fault.Expr), 0)
}
