package config

import (
	"slices"
	"strconv"
	"strings"
)

// oneOf is the hint for a name that is not known: the nearest known one, if any is near, and the list.
func oneOf(name string, known []string) string {
	const most = 12
	known = slices.Sorted(slices.Values(known))
	list := known
	if len(list) > most {
		list = list[:most]
	}
	hint := "expected one of [" + strings.Join(list, " ")
	if len(known) > most {
		hint += " … and " + strconv.Itoa(len(known)-most) + " more"
	}
	hint += "]"
	if near, ok := nearest(name, known); ok {
		hint = "did you mean " + strconv.Quote(near) + "? " + hint
	}
	return hint
}

// nearest gives the known name that name was most likely meant to be: the same but for case and separators,
// or within a third of its letters.
func nearest(name string, known []string) (string, bool) {
	const longest = 64 // the cost is the product of the lengths
	if name == "" || len(name) > longest {
		return "", false
	}
	folded := fold(name)
	best, distance := "", 1+max(1, len(folded)/3)
	for _, k := range known {
		if d := editDistance(folded, fold(k)); d < distance {
			best, distance = k, d
		}
	}
	return best, best != ""
}

func fold(s string) string {
	return strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(s))
}

// editDistance counts the letters to insert, drop, replace or swap with their neighbour to make b of a (the
// optimal string alignment distance).
func editDistance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
