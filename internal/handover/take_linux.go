package handover

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// greetTime is how long a predecessor may take to send its sockets.
const greetTime = 5 * time.Second

// A Taken are the sockets of a predecessor that still uses them. It is used by one goroutine.
type Taken struct {
	conn *net.UnixConn
	left []Socket
}

// Take asks who serves at the path for its sockets; nil where there is nobody. The predecessor must be of the same user, or root's.
func Take(ctx context.Context, path string) (*Taken, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("take over: %w", err)
	}
	t := &Taken{conn: c.(*net.UnixConn)}
	if err := t.receive(); err != nil {
		t.Close()
		return nil, fmt.Errorf("take over from %s: %w", path, err)
	}
	return t, nil
}

func (t *Taken) receive() error {
	if err := trusted(t.conn); err != nil {
		return err
	}
	if err := t.conn.SetDeadline(time.Now().Add(greetTime)); err != nil {
		return err
	}
	text, oob := make([]byte, maxGreeting), make([]byte, syscall.CmsgSpace(4*maxSockets))
	n, oobn, _, _, err := t.conn.ReadMsgUnix(text, oob)
	if err != nil {
		return err
	}
	sockets, err := socketsOf(oob[:oobn])
	for _, s := range sockets {
		t.left = append(t.left, Socket{Closer: s})
	}
	if err != nil {
		return err
	}
	text = text[:n]
	for !bytes.HasSuffix(text, []byte("\n")) {
		if n == maxGreeting {
			return errors.New("a greeting without end")
		}
		more, err := t.conn.Read(text[n:maxGreeting])
		if err != nil {
			return err
		}
		n += more
		text = text[:n]
	}
	var g greeting
	if err := json.Unmarshal(text, &g); err != nil {
		return err
	}
	if g.Protocol != protocol || len(g.Names) != len(t.left) {
		return fmt.Errorf("protocol %d with %d sockets for %d names", g.Protocol, len(t.left), len(g.Names))
	}
	for i, name := range g.Names {
		t.left[i].Name = name
	}
	return t.conn.SetDeadline(time.Time{})
}

// socketsOf makes sockets of the descriptors in control messages. Those that it gives are open also where it fails.
func socketsOf(oob []byte) (all []io.Closer, err error) {
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	for i := range messages {
		fds, err := syscall.ParseUnixRights(&messages[i])
		if err != nil {
			return all, err
		}
		for _, fd := range fds {
			s, wrong := socketOf(fd)
			if wrong != nil {
				err = errors.Join(err, wrong)
				continue
			}
			all = append(all, s)
		}
		if err != nil {
			return all, err
		}
	}
	return all, nil
}

// socketOf makes a net.Listener or a net.PacketConn of a descriptor, which it closes: they have one of their own.
func socketOf(fd int) (io.Closer, error) {
	syscall.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	kind, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_TYPE)
	if err != nil {
		return nil, os.NewSyscallError("getsockopt", err)
	}
	if kind == syscall.SOCK_DGRAM {
		return net.FilePacketConn(f)
	}
	return net.FileListener(f)
}

// Listener gives the predecessor's listener of that name, nil where it has none, or none left.
func (t *Taken) Listener(name string) net.Listener { return take[net.Listener](t, name) }

// PacketConn gives the predecessor's socket of UDP of that name, nil where it has none, or none left.
func (t *Taken) PacketConn(name string) net.PacketConn { return take[net.PacketConn](t, name) }

func take[S io.Closer](t *Taken, name string) (taken S) {
	if t == nil {
		return taken
	}
	for i, one := range t.left {
		if s, ok := one.Closer.(S); ok && one.Name == name {
			t.left = append(t.left[:i], t.left[i+1:]...)
			return s
		}
	}
	return taken
}

// Ready has the predecessor stop, and returns when it accepts and reads nothing any more. Sockets that nobody has asked for are closed, and with the
// predecessor's gone too. Where ctx ends before, the predecessor may not have heard.
func (t *Taken) Ready(ctx context.Context) error {
	defer t.Close()
	stop := context.AfterFunc(ctx, func() { _ = t.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := io.WriteString(t.conn, ready); err != nil {
		return fmt.Errorf("take over: %w", err)
	}
	answer := make([]byte, len(yours))
	if _, err := io.ReadFull(t.conn, answer); err != nil {
		return fmt.Errorf("take over: the predecessor does not let go: %w", errors.Join(err, ctx.Err()))
	}
	if string(answer) != yours {
		return fmt.Errorf("take over: the predecessor does not let go: it says %q", answer)
	}
	return nil
}

// Close lets go of what was not asked for, and of the predecessor, which goes on as before unless Ready was called. A nil one has nothing.
func (t *Taken) Close() {
	if t == nil {
		return
	}
	for _, s := range t.left {
		_ = s.Close()
	}
	t.left = nil
	_ = t.conn.Close()
}

// trusted refuses a peer that is another user's.
func trusted(c *net.UnixConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var peer *syscall.Ucred
	if e := raw.Control(func(fd uintptr) {
		peer, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); e != nil {
		return e
	}
	if err != nil {
		return err
	}
	if int(peer.Uid) != os.Geteuid() && peer.Uid != 0 {
		return fmt.Errorf("it is user %d's", peer.Uid)
	}
	return nil
}
