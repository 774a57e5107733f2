package call

import (
	"strconv"
	"strings"
	"unicode"
)

// Printable gives text that others have chosen, a name in a document or of a file, as it may stand in a log or
// on a terminal: what is not printable, ends of lines above all, is written as Go escapes it.
func Printable(s string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s
	}
	quoted := strconv.Quote(s)
	return quoted[1 : len(quoted)-1]
}
