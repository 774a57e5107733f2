package capture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// DefaultGrace is for how long nobody may listen before a FailOpen lifts rules.
const DefaultGrace = 10 * time.Second

// lookEvery is how often a FailOpen looks who listens. What it does is later by so much at most.
const lookEvery = 500 * time.Millisecond

// ErrUninstalled says that somebody else has taken the rules out that a FailOpen watches.
var ErrUninstalled = errors.New("the rules are gone: somebody has uninstalled them")

// A FailOpen keeps rules installed while a sidecar takes what they capture, and lifts them while none does, so that a program goes on
// without its sidecar: past the mesh, in plaintext, under no policy. It makes no connection to the sidecar: it looks who listens. It needs
// CAP_NET_ADMIN for as long as it runs.
type FailOpen struct {
	Config Config
	// Grace is for how long nobody may listen on either of the sidecar's two ports before rules are lifted. Default: DefaultGrace;
	// negative: none.
	Grace time.Duration
	// Policy says what stays captured all the same. It is asked each time, and again while rules are lifted when Changed says so.
	// Default: OutboundOnly.
	Policy func() Closed
	// Changed has Policy asked anew. Default: never.
	Changed <-chan struct{}
	// Uninstall takes the rules out at the end. Default: they are left there, whole.
	Uninstall bool
	// Tell is told of what happens, in its order.
	Tell func(FailOpenEvent)
	// Run runs the system's tools, and Listening says whether somebody listens on one of the ports. Default: Run, Listening.
	Run       Tool
	Listening func(ports ...uint16) (bool, error)

	now   lift      // what is lifted
	alone time.Time // since when nobody has listened; zero where somebody does
	last  string    // the error that was told of last
	kept  bool      // it was told that nothing may be lifted
}

// Closed is what a FailOpen must not lift.
type Closed struct {
	Outbound string // why the program's own connections stay captured, "" where they need not
	Inbound  string // why all that it is sent stays captured, "" for Ports only
	Ports    []Range
}

// OutboundOnly has a FailOpen lift nothing of what a program is sent.
func OutboundOnly() Closed {
	return Closed{Inbound: "no configuration says on which ports mutual TLS is not required"}
}

// A FailOpenEvent is one thing that a FailOpen has done or found.
type FailOpenEvent struct {
	Kind FailOpenKind
	// Lifted is as Place has it, Closed why the rest is not lifted.
	Lifted string
	Closed Closed
	For    time.Duration // how long nobody has listened, or, where they are captured again, how long they were not
	Err    error
}

// FailOpenKind says what a FailOpenEvent is about.
type FailOpenKind uint8

// The kinds of events.
const (
	Watching FailOpenKind = iota // the rules are installed, whole
	Missing                      // nobody listens; after Grace rules are lifted
	Returned                     // somebody listens again, in time
	Lifted                       // they are lifted now
	Restored                     // somebody listens again, and they are whole again
	Failed                       // something could not be done, and is tried again
	Left                         // it ends, and the rules stay, whole
	Removed                      // it ends, and has taken them out
)

// A lift is what is not captured for now, though the configuration says so.
type lift struct {
	outbound, inbound bool
	closed            []Range // ports that are captured all the same
	since             time.Time
}

func (l *lift) any() bool { return l.outbound || l.inbound }

func (l *lift) same(o *lift) bool {
	return l.outbound == o.outbound && l.inbound == o.inbound && slices.Equal(l.closed, o.closed)
}

// liftedNames are of what the mark of the rules says.
var liftedNames = map[string]string{"out": "outbound", "in": "inbound", "both": "outbound and inbound"}

// name is the one of the mark, "" for nothing.
func (l *lift) name() string {
	switch {
	case l.outbound && l.inbound:
		return "both"
	case l.outbound:
		return "out"
	case l.inbound:
		return "in"
	}
	return ""
}

func (l *lift) mark() string {
	if !l.any() {
		return ""
	}
	return fmt.Sprintf(" %s %d", l.name(), l.since.Unix())
}

// with gives the configuration of what is captured while something is lifted. QUIC that is refused stays so.
func (c Config) with(l lift) Config {
	c.failOpen, c.lifted = true, l
	if l.outbound {
		c.Outbound.nothing, c.DNSPort = true, 0
	}
	if l.inbound {
		c.Inbound.IncludePorts = intersect(c.Inbound.IncludePorts, l.closed)
		c.Inbound.nothing = len(c.Inbound.IncludePorts) == 0
	}
	return c
}

// intersect gives what two lists have both. An empty list of included ports is every port.
func intersect(included, closed []Range) []Range {
	if len(included) == 0 {
		return closed
	}
	var all []Range
	for _, a := range included {
		for _, b := range closed {
			if r := (Range{max(a.First, b.First), min(a.Last, b.Last)}); r.First <= r.Last {
				all = append(all, r)
			}
		}
	}
	return all
}

