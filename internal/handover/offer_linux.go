package handover

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// An Offer waits for a successor. It is safe for concurrent use.
type Offer struct {
	path     string
	l        *net.UnixListener
	sockets  func() []Socket
	stop     func()
	report   func(error)
	patience time.Duration

	mu      sync.Mutex // guards what follows
	conn    net.Conn   // of who has the sockets and is not ready yet
	closed  bool
	running sync.WaitGroup
}

// Serve offers sockets, those that there are when a successor asks, at the path, in the place of who did before, to processes of the same user or root's. When a successor is
// ready, stop is called, once: it must not return before nothing is accepted or read any more. report hears, one at a time, of those who did
// not come so far within two minutes.
func Serve(path string, sockets func() []Socket, stop func(), report func(error)) (*Offer, error) {
	return serve(path, sockets, stop, report, startTime)
}

// startTime is how long a successor may take to start: to read its configuration, and to wait for its identity. One that hangs
// must not keep others from taking over for ever.
const startTime = 2 * time.Minute

func serve(path string, sockets func() []Socket, stop func(), report func(error), patience time.Duration) (*Offer, error) {
	next := path + "." + strconv.Itoa(os.Getpid())
	if err := os.Remove(next); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("offer sockets: %w", err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: next})
	if err != nil {
		return nil, fmt.Errorf("offer sockets: %w", err)
	}
	l.SetUnlinkOnClose(false) // by then the name may be a successor's
	if err = os.Chmod(next, 0o600); err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		return nil, fmt.Errorf("offer sockets: %w", errors.Join(err, l.Close(), os.Remove(next)))
	}
	o := &Offer{path: path, l: l, sockets: sockets, stop: stop, report: report, patience: patience}
	o.running.Go(o.run)
	return o, nil
}

// run serves those who come, one after the other, until one has taken over.
func (o *Offer) run() {
	for {
		c, err := o.l.AcceptUnix()
		if err != nil {
			return
		}
		if !o.enter(c) {
			_ = c.Close()
			return
		}
		taken, err := o.hand(c)
		_ = c.Close()
		if taken {
			_ = o.l.Close()
			return
		}
		if o.leave() {
			return
		}
		o.report(fmt.Errorf("hand sockets over: %w", err))
	}
}

func (o *Offer) enter(c net.Conn) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.conn = c
	return !o.closed
}

// leave reports whether the offer has been closed.
func (o *Offer) leave() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.conn = nil
	return o.closed
}

// hand gives the sockets to one successor and reports whether it has taken over.
func (o *Offer) hand(c *net.UnixConn) (bool, error) {
	if err := trusted(c); err != nil {
		return false, err
	}
	if err := o.send(c); err != nil {
		return false, err
	}
	// It ends the connection where it cannot start.
	if err := c.SetReadDeadline(time.Now().Add(o.patience)); err != nil {
		return false, err
	}
	word := make([]byte, len(ready))
	if _, err := io.ReadFull(c, word); err != nil || string(word) != ready {
		return false, errors.Join(errors.New("the successor did not get ready"), err)
	}
	o.stop()
	_, _ = io.WriteString(c, yours) // who does not read it knows that it is ready all the same
	return true, nil
}

func (o *Offer) send(c *net.UnixConn) error {
	g := greeting{Protocol: protocol, Names: []string{}}
	var fds []int
	var files []*os.File
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	sockets := o.sockets()
	if len(sockets) > maxSockets {
		return fmt.Errorf("offer sockets: more than %d", maxSockets)
	}
	for _, s := range sockets {
		f, err := file(s)
		if err != nil {
			return err
		}
		files = append(files, f)
		raw, err := f.SyscallConn() // File.Fd would have the socket block, the predecessor's too
		if err != nil {
			return err
		}
		if err := raw.Control(func(fd uintptr) { fds = append(fds, int(fd)) }); err != nil {
			return err
		}
		g.Names = append(g.Names, s.Name)
	}
	text, err := json.Marshal(g)
	if err != nil {
		return err
	}
	if err := c.SetWriteDeadline(time.Now().Add(greetTime)); err != nil {
		return err
	}
	text = append(text, '\n')
	n, _, err := c.WriteMsgUnix(text, syscall.UnixRights(fds...), nil)
	if err == nil && n < len(text) {
		_, err = c.Write(text[n:])
	}
	return errors.Join(err, c.SetWriteDeadline(time.Time{}))
}

// file gives the descriptor of a socket anew.
func file(s Socket) (*os.File, error) {
	if c, ok := s.Closer.(interface{ File() (*os.File, error) }); ok {
		return c.File()
	}
	return nil, fmt.Errorf("socket %s is neither a listener of TCP nor of UDP, nor a Unix socket's", s.Name)
}

// Close ends the offer, and waits for that. The name at the path stays: who finds nobody behind it takes it.
func (o *Offer) Close() {
	o.mu.Lock()
	o.closed = true
	if o.conn != nil {
		_ = o.conn.Close()
	}
	o.mu.Unlock()
	_ = o.l.Close()
	o.running.Wait()
}
