package http1_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/heddlemesh/mesh/transport/http1"
)

// A server that answers with what it was sent, and a client that asks it twice over one connection.
func Example() {
	near, far := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- serve(far) }()

	pool := http1.NewPool[string](http1.PoolLimits{})
	pool.Put("echo", http1.NewConn(near, nil), time.Now())
	for _, text := range []string{"hello", "again"} {
		c := pool.Get("echo", time.Now())
		var w http1.Writer
		w.Reset(c)
		w.Request("POST", "/echo")
		w.Field("Host", "echo")
		w.Chunked()
		_, _ = w.Write([]byte(text))
		if err := w.Finish([]byte("!")); err != nil {
			fmt.Println(err)
		}
		w.Release()
		var p http1.Response
		if err := c.ReadResponse(&p, "POST"); err != nil {
			fmt.Println(err)
		}
		body, _ := io.ReadAll(&p.Body)
		fmt.Println(p.Status(), p.Body.Length(), string(body))
		pool.Put("echo", c, time.Now())
	}
	pool.Close()
	fmt.Println(<-served)
	// Output:
	// 200 6 hello!
	// 200 6 again!
	// EOF
}

func serve(nc net.Conn) error {
	c := http1.NewConn(nc, nil)
	defer c.Close()
	var q http1.Request
	var w http1.Writer
	for {
		if err := c.WaitReadable(); err != nil {
			return err
		}
		if err := c.ReadRequest(&q); err != nil {
			return err
		}
		var body []byte
		for {
			piece, err := q.Body.Next(16 << 10)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			body = append(body, piece...)
		}
		w.Reset(c)
		w.Response(200, "OK", q.Method())
		w.Length(int64(len(body)))
		err := w.Finish(body)
		w.Release()
		c.Release()
		if err != nil || !q.Persistent() {
			return err
		}
	}
}
