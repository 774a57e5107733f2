package http1

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// asker is a connection that has had one answer, and a request for it.
func asker(t *testing.T, pair func(testing.TB) (net.Conn, net.Conn)) (*Conn, net.Conn, *Writer) {
	t.Helper()
	c, server := idleConn(t, pair)
	c.Release()
	t.Cleanup(func() { _, _ = c.Close(), server.Close() })
	w := new(Writer)
	t.Cleanup(w.Release)
	w.Reset(c)
	w.Request("POST", "/a")
	w.Field("Host", "a")
	w.Length(5)
	return c, server, w
}

// B-090: nothing of a request goes to a connection that has ended or said something unasked.
func TestAsk(t *testing.T) {
	t.Parallel()
	for name, pair := range map[string]func(testing.TB) (net.Conn, net.Conn){"unix": unixPair, "tcp": tcpPair, "pipe": pipePair, "tls": tlsPair} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			t.Run("answered", func(t *testing.T) {
				t.Parallel()
				c, server, w := asker(t, pair)
				got := make(chan string, 1)
				go func() {
					b := make([]byte, len("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"))
					_, _ = io.ReadFull(server, b)
					got <- string(b)
					_, _ = io.WriteString(server, ok("Content-Length: 5"))
				}()
				if err := c.Ask(w, []byte("hello")); err != nil {
					t.Fatal(err)
				}
				var p Response
				if err := c.ReadResponse(&p, "POST"); err != nil || p.Status() != 200 {
					t.Fatalf("%d, %v", p.Status(), err)
				}
				if body, err := byNext(&p.Body); err != nil || string(body) != "hello" {
					t.Errorf("%q, %v", body, err)
				}
				if request := <-got; !strings.HasSuffix(request, "\r\n\r\nhello") {
					t.Errorf("%q", request)
				}
			})
			t.Run("ended with the request", func(t *testing.T) {
				t.Parallel()
				c, server, w := asker(t, pair)
				go func() {
					_, _ = io.ReadFull(server, make([]byte, 40))
					_ = server.Close()
				}()
				err := c.Ask(w, []byte("hello"))
				var p Response
				if err == nil {
					err = c.ReadResponse(&p, "POST")
				}
				if err == nil || errors.Is(err, errStale) || w.Sent() == 0 {
					t.Errorf("%v, %d bytes sent", err, w.Sent())
				}
			})
			for _, stale := range []struct{ name, late string }{{"closed", ""}, {"unasked bytes", "HTTP/1.1 408 \r\n\r\n"}} {
				t.Run(stale.name, func(t *testing.T) {
					t.Parallel()
					if name == "pipe" && stale.late != "" {
						t.Skip("see Alive: nothing shows there before it is read")
					}
					c, server, w := asker(t, pair)
					if stale.late != "" {
						_, _ = io.WriteString(server, stale.late)
					} else {
						_ = server.Close()
					}
					if c.raw.conn != nil {
						waitFor(t, func() bool { return !c.Alive() })
					}
					if err := c.Ask(w, []byte("hello")); !errors.Is(err, errStale) || w.Sent() != 0 {
						t.Errorf("%v, %d bytes sent", err, w.Sent())
					}
				})
			}
		})
	}
}

// A deadline ends the wait of Ask as it ends a read, and what ends it shows in ReadResponse.
func TestAskDeadline(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]bool{"before": true, "meanwhile": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, server, w := asker(t, tcpPair)
			if before {
				_ = c.NetConn().SetDeadline(time.Unix(1, 0))
			} else {
				go func() {
					_, _ = io.ReadFull(server, make([]byte, 40)) // it waits by now, or soon
					_ = c.NetConn().SetDeadline(time.Unix(1, 0))
				}()
			}
			err := c.Ask(w, []byte("hello"))
			if before != (w.Sent() == 0) {
				t.Errorf("%d bytes sent", w.Sent())
			}
			var p Response
			if err == nil {
				err = c.ReadResponse(&p, "POST")
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error(err)
			}
		})
	}
}

// Small pieces wait for room in the socket too.
func TestWriteWaits(t *testing.T) {
	t.Parallel()
	a, w := untilClose(t)
	read := make(chan []byte, 1)
	go func() {
		all, _ := io.ReadAll(a)
		read <- all
	}()
	want := bytes.NewBufferString("HTTP/1.1 200 OK\r\n\r\n")
	for i := range 4096 {
		piece := bytes.Repeat([]byte{byte(i)}, 4<<10)
		want.Write(piece)
		if n, err := w.Write(piece); n != len(piece) || err != nil {
			t.Fatal(n, err)
		}
	}
	_ = w.nc.Close()
	if all := <-read; !bytes.Equal(all, want.Bytes()) {
		t.Errorf("%d bytes came of %d, or others", len(all), want.Len())
	}
}

// A deadline ends the wait for room, and Sent says how far it got.
func TestWriteDeadline(t *testing.T) {
	t.Parallel()
	a, w := untilClose(t)
	_ = w.nc.SetWriteDeadline(time.Now().Add(20 * time.Millisecond))
	var err error
	for err == nil {
		_, err = w.Write([]byte(kilo + kilo + kilo + kilo))
	}
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	_ = w.nc.Close()
	if all, _ := io.ReadAll(a); int64(len(all)) != w.Sent() {
		t.Errorf("%d bytes came, %d were sent", len(all), w.Sent())
	}
}

// untilClose gives a writer in the body of an answer, and its reader.
func untilClose(t *testing.T) (net.Conn, *Writer) {
	t.Helper()
	a, b := tcpPair(t)
	w := new(Writer)
	t.Cleanup(w.Release)
	w.Reset(conn(t, b, nil))
	w.Response(200, "OK", "GET")
	w.UntilClose()
	return a, w
}
