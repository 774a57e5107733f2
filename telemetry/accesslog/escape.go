package accesslog

import (
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// appendEscaped appends a text so that it ends neither its line nor quotes around it, nor speaks to a terminal: control
// characters and bytes that are no UTF-8 as \xNN, \n and \uNNNN, quotes and backslashes behind a backslash. bare says that no quotes are around it:
// then a space, too, would begin another column.
func appendEscaped(b []byte, s string, bare bool) []byte {
	return appendText(b, s, bare, func(b []byte, c byte) []byte { return append(b, '\\', 'x', hexDigits[c>>4], hexDigits[c&15]) })
}

// appendJSON appends what stands within the quotes of a text of JSON (RFC 8259 §7). Bytes that are no UTF-8 are U+FFFD.
func appendJSON(b []byte, s string) []byte {
	return appendText(b, s, false, func(b []byte, c byte) []byte {
		if c >= utf8.RuneSelf {
			return append(b, "\uFFFD"...)
		}
		return appendUnicode(b, rune(c))
	})
}

// appendText appends a text. odd writes bytes that are no UTF-8, and controls that have no letter of their own.
func appendText(b []byte, s string, bare bool, odd func([]byte, byte) []byte) []byte {
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			switch {
			case c == '"' || c == '\\':
				b = append(b, '\\', c)
			case c == '\n':
				b = append(b, '\\', 'n')
			case c == '\r':
				b = append(b, '\\', 'r')
			case c == '\t':
				b = append(b, '\\', 't')
			case c < ' ' || c == 0x7f || bare && c == ' ':
				b = odd(b, c)
			default:
				b = append(b, c)
			}
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && n == 1:
			b = odd(b, c)
		case breaks(r):
			b = appendUnicode(b, r)
		default:
			b = append(b, s[i:i+n]...)
		}
		i += n
	}
	return b
}

// breaks reports what some reader takes for the end of a line, or a terminal for a command: C1 controls, the separators of
// lines and paragraphs, and what turns the direction of writing around.
func breaks(r rune) bool {
	return r >= 0x80 && r < 0xa0 || r == 0x2028 || r == 0x2029 || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

func appendUnicode(b []byte, r rune) []byte {
	return append(b, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
}
