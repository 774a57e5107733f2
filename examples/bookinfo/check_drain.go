package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// What is under way all the time around the signal.
const (
	heldForms   = 12                      // sent by half before it, the rest when no connection is taken any more
	slowPages   = 8                       // begun each second: they need details first, and reviews after that
	slowness    = 1200 * time.Millisecond // of details
	leastPages  = 4                       // must be under way, when the signal comes and when the listener closes
	quickVisits = 50                      // a second, of reviews
)

// terminated: SIGTERM is sent to productpage's sidecar under load. What the sidecar has accepted ends as it always
// does, later connections are turned away, the process ends, and it can be started again.
func terminated(ctx context.Context, c *check) (string, error) {
	front, who := c.app.list()[0], "the sidecar"
	if runtime.GOOS == "windows" {
		c.skip("SIGTERM", "there is none on this system")
		return "nothing", nil
	}
	if front.sidecar == 0 {
		c.skip("SIGTERM of a sidecar", "no Python: "+front.name+" has the mesh inside and got it instead")
		who = "the program"
	}
	if err := c.route(ctx, share{"v1", 100}); err != nil {
		return "", err
	}
	slow, err := newSlowDetails(c.app.here())
	if err != nil {
		return "", err
	}
	defer slow.close()
	c.writes++
	if err := c.apply(ctx, detailsFile, slow.rules(c.writes)); err != nil {
		return "", err
	}
	e, err := c.terminate(ctx, front, slow)
	if err != nil {
		return "", err
	}
	measured, err := e.judge()
	if err != nil {
		return "", err
	}
	if err := c.app.awaitEnd(ctx, front.name); err != nil {
		return "", err
	}
	ended := time.Since(e.signalled)
	if err := c.app.restart(ctx, front.name); err != nil {
		return "", err
	}
	if err := c.withdraw(ctx, detailsFile); err != nil {
		return "", err
	}
	if _, err := judgeShares(c.burst(ctx, 20), 20, share{"v1", 100}); err != nil {
		return "", fmt.Errorf("after the restart: %w", err)
	}
	return fmt.Sprintf("%s; %s ended after %s and is back", measured, who, short(ended)), nil
}

// An ending is what was seen around the signal.
type ending struct {
	signalled time.Time // just before it
	open      time.Time // when the listener certainly still took connections: what was sent before counts as accepted
	closed    time.Time // when it certainly did not any more
	forms     []error   // of each form
	early     int       // forms that had ended before they could
	pages     []visit
	visits    []visit
}

// terminate brings requests under way, sends the signal, lets the forms go on once the listener is closed, and
// waits for all answers.
func (c *check) terminate(ctx context.Context, front instanceInfo, slow *slowDetails) (*ending, error) {
	// Every request on a connection of its own: whether one that is kept is closed before or after the next
	// request is on its way is nobody's fault.
	browser := &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	visits := newStream(quickVisits, func() visit { return c.visit(ctx, browser, reviewsPath) })
	defer visits.stop()
	pages := newStream(slowPages, func() visit {
		return timed(ctx, func(ctx context.Context, v *visit) {
			v.status, v.err = c.openPage(ctx, browser, "somebody who waits", "", false, false)
		})
	})
	defer pages.stop()
	forms := make(chan error, heldForms)
	var begun atomic.Int64
	goOn := make(chan struct{})
	for range heldForms {
		go func() { forms <- c.heldForm(ctx, &begun, goOn) }()
	}
	defer func() {
		if goOn != nil {
			close(goOn)
		}
	}()
	if err := reaches(ctx, "forms under way", &begun, heldForms); err != nil {
		return nil, err
	}
	if err := reaches(ctx, "pages under way", &slow.inside, leastPages+2); err != nil {
		return nil, err
	}
	e := &ending{signalled: time.Now()}
	if err := c.app.signal(front.name, syscall.SIGTERM); err != nil {
		return nil, err
	}
	var err error
	if e.open, e.closed, err = c.closes(ctx, front, e.signalled); err != nil {
		return nil, err
	}
	c.notes.detail("the listener was open for %s after the signal", short(e.closed.Sub(e.signalled)))
	e.early = len(forms)
	close(goOn)
	goOn = nil
	for range heldForms {
		e.forms = append(e.forms, <-forms)
	}
	e.pages, e.visits = pages.stop(), visits.stop()
	return e, nil
}

func reaches(ctx context.Context, what string, count *atomic.Int64, n int64) error {
	return until(ctx, func() error {
		if got := count.Load(); got < n {
			return fmt.Errorf("expected %d %s, found %d", n, what, got)
		}
		return nil
	})
}

// closes waits until new connections are refused. It gives the last moment when they were not, and that from which on
// they were; the sidecar's admin page must then say why.
func (c *check) closes(ctx context.Context, front instanceInfo, open time.Time) (_, closed time.Time, err error) {
	err = until(ctx, func() error {
		began := time.Now()
		// A listener that is about to close hears nobody, who would try again after a second.
		conn, err := net.DialTimeout("tcp", front.addr, 100*time.Millisecond)
		if err == nil {
			open, closed = began, time.Time{}
			_ = conn.Close()
			c.notes.progress("the listener is still open")
			return errors.New("expected the listener to close after SIGTERM, found it open")
		}
		if closed.IsZero() {
			closed = began
		}
		if silent, ok := errors.AsType[net.Error](err); ok && silent.Timeout() {
			return errors.New("expected the listener to refuse connections after SIGTERM, found it silent")
		}
		return nil
	})
	if err != nil || front.sidecar == 0 {
		return open, closed, err
	}
	browser := newBrowser()
	defer browser.CloseIdleConnections()
	code, body, err := fetchPage(ctx, browser, c.app.adminURL(front.name)+"/ready")
	if err == nil && (code != http.StatusServiceUnavailable || !strings.Contains(string(body), "DRAINING")) {
		err = fmt.Errorf("expected 503 DRAINING at /ready, found %d %.100q", code, body)
	}
	return open, closed, err
}

