package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/heddlemesh/mesh/snapshot"
)

// TestClientShapes: what well-known clients do with a RoundTripper works over ours as it does over net/http's. Each shape
// names the client that it is taken from.
func TestClientShapes(t *testing.T) {
	t.Parallel()
	addr := serve(t, shapesServer)
	for _, leaves := range []*Leaves{NewLeaves(nil, nil), NewNetHTTPLeaves(nil, nil)} {
		r := newRig(t, snapshot.HTTP1, leaves, addr)
		for name, shape := range map[string]func(*http.Client) error{
			"oauth2.Transport": tokenShape, "connect-go unary": unaryShape, "connect-go server stream": streamShape,
			"AWS SDK": signedShape, "OpenAPI generator": generatedShape, "redirects": redirectShape,
		} {
			if err := shape(r.client); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func shapesServer(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	switch r.URL.Path {
	case "/token":
		_, _ = fmt.Fprintf(w, `{"access_token":"%s","expires_in":3600}`, r.PostFormValue("grant_type")+string(b))
	case "/stream":
		w.Header().Set("Content-Type", "application/connect+json")
		for i := range 3 {
			_, _ = w.Write(envelope(0, fmt.Sprintf(`{"n":%d,"of":"%s"}`, i, b[5:])))
			_ = http.NewResponseController(w).Flush()
		}
		_, _ = w.Write(envelope(2, `{}`))
	case "/old":
		http.Redirect(w, r, "/echo", http.StatusTemporaryRedirect)
	default:
		w.Header().Set("X-Got", r.Header.Get("Authorization")+r.Header.Get("X-Amz-Content-Sha256"))
		w.Header().Set("Content-Type", r.Header.Get("Content-Type"))
		w.Header().Set("Trailer", "X-Done")
		_, _ = w.Write(b)
		w.Header().Set("X-Done", "yes")
	}
}

// envelope frames a message of connect's streams.
func envelope(flags byte, message string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{flags}, uint32(len(message)))
	return append(b, message...)
}

// tokenShape fetches a token over the same transport, then sets it on a clone of each request and closes the body of the
// original only where it fails before.
func tokenShape(c *http.Client) error {
	resp, err := c.PostForm("http://svc/token", url.Values{"grant_type": {"client_credentials"}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var token struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&token); err != nil {
		return err
	}
	authorized := &http.Client{Transport: roundTripFunc(func(req *http.Request) (*http.Response, error) {
		clone := req.Clone(req.Context())
		clone.Header.Set("Authorization", "Bearer "+token.AccessToken)
		return c.Transport.RoundTrip(clone)
	})}
	resp, err = authorized.Post("http://svc/echo", "text/plain", strings.NewReader("hello"))
	if err != nil {
		return err
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if want := "Bearer grant_type=client_credentials"; string(b) != "hello" || resp.Header.Get("X-Got") != want {
		return fmt.Errorf("%q with %q: %w", b, resp.Header.Get("X-Got"), errors.Join(err, errors.New("not what was sent")))
	}
	return nil
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// unaryShape writes the message through a pipe while the answer is awaited in another goroutine, under a deadline, and
// reads the trailers.
func unaryShape(c *http.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	pr, pw := io.Pipe()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://svc/echo", pr)
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header["Connect-Protocol-Version"] = []string{"1"}
	type result struct {
		resp *http.Response
		err  error
	}
	done := make(chan result, 1)
	go func() {
		resp, err := c.Do(req)
		done <- result{resp, err}
	}()
	for range 3 {
		if _, err := io.WriteString(pw, `{"a":1}`); err != nil {
			return err
		}
	}
	_ = pw.Close()
	got := <-done
	if got.err != nil {
		return got.err
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(got.resp.Body); err != nil {
		return err
	}
	_ = got.resp.Body.Close()
	if b.String() != strings.Repeat(`{"a":1}`, 3) || got.resp.Trailer.Get("X-Done") != "yes" {
		return fmt.Errorf("%q, trailer %v", b.String(), got.resp.Trailer)
	}
	return nil
}

// streamShape reads message after message while the server writes them.
func streamShape(c *http.Client) error {
	resp, err := c.Post("http://svc/stream", "application/connect+json", bytes.NewReader(envelope(0, "me")))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	for n := 0; ; n++ {
		var head [5]byte
		if _, err := io.ReadFull(resp.Body, head[:]); err != nil {
			return err
		}
		message := make([]byte, binary.BigEndian.Uint32(head[1:]))
		if _, err := io.ReadFull(resp.Body, message); err != nil {
			return err
		}
		if head[0] == 2 {
			if _, err := resp.Body.Read(head[:]); n != 3 || err != io.EOF {
				return fmt.Errorf("%d messages, then %w", n, err)
			}
			return nil
		}
		if string(message) != fmt.Sprintf(`{"n":%d,"of":"me"}`, n) {
			return fmt.Errorf("message %s", message)
		}
	}
}

// signedShape has a body that can be rewound, a length set by hand, header keys written past the canonical form, and an
// Expect.
func signedShape(c *http.Client) error {
	body := strings.Repeat("v", 100_000)
	req, err := http.NewRequest(http.MethodPut, "http://svc/bucket/key%20of?x-id=PutObject", io.NopCloser(strings.NewReader(body)))
	if err != nil {
		return err
	}
	req.ContentLength = int64(len(body))
	req.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(body)), nil }
	req.Header["X-Amz-Content-Sha256"] = []string{"UNSIGNED-PAYLOAD"}
	req.Header["amz-sdk-invocation-id"] = []string{"1"}
	req.Header.Set("Expect", "100-continue")
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if len(b) != len(body) || resp.Header.Get("X-Got") != "UNSIGNED-PAYLOAD" {
		return fmt.Errorf("%d bytes with %q: %w", len(b), resp.Header.Get("X-Got"), errors.Join(err, errors.New("not what was sent")))
	}
	return nil
}

// generatedShape encodes into a buffer, reads the answer whole and puts it back for others to read.
func generatedShape(c *http.Client) error {
	var buf bytes.Buffer
	if err := json.NewEncoder(&buf).Encode(map[string]string{"name": "x"}); err != nil {
		return err
	}
	want := buf.String()
	req, err := http.NewRequest(http.MethodPatch, "http://svc/echo", &buf)
	if err != nil {
		return err
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(b))
	if string(b) != want {
		return fmt.Errorf("%q: %w", b, errors.Join(err, errors.New("not what was sent")))
	}
	return nil
}

// redirectShape lets http.Client follow with the body.
func redirectShape(c *http.Client) error {
	resp, err := c.Post("http://svc/old", "text/plain", strings.NewReader("hello"))
	if err != nil {
		return err
	}
	b, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if string(b) != "hello" || resp.Request.URL.Path != "/echo" {
		return fmt.Errorf("%q from %s: %w", b, resp.Request.URL, errors.Join(err, errors.New("not what was sent")))
	}
	return nil
}
