package cli

import (
	"errors"
	"path"
	"regexp"
	"strings"

	"github.com/heddlemesh/mesh/config"
)

// suppressions are findings that nobody wants to hear of: CODE, or CODE=Kind namespace/name, or, as istioctl
// has it, CODE=Kind name.namespace. A * in a name or namespace stands for any letters.
type suppressions []suppression

type suppression struct {
	code      string
	kind      string // "" for any document
	namespace string // patterns of path.Match
	name      string
}

var findingCode = regexp.MustCompile(`^[A-Z]{3}[0-9]{4}$`)

func (*suppressions) String() string { return "" }
func (*suppressions) Type() string   { return "CODE[=Kind ns/name]" }

func (l *suppressions) Set(s string) error {
	code, document, one := strings.Cut(s, "=")
	if !findingCode.MatchString(code) {
		return errors.New("expected a code such as IST0101, or CODE=Kind namespace/name")
	}
	p := suppression{code: code}
	if one {
		kind, id, ok := strings.Cut(strings.TrimSpace(document), " ")
		p.kind = kind
		p.namespace, p.name = splitID(strings.TrimSpace(id))
		_, bad1 := path.Match(p.namespace, "")
		_, bad2 := path.Match(p.name, "")
		if !ok || kind == "" || p.name == "" || p.namespace == "" || bad1 != nil || bad2 != nil {
			return errors.New("expected CODE=Kind namespace/name or CODE=Kind name.namespace")
		}
	}
	*l = append(*l, p)
	return nil
}

// splitID reads namespace/name or name.namespace; a namespace has no dot. One word is a name in any
// namespace.
func splitID(id string) (namespace, name string) {
	if namespace, name, ok := strings.Cut(id, "/"); ok {
		return namespace, name
	}
	if i := strings.LastIndexByte(id, '.'); i >= 0 {
		return id[i+1:], id[:i]
	}
	return "*", id
}

func (l suppressions) covers(f config.Finding) bool {
	for _, p := range l {
		if p.code == f.Code && (p.kind == "" ||
			strings.EqualFold(p.kind, f.Kind) && like(p.namespace, f.Namespace) && like(p.name, f.Name)) {
			return true
		}
	}
	return false
}

func like(pattern, s string) bool {
	ok, err := path.Match(pattern, s)
	return ok && err == nil
}
