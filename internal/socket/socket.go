// Package socket listens on Unix sockets that nobody but their owner can connect to, and finds the system's connection that others are made
// over. Layer L0.
package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// MaxPath is how long the path of a socket can be, in bytes: what sun_path holds without its end, on the systems where it is shortest.
const MaxPath = 103

// Listen listens on a socket of mode 0600, which is at its path only when it has that. A socket that is left over, on which nobody listens,
// gives way; anything else that is there does not. Close removes it. A path that begins with "@" is a name of Linux's abstract space, which has no
// mode: everybody of the network namespace can connect.
func Listen(path string) (net.Listener, error) {
	if strings.HasPrefix(path, "@") {
		return net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	}
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

// Adopt gives a listener that somebody else has made by Listen, and that is at the path. Until Own the path is theirs.
func Adopt(l net.Listener, path string) net.Listener {
	u, ok := l.(*net.UnixListener)
	if !ok || strings.HasPrefix(path, "@") {
		return l
	}
	u.SetUnlinkOnClose(false)
	adopted := &listener{UnixListener: u, path: path}
	adopted.left = true
	return adopted
}

// Pass leaves the path to another listener on the same socket, which removes it where the first would have, and owns it when the first is told to.
func Pass(from, to net.Listener) {
	f, ok := from.(*listener)
	t, both := to.(*listener)
	if !ok || !both {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.left, f.left, f.heir = f.left, true, t
}

// Own has the listener's end, or that of whom it was passed to, remove its path, as is so of one that Listen has made.
func Own(l net.Listener) {
	at, ok := l.(*listener)
	for ok && at != nil {
		at.mu.Lock()
		heir := at.heir
		if heir == nil {
			at.left = false
		}
		at.mu.Unlock()
		at = heir
	}
}

// Leave has the listener's end leave the socket at its path, where it is somebody else's.
func Leave(l net.Listener) {
	if at, ok := l.(*listener); ok {
		at.mu.Lock()
		defer at.mu.Unlock()
		at.left = true
	}
}

// A listener is one that is at another path than it was made at.
type listener struct {
	*net.UnixListener
	path  string
	close sync.Once

	mu   sync.Mutex // guards what follows
	left bool       // the path is somebody else's
	heir *listener  // to whom it was passed
}

// Addr implements net.Listener.
func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close implements net.Listener.
func (l *listener) Close() error {
	l.close.Do(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if !l.left {
			_ = os.Remove(l.path)
		}
	})
	return l.UnixListener.Close()
}

// Beneath gives the system's connection that another is made over, by TLS or by what reads what comes before it: what has a method
// NetConn says over which. One without is it.
func Beneath(nc net.Conn) net.Conn {
	for {
		over, ok := nc.(interface{ NetConn() net.Conn })
		if !ok {
			return nc
		}
		nc = over.NetConn()
	}
}
