package keep

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
)

// fileName is the snapshot's in its directory.
const fileName = "snapshot"

// maxFile is four times what a single file of configuration may have.
const maxFile = 64 << 20

func (k *Store) path() string { return filepath.Join(k.dir, fileName) }

// write replaces the file as a whole: whoever reads sees the old one or the new one, also after the machine has stopped.
func (k *Store) write(text []byte) error {
	if len(text) > maxFile {
		return fmt.Errorf("keep configuration: larger than %d bytes", maxFile)
	}
	if err := k.replace(text); err != nil {
		return fmt.Errorf("keep configuration: %w", err)
	}
	return nil
}

func (k *Store) replace(text []byte) error {
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return err
	}
	if err := k.checkDirectory(); err != nil {
		return err
	}
	next := k.path() + "." + strconv.Itoa(os.Getpid())
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(next, k.path())
	}
	if err != nil {
		return errors.Join(err, os.Remove(next))
	}
	return syncDirectory(k.dir)
}

// read gives the file's text, where nobody else can have written it.
func (k *Store) read() ([]byte, error) {
	text, err := k.owned()
	if err != nil {
		return nil, fmt.Errorf("read kept configuration: %w", err)
	}
	return text, nil
}

func (k *Store) owned() ([]byte, error) {
	if err := k.checkDirectory(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(k.path(), os.O_RDONLY|noFollow, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: not a regular file", k.path())
	case info.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("%s: mode %04o lets others at it; it was written with 0600", k.path(), info.Mode().Perm())
	case !owned(info, false):
		return nil, fmt.Errorf("%s: it is another user's", k.path())
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s: larger than %d bytes", k.path(), maxFile)
	}
	return text, err
}

// checkDirectory refuses a directory in which others can put another file in the place of ours.
func (k *Store) checkDirectory() error {
	info, err := os.Stat(k.dir)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s: not a directory", k.dir)
	case info.Mode().Perm()&0o022 != 0:
		return fmt.Errorf("%s: mode %04o lets others write in it", k.dir, info.Mode().Perm())
	case !owned(info, true):
		return fmt.Errorf("%s: it is another user's", k.dir)
	}
	return nil
}
