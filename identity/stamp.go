package identity

import (
	"maps"
	"os"
	"slices"
	"time"
)

// A Stamp tells one state of a file from another. The zero Stamp is a file that is not there.
type Stamp struct {
	modified time.Time
	size     int64
}

// StampOf gives the state of a file, following links.
func StampOf(name string) Stamp {
	if info, err := os.Stat(name); name != "" && err == nil {
		return Stamp{info.ModTime(), info.Size()}
	}
	return Stamp{}
}

func stamps(names []string) []Stamp {
	list := make([]Stamp, len(names))
	for i, name := range names {
		list[i] = StampOf(name)
	}
	return list
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
