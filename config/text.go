package config

import (
	"bytes"
	"fmt"
	"iter"
	"unicode/utf8"
)

const (
	// MaxFileBytes is the largest file, or inline text, that is read: 32 MiB.
	MaxFileBytes = 32 << 20
	// MaxDocumentBytes is the largest document within one: 4 MiB. Kubernetes itself takes 1.5 MiB.
	MaxDocumentBytes = 4 << 20
)

// A section is the text of one YAML document within a file, from its first line that is neither blank nor
// comment.
type section struct {
	number int // from 1; empty documents are not counted
	line   int // line of the file on which text begins, from 1
	text   []byte
}

// sections splits a file at its document markers. YAML gives a marker at column 0 its meaning everywhere,
// inside quotes and block text too, so that lines can be looked at one by one (YAML 1.2.2, section 9.1.2).
// Splitting before parsing is what lets one broken document leave the others readable.
func sections(text []byte) iter.Seq[section] {
	return func(yield func(section) bool) {
		s, start, content := section{number: 1}, -1, false
		flush := func(end int) bool {
			ok := true
			if content {
				s.text = text[start:end]
				ok = yield(s)
				s.number++
			}
			start, content = -1, false
			return ok
		}
		for pos, line := 0, 1; pos < len(text); line++ {
			next := len(text)
			if i := bytes.IndexByte(text[pos:], '\n'); i >= 0 {
				next = pos + i + 1
			}
			row := text[pos:next]
			rest, begins := afterMarker(row, "---")
			tail, ends := afterMarker(row, "...")
			ends = ends && isBlank(tail)
			if (begins || ends) && !flush(pos) {
				return
			}
			blank := isBlank(row) || ends || begins && isBlank(rest)
			// A version directive alone belongs to the document that the next marker begins.
			directive := start < 0 && bytes.HasPrefix(row, []byte("%YAML "))
			if !blank && start < 0 {
				start, s.line = pos, line
			}
			content = content || !blank && !directive
			pos = next
		}
		flush(len(text))
	}
}

// afterMarker gives what follows a document marker that begins the line.
func afterMarker(row []byte, marker string) ([]byte, bool) {
	rest, ok := bytes.CutPrefix(row, []byte(marker))
	if !ok || len(rest) > 0 && !isSpace(rest[0]) {
		return nil, false
	}
	return rest, true
}

// isBlank reports whether a line, or the rest of one, holds nothing but space and comment.
func isBlank(row []byte) bool {
	for _, c := range row {
		if c == '#' {
			return true
		}
		if !isSpace(c) {
			return false
		}
	}
	return true
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// lineBreaks are the characters that YAML 1.1 takes for line breaks and editors do not. With one of them in
// the text, every position after it would be wrong.
var lineBreaks = []string{"\u0085", "\u2028", "\u2029"}

// badEncoding finds the first thing that makes text unfit to be split into lines at all. An empty message
// means that there is none.
func badEncoding(text []byte) (offset int, message, hint string) {
	const asUTF8 = "save the file as UTF-8"
	if bytes.HasPrefix(text, []byte{0xff, 0xfe}) || bytes.HasPrefix(text, []byte{0xfe, 0xff}) {
		return 0, "the text is UTF-16", asUTF8
	}
	if i := bytes.IndexByte(text, 0); i >= 0 {
		return i, fmt.Sprintf("NUL at byte %d", i), asUTF8
	}
	if !utf8.Valid(text) {
		i := 0
		for {
			r, n := utf8.DecodeRune(text[i:])
			if r == utf8.RuneError && n == 1 {
				break
			}
			i += n
		}
		return i, fmt.Sprintf("invalid UTF-8 at byte %d (0x%02x)", i, text[i]), asUTF8
	}
	for i := 0; ; i++ {
		n := bytes.IndexByte(text[i:], '\r')
		if n < 0 {
			break
		}
		i += n
		if i+1 == len(text) || text[i+1] != '\n' {
			return i, fmt.Sprintf("carriage return without line feed at byte %d", i), "end lines with \\n or \\r\\n"
		}
	}
	for _, b := range lineBreaks {
		if i := bytes.Index(text, []byte(b)); i >= 0 {
			r, _ := utf8.DecodeRuneInString(b)
			return i, fmt.Sprintf("%U at byte %d", r, i), fmt.Sprintf("write it as %+q in double quotes", b)
		}
	}
	return 0, "", ""
}

// lineColumn gives the place of a byte: line and column from 1, the column in bytes.
func lineColumn(text []byte, offset int) (line, column int) {
	before := text[:offset]
	return 1 + bytes.Count(before, []byte("\n")), offset - bytes.LastIndexByte(before, '\n')
}
