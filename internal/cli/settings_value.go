package cli

import "strings"

// A cursor reads the values of one line of a settings file.
type cursor struct {
	r    *settingsReader
	line string
	at   int
}

// end skips spaces and reports whether nothing but a comment is left.
func (c *cursor) end() bool {
	space := c.at == 0 || c.line[c.at-1] == ' ' || c.line[c.at-1] == ':'
	for c.at < len(c.line) && c.line[c.at] == ' ' {
		c.at++
		space = true
	}
	return c.at == len(c.line) || c.line[c.at] == '#' && space
}

// next gives the byte at the cursor, 0 at the end of the line.
func (c *cursor) next() byte {
	if c.at == len(c.line) {
		return 0
	}
	return c.line[c.at]
}

func (c *cursor) fault(format string, args ...any) error { return c.r.fault(c.at, format, args...) }

// value reads one value: in quotes, or plain up to a comment, within brackets up to a comma or the bracket.
func (c *cursor) value(bracketed bool) (settingItem, error) {
	v := settingItem{position: position{c.r.line, c.at + 1}}
	switch c.next() {
	case '"':
		return v, c.doubleQuoted(&v.text)
	case '\'':
		return v, c.singleQuoted(&v.text)
	}
	v.plain = true
	return v, c.plain(&v.text, bracketed)
}

// plain reads a value without quotes, where YAML takes it for nothing else.
func (c *cursor) plain(to *string, bracketed bool) error {
	stops := ""
	if bracketed {
		stops = ",[]{}"
	}
	rest := c.line[c.at:]
	end := len(rest)
	if i := strings.IndexAny(rest, stops); bracketed && i >= 0 {
		end = i
	}
	if i := strings.Index(rest[:end], " #"); i >= 0 {
		end = i
	}
	text := strings.TrimRight(rest[:end], " ")
	if text == "" {
		return c.fault("expected a value")
	}
	sign := strings.IndexByte("-?:", text[0]) >= 0 && (bracketed || len(text) == 1 || text[1] == ' ')
	if sign || strings.IndexByte("#,[]{}&*!|>%@`\"'", text[0]) >= 0 {
		return c.fault("a value that begins with %q means something else in YAML: write it in quotes", text[:1])
	}
	if i := strings.Index(text+" ", ": "); i >= 0 {
		c.at += i
		return c.fault("a colon and a space begin something else in YAML: write the value in quotes")
	}
	if i := strings.IndexByte(text, '?'); bracketed && i >= 0 {
		c.at += i
		return c.fault("a question mark within brackets may mean something else in YAML: write the value in quotes")
	}
	*to = text
	c.at += end
	return nil
}

// null reports what YAML reads as no value.
func (v *settingItem) null() bool {
	return v.plain && (v.text == "~" || v.text == "null" || v.text == "Null" || v.text == "NULL")
}

// doubleQuoted reads "…" with the escapes \" and \\.
func (c *cursor) doubleQuoted(to *string) error {
	var b strings.Builder
	for i := c.at + 1; i < len(c.line); i++ {
		switch ch := c.line[i]; ch {
		case '"':
			*to, c.at = b.String(), i+1
			return nil
		case '\\':
			if i++; i == len(c.line) || c.line[i] != '"' && c.line[i] != '\\' {
				c.at = i - 1
				return c.fault(`an escape other than \" and \\: in single quotes a backslash is itself`)
			}
			b.WriteByte(c.line[i])
		default:
			b.WriteByte(ch)
		}
	}
	return c.fault("the quote is not closed on this line")
}

// singleQuoted reads '…', in which ” is one quote.
func (c *cursor) singleQuoted(to *string) error {
	var b strings.Builder
	for i := c.at + 1; i < len(c.line); i++ {
		if c.line[i] != '\'' {
			b.WriteByte(c.line[i])
			continue
		}
		if i++; i == len(c.line) || c.line[i] != '\'' {
			*to, c.at = b.String(), i
			return nil
		}
		b.WriteByte('\'')
	}
	return c.fault("the quote is not closed on this line")
}

// brackets reads [a, b] or {a: b}, which end with the byte.
func (c *cursor) brackets(closing byte) ([]settingItem, error) {
	var items []settingItem
	c.at++
	for first := true; ; first = false {
		if c.end() {
			return nil, c.fault("the bracket is not closed on this line")
		}
		if first && c.next() == closing {
			c.at++
			return nil, nil
		}
		var key string
		if closing == '}' {
			var err error
			if key, c.at, err = c.r.name(c.line, c.at); err != nil {
				return nil, err
			}
			if c.end() {
				return nil, c.fault("expected a value")
			}
		}
		v, err := c.value(true)
		if err != nil {
			return nil, err
		}
		v.key = key
		if err := c.r.add(&items, v); err != nil {
			return nil, err
		}
		if c.end() {
			return nil, c.fault("the bracket is not closed on this line")
		}
		switch c.next() {
		case closing:
			c.at++
			return items, nil
		case ',':
			c.at++
		default:
			return nil, c.fault("expected a comma or %q", closing)
		}
	}
}
