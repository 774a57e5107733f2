package socket_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/heddlemesh/mesh/internal/socket"
)

// TestListen: the socket has its mode, takes the place of one that is left over and of nothing else, and goes with the listener.
func TestListen(t *testing.T) {
	t.Parallel()
	path := pathOf(t)
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := socket.Listen(path); err == nil || !strings.Contains(err.Error(), "somebody listens") {
		t.Errorf("in the place of another's: %v", err)
	}
	left.SetUnlinkOnClose(false)
	_ = left.Close()
	l, err := socket.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if l.Addr().String() != path {
		t.Errorf("it is at %s", l.Addr())
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 0 {
		t.Errorf("left over: %v", entries)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := socket.Listen(path); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("in the place of a file: %v", err)
	}
	if _, err := socket.Listen(filepath.Join(filepath.Dir(path), strings.Repeat("a", 200))); err == nil {
		t.Error("a path of 200 bytes")
	}
}

// TestAdopt: a socket that is handed on stays at its path when who has made it closes it, and goes with who has it then.
func TestAdopt(t *testing.T) {
	t.Parallel()
	path := pathOf(t)
	old, err := socket.Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	l, err := again(old)
	if err != nil {
		t.Fatal(err)
	}
	failed := socket.Adopt(l, path)
	_ = failed.Close() // whose process has not come to serve
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
	if l, err = again(old); err != nil {
		t.Fatal(err)
	}
	l = socket.Adopt(l, path)
	socket.Leave(old)
	_ = old.Close()
	socket.Own(l)
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if l.Addr().String() != path {
		t.Errorf("it is at %s", l.Addr())
	}
	_ = l.Close()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("it is left over: %v", err)
	}
}

// TestPass: who a path was passed to removes it where the first would have, and not before the first is told that it is its own.
func TestPass(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ before, after, there bool }{
		"nobody's yet":    {false, false, true},
		"owned before":    {true, false, false},
		"owned meanwhile": {false, true, false},
	} {
		path := pathOf(t)
		theirs, err := socket.Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		var all []net.Listener
		for range 3 {
			l, err := again(theirs)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, socket.Adopt(l, path))
		}
		if c.before {
			socket.Own(all[0])
		}
		for i := range 2 {
			socket.Pass(all[i], all[i+1])
			_ = all[i].Close()
			if _, err := os.Lstat(path); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if c.after {
			socket.Own(all[0])
		}
		_ = all[2].Close()
		if _, err := os.Lstat(path); (err == nil) != c.there {
			t.Errorf("%s: at the end %v", name, err)
		}
		_ = theirs.Close()
	}
}

// pathOf gives one for a socket, in a directory of its own.
func pathOf(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "s") //nolint:usetesting // t.TempDir's name can be longer than a socket's
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// again gives a listener on the same socket.
func again(l net.Listener) (net.Listener, error) {
	f, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return net.FileListener(f)
}
