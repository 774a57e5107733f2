package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/heddlemesh/mesh"
)

// servings are the servers that are compared: HTTP/1.1 requests with some header fields, answered with 1 KiB by a handler.
var servings = []comparison{
	{"Serve with the server codec ÷ bare net/http", "serve-codec", "serve-bare", 0},
	{"Serve with the server codec ÷ Serve", "serve-codec", "serve-mesh", 0.75},
	{"Serve ÷ bare net/http", "serve-mesh", "serve-bare", 0},
}

// serveOne is a server's process. It says where it listens; told so by a line, it begins to measure, and by another it says
// what a request has cost.
func serveOne(name, dir string) error {
	var requests atomic.Int64
	content := []byte(strings.Repeat("x", 1024))
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(content)
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	if name == "serve-bare" || name == "serve-pair-bare" {
		go func() { ended <- srv.Serve(l) }()
	} else {
		m, err := mesh.New(context.Background(), servingAs(name, dir)...)
		if err != nil {
			return err
		}
		var opts []mesh.InboundOption
		if name != "serve-mesh" {
			opts = append(opts, mesh.WithServerCodec())
		}
		go func() { ended <- m.Serve(srv, l, opts...) }()
	}
	fmt.Println(l.Addr())
	in := bufio.NewReader(os.Stdin)
	if _, err := in.ReadString('\n'); err != nil {
		return srv.Close() // nobody asks
	}
	before, n := usage(), requests.Load()
	if _, err := in.ReadString('\n'); err != nil {
		return err
	}
	n = requests.Load() - n
	after := usage()
	each := func(v float64) float64 { return v / float64(max(n, 1)) }
	m := measure{Calls: int(n), CPU: each(after.cpu - before.cpu), Allocs: each(after.allocs - before.allocs), Bytes: each(after.bytes - before.bytes)}
	if err := json.NewEncoder(os.Stdout).Encode(m); err != nil {
		return err
	}
	_, _ = in.ReadString('\n') // until whoever asks is done
	select {
	case err = <-ended:
	default:
	}
	return errors.Join(err, srv.Close())
}

// A running server is a process that is measured from begin to end.
type runningServer struct {
	cmd     *exec.Cmd
	address string
	in      io.WriteCloser
	out     io.Reader
}

func startServer(self, name, dir string) (s *runningServer, err error) {
	s = &runningServer{cmd: exec.Command(self, "-role", name, "-dir", dir)}
	s.cmd.Stderr = os.Stderr
	if s.out, err = s.cmd.StdoutPipe(); err != nil {
		return nil, err
	}
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	if _, err := fmt.Fscanln(s.out, &s.address); err != nil {
		return nil, errors.Join(err, s.end())
	}
	return s, nil
}

// tick begins the measurement, or ends it.
func (s *runningServer) tick() error {
	_, err := io.WriteString(s.in, "\n")
	return err
}

// said gives what the server has measured.
func (s *runningServer) said() (m measure, err error) {
	return m, json.NewDecoder(s.out).Decode(&m)
}

func (s *runningServer) end() error {
	_ = s.in.Close()
	return s.cmd.Wait()
}

// measureServer starts a server, asks it for some time, and gives what it says.
func measureServer(self, name string, connections int, seconds float64) (m measure, err error) {
	s, err := startServer(self, name, "")
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, s.end()) }()
	var asking sync.WaitGroup
	var over atomic.Bool
	for range connections {
		asking.Go(func() { ask(s.address, &over) })
	}
	for _, d := range []float64{seconds / 2, seconds} {
		time.Sleep(time.Duration(d * float64(time.Second)))
		if err := s.tick(); err != nil {
			return m, err
		}
	}
	m, err = s.said()
	over.Store(true)
	asking.Wait()
	return m, err
}

// ask sends ready-made requests on one connection, and reads answers without looking at more than their length.
func ask(address string, over *atomic.Bool) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer func() { _ = c.Close() }()
	request := []byte("GET /things/1?page=2 HTTP/1.1\r\nHost: things\r\nUser-Agent: bench\r\nAccept: application/json\r\nAccept-Encoding: gzip\r\n" +
		"X-Request-Id: 6ba7b810-9dad-41d1-80b4-00c04fd430c8\r\nTraceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n\r\n")
	br := bufio.NewReader(c)
	for !over.Load() {
		if _, err := c.Write(request); err != nil {
			return
		}
		for line := []byte("x"); len(line) > 2; {
			if line, err = br.ReadSlice('\n'); err != nil {
				return
			}
		}
		if _, err := br.Discard(1024); err != nil {
			return
		}
	}
}