// heldForm signs in, with half of the form sent after productpage has asked for it, and the rest when told.
func (c *check) heldForm(ctx context.Context, begun *atomic.Int64, goOn <-chan struct{}) error {
	const first, second = "username=some", "body&passwd=x"
	asked := make(chan struct{})
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got100Continue: sync.OnceFunc(func() { close(asked) })})
	body, form := io.Pipe()
	go func() {
		for _, step := range []struct {
			after <-chan struct{}
			text  string
		}{{asked, first}, {goOn, second}} {
			select {
			case <-step.after:
			case <-ctx.Done():
			}
			if _, err := io.WriteString(form, step.text); err != nil {
				return // it has been answered
			}
			begun.Add(1)
		}
		_ = form.Close()
	}()
	defer body.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url("/login"), body)
	if err != nil {
		return err
	}
	req.ContentLength = int64(len(first + second))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Expect", "100-continue")
	browser := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, ExpectContinueTimeout: 15 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := browser.Do(req)
	if err != nil {
		return fmt.Errorf("a form: %w", err)
	}
	defer resp.Body.Close()
	if cookie := resp.Header.Get("Set-Cookie"); resp.StatusCode != http.StatusFound || !strings.HasPrefix(cookie, sessionCookie+"=somebody;") {
		return fmt.Errorf("a form: expected 302 and a session for somebody, found %s and %q", resp.Status, cookie)
	}
	return nil
}

// judge says whether all that was accepted ended as always.
func (e *ending) judge() (string, error) {
	if e.early > 0 {
		return "", fmt.Errorf("expected %d forms under way when the listener closed, found %d that had ended: %w", len(e.forms), e.early, errors.Join(e.forms...))
	}
	if err := errors.Join(e.forms...); err != nil {
		return "", fmt.Errorf("expected every form under way to end as always, found %w", err)
	}
	atSignal, atEnd := underWay(e.pages, e.signalled, e.signalled), underWay(e.pages, e.open, e.closed)
	if atSignal < leastPages || atEnd < leastPages {
		return "", fmt.Errorf("expected at least %d pages under way, found %d when the signal came and %d when the listener closed", leastPages, atSignal, atEnd)
	}
	pages, _, err := judgeDrain(e.pages, e.open)
	if err != nil {
		return "", fmt.Errorf("pages: %w", err)
	}
	visits, away, err := judgeDrain(e.visits, e.open)
	if err != nil {
		return "", fmt.Errorf("reviews: %w", err)
	}
	if away == 0 {
		return "", fmt.Errorf("expected later requests to be turned away, found none of %d", len(e.visits))
	}
	return fmt.Sprintf("under way when the listener closed: %d forms, half sent, and %d pages; these and all %d requests accepted before ended as always, "+
		"%d later ones were turned away", len(e.forms), atEnd, pages+visits, away), nil
}

// underWay counts visits that had been sent at one moment and not been answered at another.
func underWay(visits []visit, sent, answered time.Time) int {
	n := 0
	for _, v := range visits {
		if !v.wrote.IsZero() && v.wrote.Before(sent) && v.done.After(answered) {
			n++
		}
	}
	return n
}

// judgeDrain looks at requests: those sent while the listener was open came back as always, later ones too or they
// were turned away, without half an answer or an error from anybody.
func judgeDrain(visits []visit, open time.Time) (accepted, away int, err error) {
	for _, v := range visits {
		early := !v.wrote.IsZero() && v.wrote.Before(open)
		if early {
			accepted++
		}
		switch fault := v.fault(); {
		case fault == "":
		case early:
			return 0, 0, fmt.Errorf("expected requests sent while the listener was open to be answered as always, found one, sent %s before it closed, with: %s", short(open.Sub(v.wrote)), fault)
		case v.status != 0:
			return 0, 0, fmt.Errorf("expected later requests to be answered as always or turned away, found: %s", fault)
		default:
			away++
		}
	}
	return accepted, away, nil
}

// detailsFile holds the rules of details for a while.
const detailsFile = "details.yaml"

// slowDetails is a details service of the check's own, with nothing of a mesh, that takes its time.
type slowDetails struct {
	srv    *http.Server
	addr   netip.AddrPort
	inside atomic.Int64 // requests
}

func newSlowDetails(at netip.Addr) (*slowDetails, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(at.String(), "0"))
	if err != nil {
		return nil, err
	}
	s := &slowDetails{addr: netip.MustParseAddrPort(l.Addr().String())}
	mux := http.NewServeMux()
	registerDetails(mux)
	s.srv = &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.inside.Add(1)
		defer s.inside.Add(-1)
		if elapsed(r.Context(), slowness) {
			mux.ServeHTTP(w, r)
		}
	})}
	go func() { _ = s.srv.Serve(l) }()
	return s, nil
}

func (s *slowDetails) close() { _ = s.srv.Close() }

// rules send everybody who asks for details here.
func (s *slowDetails) rules(number int) string {
	return fmt.Sprintf(`apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: slow-details
spec:
  hosts: [slow-details.check.internal]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {number: 9080, name: http, protocol: HTTP}
  endpoints:
  - {address: %s, ports: {http: %d}}
---
%s`, s.addr.Addr(), s.addr.Port(), virtualService(number, "details", `  - route:
    - destination:
        host: slow-details.check.internal
        port:
          number: 9080
`))
}
