package config

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// FromPaths is a Source of files and directories. Of a directory it takes the files that end in .yaml,
// .yml or .json, those of its subdirectories too, in the order of their paths; names that begin with a dot
// are left out, among them the directories in which Kubernetes keeps the versions of a mounted ConfigMap.
// Symbolic links to files are followed; one to a directory inside a directory is a warning. A file that is
// named itself may end in anything, but must be a regular file. A file named twice is read once.
//
// Run reads everything, applies one Full update and returns nil, or ctx's error when ctx has ended already.
// What cannot be read (HDL0001) or is larger than [MaxFileBytes] refuses the update; a directory without
// documents is a warning (HDL0005). Safe for concurrent use.
func FromPaths(paths ...string) Source {
	paths = slices.Clone(paths)
	return once(func(c *collection) {
		for _, p := range paths {
			c.path(p, p)
		}
	})
}

// FromFS is a Source of the files in fsys that match one of the patterns, in the syntax of [path.Match];
// a match that is a directory stands for its files as in [FromPaths]. Without patterns it takes every file
// of the tree that ends in .yaml, .yml or .json. A pattern that matches nothing refuses the update
// (HDL0001). Otherwise it is as FromPaths. Safe for concurrent use if fsys is.
func FromFS(fsys fs.FS, patterns ...string) Source {
	patterns = slices.Clone(patterns)
	return once(func(c *collection) {
		if len(patterns) == 0 {
			c.directory(fsys, ".", "")
		}
		for _, p := range patterns {
			c.pattern(fsys, p)
		}
	})
}

// once is a Source that is gathered anew by each Run and does not change while it runs.
type once func(*collection)

func (gather once) Run(ctx context.Context, apply func(Update) []Verdict) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var c collection
	gather(&c)
	apply(c.update())
	return nil
}

// path takes in a file or directory of the operating system. shown is what findings call it.
func (c *collection) path(shown, name string) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		c.unreadable(shown, err)
	case info.IsDir():
		c.directory(os.DirFS(name), ".", shown)
	default:
		c.file(os.DirFS(filepath.Dir(name)), filepath.Base(name), filepath.Clean(shown))
	}
}

func (c *collection) pattern(fsys fs.FS, pattern string) {
	matches, err := fs.Glob(fsys, pattern)
	if err == nil && len(matches) == 0 {
		err = errors.New("no such file")
	}
	if err != nil {
		c.unreadable(pattern, err)
		return
	}
	for _, name := range matches {
		if info, err := fs.Stat(fsys, name); err == nil && info.IsDir() {
			c.directory(fsys, name, name)
		} else {
			c.file(fsys, name, name)
		}
	}
}

// directory takes in the files under root of fsys. shown is what findings call root.
func (c *collection) directory(fsys fs.FS, root, shown string) {
	before, refused := len(c.resources), c.refused
	display := func(name string) string {
		rel := strings.TrimPrefix(strings.TrimPrefix(name, root), "/")
		return path.Join(shown, rel)
	}
	var names []string
	_ = fs.WalkDir(fsys, root, func(name string, e fs.DirEntry, err error) error {
		switch {
		case err != nil:
			c.unreadable(display(name), err)
		case name != root && strings.HasPrefix(e.Name(), "."):
			if e.IsDir() {
				return fs.SkipDir
			}
		case e.IsDir():
		case e.Type()&fs.ModeSymlink != 0 && c.isDirectoryLink(fsys, name, display(name)):
		case isDocumentFile(name):
			names = append(names, name)
		}
		return nil // every fault is a finding: the walk goes on
	})
	slices.Sort(names)
	again := false
	for _, name := range names {
		again = !c.file(fsys, name, display(name)) || again
	}
	if len(c.resources) == before && c.refused == refused && !again {
		if shown == "" {
			shown = "."
		}
		c.add(Finding{Code: codeNoDocuments, Level: Warning, File: shown, Message: "no documents",
			Hint: "expected files ending in .yaml, .yml or .json with documents of the mesh"})
	}
}

// isDirectoryLink reports a symbolic link to a directory. It is not followed, for it may lead back to where
// it stands, and it is not passed over in silence, for there may be policies behind it.
func (c *collection) isDirectoryLink(fsys fs.FS, name, shown string) bool {
	info, err := fs.Stat(fsys, name)
	if err != nil || !info.IsDir() {
		return false
	}
	c.add(Finding{Code: codeUnreadable, Level: Warning, File: shown,
		Message: "symbolic link to a directory is not followed", Hint: "name it as a path of its own"})
	return true
}

// file takes in one file, unless it was taken in before.
func (c *collection) file(fsys fs.FS, name, shown string) (first bool) {
	if !c.firstTime(shown) {
		return false
	}
	text, err := readFile(fsys, name)
	if err != nil {
		c.unreadable(shown, err)
		return true
	}
	c.text(shown, text)
	return true
}

// readFile reads a regular file within the cap. Anything else is not even opened: a pipe could block for ever.
func readFile(fsys fs.FS, name string) ([]byte, error) {
	info, err := fs.Stat(fsys, name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	if info.Size() > MaxFileBytes {
		return nil, errors.New(tooLarge("file", MaxFileBytes))
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// The file may have grown since, or its size may have been a lie, as in /proc.
	text, err := io.ReadAll(io.LimitReader(f, MaxFileBytes+1))
	if err == nil && len(text) > MaxFileBytes {
		err = errors.New(tooLarge("file", MaxFileBytes))
	}
	return text, err
}
