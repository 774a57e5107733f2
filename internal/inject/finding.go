package inject

import (
	"fmt"

	"go.yaml.in/yaml/v3"
)

// A Level says how bad a finding is.
type Level string

// The levels.
const (
	Error   Level = "Error" // the workload is refused, and with it everything
	Warning Level = "Warning"
	Info    Level = "Info"
)

// A Finding is what is to be said of a document.
type Finding struct {
	Level        Level
	Line, Column int    // from 1
	Object       string // "Deployment shop/web"
	Message      string // begins with the field, "metadata.name: …"
}

// A report collects findings about one workload.
type report struct {
	object string
	lines  int // before the document
	all    *[]Finding
}

func (r *report) add(level Level, at *yaml.Node, format string, args ...any) {
	*r.all = append(*r.all, Finding{Level: level, Line: at.Line + r.lines, Column: at.Column, Object: r.object, Message: fmt.Sprintf(format, args...)})
}

func (r *report) refuse(at *yaml.Node, format string, args ...any) { r.add(Error, at, format, args...) }
func (r *report) warn(at *yaml.Node, format string, args ...any)   { r.add(Warning, at, format, args...) }
func (r *report) inform(at *yaml.Node, format string, args ...any) { r.add(Info, at, format, args...) }

// failed reports whether the workload was refused.
func (r *report) failed() bool {
	for _, f := range *r.all {
		if f.Level == Error && f.Object == r.object {
			return true
		}
	}
	return false
}
