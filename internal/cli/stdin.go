package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"time"

	"github.com/heddlemesh/mesh/config"
)

// stdinName is the path that stands for standard input, and stdinFile what findings call it.
const (
	stdinName = "-"
	stdinFile = "<stdin>"
)

// splitPaths takes standard input out of paths.
func splitPaths(paths []string) (files []string, input bool) {
	files = slices.DeleteFunc(slices.Clone(paths), func(p string) bool { return p == stdinName })
	return files, len(files) < len(paths)
}

// readInput reads one text, a byte more than configuration may have at most, so that too much of it is
// noticed. A read cannot be interrupted: where ctx ends first, it is left behind to the end of the process.
func readInput(ctx context.Context, r io.Reader) (textFS, error) {
	type result struct {
		text []byte
		err  error
	}
	done := make(chan result, 1)
	go func() {
		text, err := io.ReadAll(io.LimitReader(r, config.MaxFileBytes+1))
		done <- result{text, err}
	}()
	select {
	case got := <-done:
		if got.err != nil {
			return nil, &failure{exitInput, fmt.Errorf("read standard input: %w", got.err)}
		}
		return got.text, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// A textFS is a file system of one file, stdinFile, so that standard input is read, checked and named in
// findings as any file is.
type textFS []byte

// Open implements fs.FS.
func (t textFS) Open(name string) (fs.File, error) {
	if name != stdinFile {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &textFile{bytes.NewReader(t)}, nil
}

type textFile struct{ *bytes.Reader }

func (f *textFile) Stat() (fs.FileInfo, error) { return f, nil }
func (f *textFile) Close() error               { return nil }
func (f *textFile) Name() string               { return stdinFile }
func (f *textFile) Mode() fs.FileMode          { return 0o444 }
func (f *textFile) ModTime() time.Time         { return time.Time{} }
func (f *textFile) IsDir() bool                { return false }
func (f *textFile) Sys() any                   { return nil }
