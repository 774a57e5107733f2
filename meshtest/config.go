package meshtest

import (
	"context"
	"io/fs"
	"regexp"
	"strconv"
	"strings"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/config"
)

// A Config is where a test's configuration comes from. It is read once, when the test's mesh is made. The
// zero value is an empty configuration: the only services are those that [Env.HTTP] and [Env.GRPC] make.
type Config struct {
	read func() config.Update
}

// Dir is the configuration of a directory, or of one file: what mesh.WithConfigPath would read.
func Dir(path string) Config {
	return Config{func() config.Update { return gather(config.FromPaths(path)) }}
}

// FS is the configuration of a file system's files, those that match the patterns of path.Match or, without
// patterns, all .yaml, .yml and .json files: what mesh.WithConfigFS would read.
func FS(fsys fs.FS, patterns ...string) Config {
	return Config{func() config.Update { return gather(config.FromFS(fsys, patterns...)) }}
}

// YAML is the configuration of a text of any number of documents. Findings and stories call it <yaml>.
func YAML(text string) Config { return Config{func() config.Update { return parse(text) }} }

func gather(s config.Source) (u config.Update) {
	_ = s.Run(context.Background(), func(got config.Update) []config.Verdict { // fails with its context only
		u = got
		return nil
	})
	return u
}

func parse(docs ...string) (u config.Update) {
	for i, d := range docs {
		name := "<yaml>"
		if len(docs) > 1 {
			name = "<yaml " + strconv.Itoa(i+1) + ">"
		}
		resources, findings := config.Parse(name, []byte(d))
		u.Upsert = append(u.Upsert, resources...)
		u.Findings = append(u.Findings, findings...)
	}
	return u
}

// load reads the documents, or gives the *mesh.ConfigError of what cannot be read.
func (c Config) load() ([]*document, error) {
	if c.read == nil {
		return nil, nil
	}
	return documentsOf(c.read())
}

func documentsOf(u config.Update) ([]*document, error) {
	var refused []mesh.Finding
	for _, f := range u.Findings {
		if f.Refused {
			refused = append(refused, f)
		}
	}
	if len(refused) > 0 {
		return nil, &mesh.ConfigError{Findings: refused}
	}
	var docs []*document
	for _, r := range u.Upsert {
		if n := len(docs); n > 0 && docs[n-1].origin == r.Origin {
			continue // a further item of the same List
		}
		d, err := newDocument(r.Origin, r.Body)
		if err != nil {
			return nil, err
		}
		docs = append(docs, d)
	}
	return docs, nil
}

// inlineName is what the mesh calls the nth text that it is given.
var inlineName = regexp.MustCompile(`<inline \d+>`)

// files are the names of the texts that the mesh was given, in order.
type files []string

func (f files) name(inline string) string {
	n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(inline, "<inline "), ">"))
	if err != nil || n < 1 || n > len(f) {
		return inline
	}
	return f[n-1]
}

// in puts the names into a text that speaks of inline documents.
func (f files) in(text string) string { return inlineName.ReplaceAllStringFunc(text, f.name) }

// finding puts the name into a finding.
func (f files) finding(x mesh.Finding) mesh.Finding {
	x.File, x.Message, x.Hint = f.in(x.File), f.in(x.Message), f.in(x.Hint)
	return x
}

// refusal puts the names into a refusal.
func (f files) refusal(e *mesh.ConfigError) *mesh.ConfigError {
	named := &mesh.ConfigError{Findings: make([]mesh.Finding, len(e.Findings))}
	for i, x := range e.Findings {
		named.Findings[i] = f.finding(x)
	}
	return named
}
