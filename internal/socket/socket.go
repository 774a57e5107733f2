// Package socket listens on Unix sockets that nobody but their owner can connect to. Layer L0.
package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
)

// MaxPath is how long the path of a socket can be, in bytes : what sun_path holds without its end, on the systems where it is shortest.
const MaxPath = 103

// Listen listens on a socket of mode 0600, which is at its path only when it has that. A socket that is left over, on which nobody listens,
// gives way; anything else that is there does not. Close removes it.
func Listen(path string) (net.Listener, error) {
	if len(path) > MaxPath {
		return nil, fmt.Errorf("%s: the path is longer than the %d bytes that a socket's can have", path, MaxPath)
	}
	if info, err := os.Lstat(path); err == nil {
		if info.Mode().Type() != fs.ModeSocket {
			return nil, fmt.Errorf("%s is there and is no socket", path)
		}
		if c, err := net.Dial("unix", path); err == nil {
			return nil, errors.Join(fmt.Errorf("%s: somebody listens on it", path), c.Close())
		}
	}
	private, err := os.MkdirTemp(filepath.Dir(path), ".s") // of mode 0700
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(private)
	name := filepath.Join(private, "s")
	if len(name) > MaxPath {
		return nil, fmt.Errorf("%s: the path is too long for a socket to be made beside it", path)
	}
	u, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
	if err != nil {
		return nil, err
	}
	u.SetUnlinkOnClose(false)
	if err = os.Chmod(name, 0o600); err == nil {
		err = os.Rename(name, path)
	}
	if err != nil {
		return nil, errors.Join(err, u.Close())
	}
	return &listener{UnixListener: u, path: path}, nil
}

// A listener is one that is at another path than it was made at.
type listener struct {
	*net.UnixListener
	path   string
	remove sync.Once
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close implements net.Listener.
func (l *listener) Close() error {
	l.remove.Do(func() { _ = os.Remove(l.path) })
	return l.UnixListener.Close()
}
