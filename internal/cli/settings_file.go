package cli

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxSettings    = 1 << 20 // of a file, in bytes
	maxSettingName = 255     // of an entry's name, in bytes; a label's key may be long
)

// A setting is one entry of a settings file.
type setting struct {
	position
	key   string
	form  form
	items []settingItem // one for a value, none for null
}

type form uint8

const (
	aNull form = iota
	aValue
	aList
	aMapping
)

func (f form) String() string { return [...]string{"nothing", "one value", "a list", "a mapping"}[f] }

// A settingItem is a value as it is written, without its quotes; its key where it stands in a mapping.
type settingItem struct {
	position
	key, text string
	plain     bool // without quotes
}

// A position is where something stands in a file: line and column from 1, the column in bytes.
type position struct{ line, column int }

// A settingsError says what is wrong with a settings file, where, and what would be right.
type settingsError struct {
	position
	err     error
	setting bool // the text can be read, a setting is wrong
}

func (e *settingsError) Error() string { return e.err.Error() }
func (e *settingsError) Unwrap() error { return e.err }

// readSettings reads a settings file. It knows the YAML that settings need: one mapping of names to a value, to
// a list or to a mapping of values, in blocks or in brackets, each value on one line. What YAML has beyond that
// is refused, and nothing is read as anything else than by a YAML parser (FuzzReadSettings). Types are not
// guessed: a value is the text that is written there.
func readSettings(text []byte) ([]setting, error) {
	s := string(text)
	s = strings.TrimPrefix(s, "\uFEFF")
	r := settingsReader{}
	for line := range strings.Lines(s) {
		r.line++
		line = strings.TrimSuffix(strings.TrimSuffix(line, "\n"), "\r")
		if i := strings.IndexFunc(line, notInSettings); i >= 0 {
			if line[i] == '\t' {
				return nil, r.fault(i, "a tab; settings are indented and separated with spaces")
			}
			return nil, r.fault(i, "a character that no settings have: the file is to be plain UTF-8 text")
		}
		if err := r.read(line); err != nil {
			return nil, err
		}
	}
	return r.settings, nil
}

func notInSettings(c rune) bool {
	return c == utf8.RuneError || unicode.IsControl(c) || c == '\u2028' || c == '\u2029' || c == '\uFEFF'
}

type settingsReader struct {
	line     int
	begun    bool // the document's marker, or an entry, has been there
	settings []setting
	open     bool // the last entry has its items in the lines that follow
	indent   int  // of those items, -1 before the first
}

func (r *settingsReader) fault(offset int, format string, args ...any) error {
	return &settingsError{position: position{r.line, offset + 1}, err: fmt.Errorf(format, args...)}
}

// read takes one line.
func (r *settingsReader) read(line string) error {
	indent := len(line) - len(strings.TrimLeft(line, " "))
	rest := line[indent:]
	switch {
	case rest == "" || rest[0] == '#':
		return nil
	case line == "---" && !r.begun:
		r.begun = true
		return nil
	case indent == 0 && (line == "..." || strings.HasPrefix(line, "---")):
		return r.fault(0, "a marker of YAML documents; settings are one document")
	}
	r.begun = true
	if indent == 0 && !isItem(rest) {
		return r.entry(line)
	}
	if len(r.settings) == 0 {
		return r.fault(indent, "expected name: value at the beginning of a line")
	}
	last := &r.settings[len(r.settings)-1]
	if !r.open {
		return r.fault(indent, "more of %s, whose value stands on its own line", last.key)
	}
	if r.indent < 0 {
		r.indent = indent
		last.form = aMapping
		if isItem(rest) {
			last.form = aList
		}
	}
	switch {
	case indent != r.indent:
		return r.fault(indent, "indented by %d, the others of %s by %d", indent, last.key, r.indent)
	case isItem(rest) != (last.form == aList):
		return r.fault(indent, "%s is %s so far; a list has \"- value\" in each line, a mapping \"name: value\"", last.key, last.form)
	}
	return r.item(last, line, indent)
}

func isItem(rest string) bool { return rest == "-" || strings.HasPrefix(rest, "- ") }

// entry takes a line that begins a setting.
func (r *settingsReader) entry(line string) error {
	key, at, err := r.name(line, 0)
	if err != nil {
		return err
	}
	for _, s := range r.settings {
		if s.key == key {
			return r.fault(0, "%s is there twice, first in line %d", key, s.line)
		}
	}
	s := setting{position: position{r.line, 1}, key: key}
	r.open, r.indent = false, -1
	c := cursor{r: r, line: line, at: at}
	switch {
	case c.end():
		r.open = true
	case c.next() == '[':
		s.form = aList
		s.items, err = c.brackets(']')
	case c.next() == '{':
		s.form = aMapping
		s.items, err = c.brackets('}')
	default:
		var v settingItem
		if v, err = c.value(false); err == nil {
			s.form, s.items = aValue, []settingItem{v}
		}
	}
	if err == nil && !c.end() {
		err = r.fault(c.at, "unexpected %.20q after the value of %s", line[c.at:], key)
	}
	if s.form == aValue && s.items[0].null() {
		s.form, s.items = aNull, nil
	}
	r.settings = append(r.settings, s)
	return err
}

// item takes a line of a list or a mapping.
func (r *settingsReader) item(to *setting, line string, at int) error {
	var key string
	var err error
	if to.form == aList {
		at++
	} else if key, at, err = r.name(line, at); err != nil {
		return err
	}
	c := cursor{r: r, line: line, at: at}
	if c.end() {
		return r.fault(c.at, "expected a value on this line")
	}
	v, err := c.value(false)
	if err != nil {
		return err
	}
	if !c.end() {
		return r.fault(c.at, "unexpected %.20q after the value", line[c.at:])
	}
	v.key = key
	return r.add(&to.items, v)
}

// add puts an item with the others, where it has a value and no name twice.
func (r *settingsReader) add(items *[]settingItem, v settingItem) error {
	if v.null() {
		return r.fault(v.column-1, "expected a value, found null; null as a text is written in quotes")
	}
	for _, o := range *items {
		if v.key != "" && o.key == v.key {
			return r.fault(v.column-1, "%s is there twice", v.key)
		}
	}
	*items = append(*items, v)
	return nil
}

// name reads "name:" and gives what follows it.
func (r *settingsReader) name(line string, at int) (name string, end int, err error) {
	end = at
	for end < len(line) && (line[end] >= 'a' && line[end] <= 'z' || line[end] >= 'A' && line[end] <= 'Z' ||
		line[end] >= '0' && line[end] <= '9' || end > at && strings.IndexByte("-_./", line[end]) >= 0) {
		end++
	}
	if end == at || end-at > maxSettingName || end == len(line) || line[end] != ':' || end+1 < len(line) && line[end+1] != ' ' {
		return "", 0, r.fault(at, "expected name: value, with a space after the colon")
	}
	return line[at:end], end + 1, nil
}
