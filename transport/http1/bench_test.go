package http1

import (
	"bufio"
	"io"
	"net/http"
	"testing"
	"time"
)

// One request head, read by us and by net/http.
func BenchmarkReadRequest(b *testing.B) {
	b.Run("http1", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(browserRequest)))
		c := conn(b, &loop{b: []byte(browserRequest)}, nil)
		var q Request
		for b.Loop() {
			if err := c.ReadRequest(&q); err != nil {
				b.Fatal(err)
			}
			c.Release()
		}
	})
	b.Run("nethttp", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(browserRequest)))
		r := bufio.NewReader(&loop{b: []byte(browserRequest)})
		for b.Loop() {
			if _, err := http.ReadRequest(r); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// One response with a body of 16 bytes.
func BenchmarkReadResponse(b *testing.B) { benchmarkResponse(b, serverResponse) }

// One response with two chunks of 1 KiB and a trailer field.
func BenchmarkReadChunked(b *testing.B) { benchmarkResponse(b, chunkedResponse) }

func benchmarkResponse(b *testing.B, raw string) {
	b.Run("http1", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(raw)))
		c := conn(b, &loop{b: []byte(raw)}, nil)
		var p Response
		for b.Loop() {
			if err := c.ReadResponse(&p, "GET"); err != nil {
				b.Fatal(err)
			}
			if _, err := p.Body.Drain(1 << 20); err != nil {
				b.Fatal(err)
			}
			c.Release()
		}
	})
	b.Run("nethttp", func(b *testing.B) {
		b.ReportAllocs()
		b.SetBytes(int64(len(raw)))
		r := bufio.NewReader(&loop{b: []byte(raw)})
		q := &http.Request{Method: "GET"}
		for b.Loop() {
			p, err := http.ReadResponse(r, q)
			if err != nil {
				b.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, p.Body); err != nil {
				b.Fatal(err)
			}
			_ = p.Body.Close()
		}
	})
}

// The head of a request read, and written again as a proxy writes it.
func BenchmarkRewrite(b *testing.B) {
	b.ReportAllocs()
	c, out := conn(b, &loop{b: []byte(browserRequest)}, nil), conn(b, &loop{}, nil)
	var q Request
	var w Writer
	for b.Loop() {
		if err := c.ReadRequest(&q); err != nil {
			b.Fatal(err)
		}
		w.Reset(out)
		w.Request(q.Method(), q.Origin())
		for i := range q.Len() {
			if !q.ID(i).HopByHop() {
				w.Copy(&q.Fields, i)
			}
		}
		w.Field("X-Forwarded-Proto", "http")
		if err := w.Finish(nil); err != nil {
			b.Fatal(err)
		}
		w.Release()
		c.Release()
	}
}

func BenchmarkDeadline(b *testing.B) {
	b.Run("wheel", func(b *testing.B) {
		b.ReportAllocs()
		w := NewWheel(0)
		defer w.Close()
		d := w.Add(func() {})
		for b.Loop() {
			d.Arm(time.Minute)
			d.Disarm()
		}
	})
	b.Run("SetDeadline", func(b *testing.B) {
		b.ReportAllocs()
		c, _ := tcpPair(b)
		for b.Loop() {
			_ = c.SetDeadline(time.Now().Add(time.Minute))
			_ = c.SetDeadline(time.Time{})
		}
	})
}

// One tick over 10,000 deadlines.
func BenchmarkWheelTick(b *testing.B) {
	b.ReportAllocs()
	w := NewWheel(time.Hour)
	defer w.Close()
	for range 10000 {
		w.Add(func() {}).Arm(1000 * time.Hour)
	}
	for b.Loop() {
		w.expire(nil)
	}
}

func BenchmarkPool(b *testing.B) {
	b.ReportAllocs()
	p := NewPool[string](PoolLimits{})
	defer p.Close()
	c, _ := idleConn(b, tcpPair)
	now := time.Now()
	p.Put("k", c, now)
	for b.Loop() {
		if c := p.Get("k", now); c == nil || !p.Put("k", c, now) {
			b.Fatal("the connection is lost")
		}
	}
}
