package main

import (
	"context"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// A spec is one instance that may run.
type spec struct {
	name, service, version string
	language               *language // nil for Go
	also                   bool      // beside the Go one: without the language it is left out
	env                    []string
}

// specs lists what runs where every language is installed; the first is where people look. Without one, Go
// takes its place.
var specs = []spec{
	{name: "productpage-v1", service: "productpage", version: "v1", language: python},
	{name: "details-v1", service: "details", version: "v1"},
	{name: "details-v1-ruby", service: "details", version: "v1", language: ruby, also: true},
	{name: "reviews-v1", service: "reviews", version: "v1", env: []string{"ENABLE_RATINGS=false"}},
	{name: "reviews-v2", service: "reviews", version: "v2", env: []string{"ENABLE_RATINGS=true", "STAR_COLOR=black"}},
	{name: "reviews-v2-java", service: "reviews", version: "v2", language: java, also: true, env: []string{"ENABLE_RATINGS=true", "STAR_COLOR=black"}},
	{name: "reviews-v3", service: "reviews", version: "v3", env: []string{"ENABLE_RATINGS=true", "STAR_COLOR=red"}},
	{name: "ratings-v1", service: "ratings", version: "v1", language: node},
}

// An instance is one that does run. Its process may end and be started again.
type instance struct {
	spec
	interpreter *interpreter // nil for Go
	machine     *machine     // nil for ours
	log         lines

	mu   sync.Mutex // guards what follows
	addr string     // where callers reach it; it stays when the process ends
	p    *process
}

// cast gives every service its program, and says why some of them are in Go.
func cast(ctx context.Context, wanted choice) (all []*instance, notes []string, err error) {
	var found map[*language]*interpreter
	var missing map[*language]error
	languages := []*language{python, node, ruby, java}
	if wanted != off {
		found, missing = find(ctx, languages)
	}
	for _, l := range languages {
		if missing[l] == nil {
			continue
		}
		if wanted == require && l.needed {
			return nil, nil, &missingError{l, missing[l]}
		}
		at := slices.IndexFunc(specs, func(s spec) bool { return s.language == l })
		notes = append(notes, "No "+l.name+" for "+specs[at].service+", which is in Go instead: "+missing[l].Error()+".")
	}
	for _, s := range specs {
		i := &instance{spec: s}
		if s.language != nil {
			if i.interpreter = found[s.language]; i.interpreter == nil && s.also {
				continue
			}
		}
		all = append(all, i)
	}
	return all, notes, nil
}

type missingError struct {
	language *language
	err      error
}

func (e *missingError) Error() string {
	return "-polyglot=require: no " + e.language.name + ": " + e.err.Error()
}

func (e *missingError) Unwrap() error { return e.err }

// program is what the instance's program runs on.
func (i *instance) program() string {
	if i.interpreter == nil {
		return goVersion()
	}
	return i.interpreter.String()
}

// how is what its sidecar has to do with the program, or where else the mesh is.
func (i *instance) how() string {
	switch {
	case i.interpreter == nil:
		return "the mesh inside"
	case i.captured():
		return "captured by heddle proxy"
	}
	return "behind heddle proxy"
}

func goVersion() string { return "Go " + strings.TrimPrefix(runtime.Version(), "go") }

func (i *instance) process() *process {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.p
}

func (i *instance) address() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.addr
}

// path is a page of the service worth opening.
func (i *instance) path() string {
	if i.service == "productpage" {
		return "/productpage"
	}
	return "/" + i.service + "/0"
}

// admin is the base of the admin pages.
func (i *instance) admin() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.p == nil {
		return ""
	}
	return "http://" + i.p.admin
}
