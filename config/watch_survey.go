package config

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A survey is how watched files stood at one moment, without their content.
type survey struct {
	taken time.Time
	files map[string]fs.FileInfo // nil for what could not be looked at
}

// takeSurvey looks at all that the paths stand for and sees to it that its changes are told of.
func takeSurvey(n *notices, paths []watchedPath) survey {
	s := survey{taken: time.Now(), files: make(map[string]fs.FileInfo)}
	n.begin()
	for _, p := range paths {
		if p.path == "" {
			continue
		}
		at := n.follow(p.path)
		info, err := os.Stat(at)
		if err != nil {
			s.files[at] = nil
		} else if !info.IsDir() {
			s.files[at] = info
		} else {
			s.directory(n, at)
		}
	}
	n.end()
	return s
}

// directory looks at the tree that collection.directory would read.
func (s *survey) directory(n *notices, root string) {
	_ = filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			s.files[name] = nil
		case name != root && strings.HasPrefix(e.Name(), "."):
			if e.IsDir() {
				return fs.SkipDir
			}
		case e.IsDir():
			n.want(name, "")
		case !isDocumentFile(name):
		case e.Type()&fs.ModeSymlink != 0:
			n.follow(name)
			s.files[name], _ = os.Stat(name)
		default:
			s.files[name], _ = e.Info()
		}
		return nil
	})
}

// isDocumentFile goes by the name's ending, as collection.directory does.
func isDocumentFile(name string) bool {
	return isIn(filepath.Ext(name), ".yaml", ".yml", ".json")
}

// differs reports whether a file came, went or changed between the surveys.
func (s survey) differs(o survey) bool {
	return !maps.EqualFunc(s.files, o.files, func(a, b fs.FileInfo) bool {
		if a == nil || b == nil {
			return a == nil && b == nil
		}
		return os.SameFile(a, b) && a.Size() == b.Size() && a.Mode() == b.Mode() && a.ModTime().Equal(b.ModTime())
	})
}

// recent reports whether a file had been written to just before the survey. Its time may then not tell
// another write that followed: file systems count in steps of up to two seconds.
func (s survey) recent() bool {
	for _, f := range s.files {
		if f != nil && s.taken.Sub(f.ModTime()) < 2*time.Second {
			return true
		}
	}
	return false
}

// mostLinks is how many symbolic links one path may lead over, as in Linux.
const mostLinks = 40

// follow resolves the symbolic links of an absolute path. Changes of each link, of the entry that the path
// ends at, and where something is missing, of that, will be told of. It gives the path as far as it goes.
func (n *notices) follow(path string) string {
	root := filepath.VolumeName(path) + string(filepath.Separator)
	at, rest, links := root, elements(path[len(root)-1:]), 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		if name == ".." {
			at = filepath.Dir(at)
			continue
		}
		next := filepath.Join(at, name)
		info, err := os.Lstat(next)
		switch {
		case err != nil:
			n.want(at, name)
			return filepath.Join(next, filepath.Join(rest...))
		case info.Mode()&fs.ModeSymlink != 0:
			n.want(at, name)
			target, err := os.Readlink(next)
			if links++; err != nil || links > mostLinks {
				return next
			}
			if filepath.IsAbs(target) {
				root = filepath.VolumeName(target) + string(filepath.Separator)
				at, target = root, target[len(root)-1:]
			}
			rest = append(elements(target), rest...)
		default:
			if len(rest) == 0 {
				n.want(at, name)
			}
			at = next
		}
	}
	return at
}

// elements splits a path without its volume, leaving ".." in: behind a link it is not what Clean makes of it.
func elements(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r < 0x80 && os.IsPathSeparator(uint8(r)) })
}