// Watch installs the rules, whole, and watches until ctx ends; it then leaves them, whole. What cannot be done later on is told of and
// tried again. The error is about the configuration, about what could not be done at the beginning or the end, or ErrUninstalled.
func (f *FailOpen) Watch(ctx context.Context) error {
	f.complete()
	if err := f.install(ctx, lift{}); err != nil {
		return err
	}
	f.Tell(FailOpenEvent{Kind: Watching, Closed: f.Policy()})
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		changed := false
		select {
		case <-ctx.Done():
			return f.end(context.WithoutCancel(ctx))
		case <-f.Changed:
			changed = true
		case <-tick.C:
		}
		err := f.look(ctx, changed)
		if errors.Is(err, ErrUninstalled) {
			return err
		}
		f.failed(ctx, err)
	}
}

func (f *FailOpen) complete() {
	if f.Grace == 0 {
		f.Grace = DefaultGrace
	}
	if f.Policy == nil {
		f.Policy = OutboundOnly
	}
	if f.Run == nil {
		f.Run = Run
	}
	if f.Listening == nil {
		f.Listening = Listening
	}
}

// look does what is to be done. While it is not known who listens everything stays as it is.
func (f *FailOpen) look(ctx context.Context, changed bool) error {
	c, err := f.Config.complete()
	if err != nil {
		return err
	}
	there, err := f.Listening(c.OutboundPort, c.InboundPort)
	switch {
	case err != nil:
		return err
	case there && f.now.any():
		return f.restore(ctx)
	case there && !f.alone.IsZero():
		f.Tell(FailOpenEvent{Kind: Returned, For: time.Since(f.alone)})
		f.alone, f.kept = time.Time{}, false
	case there:
	case f.alone.IsZero():
		f.alone = time.Now()
		if f.Grace > 0 {
			f.Tell(FailOpenEvent{Kind: Missing})
			return nil
		}
		return f.lift(ctx)
	case !f.now.any() && time.Since(f.alone) >= f.Grace, f.now.any() && changed:
		return f.lift(ctx)
	}
	return nil
}

// lift lifts what policy lets be lifted.
func (f *FailOpen) lift(ctx context.Context) error {
	closed := f.Policy()
	l := lift{outbound: closed.Outbound == "", inbound: closed.Inbound == "", since: time.Now()}
	if l.inbound {
		l.closed = closed.Ports
	}
	if f.now.any() {
		l.since = f.now.since
	}
	if f.kept && !l.any() {
		return nil
	}
	if !l.same(&f.now) {
		if err := f.replace(ctx, l); err != nil {
			return err
		}
	} else if l.any() {
		return nil
	}
	f.kept = !l.any()
	f.Tell(FailOpenEvent{Kind: Lifted, Lifted: liftedNames[l.name()], Closed: closed, For: time.Since(f.alone)})
	return nil
}

// restore has everything captured again.
func (f *FailOpen) restore(ctx context.Context) error {
	open := time.Since(f.now.since)
	if err := f.replace(ctx, lift{}); err != nil {
		return err
	}
	f.alone = time.Time{}
	f.Tell(FailOpenEvent{Kind: Restored, For: open})
	return nil
}

// replace puts rules in the place of those that are there.
func (f *FailOpen) replace(ctx context.Context, l lift) error {
	found, err := Status(ctx, f.Run)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return ErrUninstalled
	}
	return f.install(ctx, l)
}

func (f *FailOpen) install(ctx context.Context, l lift) error {
	if err := Install(ctx, f.Config.with(l), f.Run); err != nil {
		return err
	}
	f.now = l
	return nil
}

func (f *FailOpen) end(ctx context.Context) error {
	if f.Uninstall {
		if err := Uninstall(ctx, f.Run); err != nil {
			return err
		}
		f.Tell(FailOpenEvent{Kind: Removed})
		return nil
	}
	if f.now.any() {
		if err := f.replace(ctx, lift{}); err != nil {
			return err
		}
	}
	f.Tell(FailOpenEvent{Kind: Left})
	return nil
}

// failed tells of an error, once for as long as it stays the same.
func (f *FailOpen) failed(ctx context.Context, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != f.last && text != "" && ctx.Err() == nil {
		f.Tell(FailOpenEvent{Kind: Failed, Err: err})
	}
	f.last = text
}

// String gives the ports as flags have them.
func (c *Closed) String() string {
	var b strings.Builder
	for i, r := range c.Ports {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(r.text("-"))
	}
	return b.String()
}
