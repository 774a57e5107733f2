package config

import (
	"slices"
	"strings"
)

// ownAnnotations are those of the mesh itself, with their values.
var ownAnnotations = map[string][]string{
	retryAnnotation:     {"false", "with-key", "true"},
	hedgeAnnotation:     {"false", "true"},
	alwaysOneAnnotation: {"false", "true"},
}

const ownPrefix = "heddle.dev/"

// annotations refuses what looks like an annotation of the mesh and is none that the kind has: a word that nobody reads
// would be missed only when it matters.
func (v *validation) annotations(known ...string) {
	for _, name := range sortedKeys(v.d.annotations) {
		p := fieldPath{"metadata", "annotations", name}
		switch {
		case !strings.HasPrefix(name, ownPrefix):
		case !slices.Contains(known, name):
			v.refuse(p, quoted(name)+" is no annotation of a "+v.d.key.Kind, oneOf(name, known))
		case !slices.Contains(ownAnnotations[name], v.d.annotations[name]):
			v.refuseValue(p, "is no value of "+name, oneOf(v.d.annotations[name], ownAnnotations[name]))
		}
	}
}
