package config

import (
	"fmt"
	"strings"
)

// Level grades a Finding as istioctl analyze does.
type Level uint8

const (
	Info Level = iota
	Warning
	Error
)

func (l Level) String() string {
	switch l {
	case Info:
		return "Info"
	case Warning:
		return "Warning"
	case Error:
		return "Error"
	}
	return fmt.Sprintf("Level(%d)", uint8(l))
}

// MarshalText gives the level's name, for JSON output.
func (l Level) MarshalText() ([]byte, error) { return []byte(l.String()), nil }

// A Finding is one thing wrong, doubtful or worth knowing about a document.
type Finding struct {
	// Code is an istioctl analyzer code (IST0101, …) where one fits, else one of ours (HDL0001, …).
	Code  string `json:"code"`
	Level Level  `json:"level"`
	// Refused says that the document's set is not accepted: the last good one keeps serving.
	Refused bool `json:"refused,omitempty"`

	File     string `json:"file,omitempty"`
	Document int    `json:"document,omitempty"` // position in File, from 1
	Line     int    `json:"line,omitempty"`     // from 1; 0 where there is no position
	Column   int    `json:"column,omitempty"`   // from 1, in bytes

	Kind      string `json:"kind,omitempty"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	// Path is the field, as in spec.http[0].route[1].weight.
	Path string `json:"path,omitempty"`
	// Message says what was found; Hint what would be right.
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// Position gives file:line:column, as far as known.
func (f Finding) Position() string {
	switch {
	case f.File == "":
		return ""
	case f.Line == 0:
		return f.File
	case f.Column == 0:
		return fmt.Sprintf("%s:%d", f.File, f.Line)
	}
	return fmt.Sprintf("%s:%d:%d", f.File, f.Line, f.Column)
}

// String gives one line in istioctl's form: Level [CODE] (Kind ns/name file:line:col) path: message; hint.
func (f Finding) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s [%s]", f.Level, f.Code)
	var where []string
	if f.Kind != "" {
		id := f.Name
		if f.Namespace != "" {
			id = f.Namespace + "/" + f.Name
		}
		where = append(where, f.Kind+" "+id)
	}
	if p := f.Position(); p != "" {
		where = append(where, p)
	}
	if len(where) > 0 {
		fmt.Fprintf(&b, " (%s)", strings.Join(where, " "))
	}
	b.WriteByte(' ')
	if f.Path != "" {
		b.WriteString(f.Path)
		b.WriteString(": ")
	}
	b.WriteString(f.Message)
	if f.Hint != "" {
		b.WriteString("; ")
		b.WriteString(f.Hint)
	}
	return b.String()
}

// ConfigError says why a set of documents was refused. It lists every finding that refused it, not only
// the first.
type ConfigError struct {
	Findings []Finding `json:"findings"`
}

func (e *ConfigError) Error() string {
	switch len(e.Findings) {
	case 0:
		return "configuration refused"
	case 1:
		return "configuration refused: " + e.Findings[0].String()
	}
	var b strings.Builder
	fmt.Fprintf(&b, "configuration refused: %d errors", len(e.Findings))
	const most = 20
	for i, f := range e.Findings {
		if i == most {
			fmt.Fprintf(&b, "\n\tand %d more", len(e.Findings)-most)
			break
		}
		b.WriteString("\n\t")
		b.WriteString(f.String())
	}
	return b.String()
}
