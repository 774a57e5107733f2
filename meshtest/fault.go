package meshtest

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"
)

// A Fault is something that goes wrong at an instance: see [Instance.Inject]. It is a value and can be used
// any number of times; [First] and [Percent] count anew for each injection.
type Fault struct {
	kind  faultKind
	code  int
	delay time.Duration
	when  []condition // all of them
}

type faultKind uint8

const (
	noFault faultKind = iota
	statusFault
	codeFault
	delayFault
	resetFault
	refuseFault
	hangFault
)

// A condition says which requests, or connections, a fault strikes.
type condition struct {
	first   int     // the first of them, where it is not 0
	percent float64 // else that many of 100
}

// Status answers with the status code and a line of text instead of asking the handler. A gRPC caller gets
// the code that gRPC has for such an answer, Unavailable for 503; see [Code] for one that a server gives.
func Status(code int) Fault { return Fault{kind: statusFault, code: code} }

// Code answers a gRPC call with the code, and with nothing else, instead of asking the service: what a
// grpc.Server sends when a method returns an error before its first message.
func Code(code codes.Code) Fault { return Fault{kind: codeFault, code: int(code)} }

// Delay lets a request wait before the handler, or the next fault, has it. It ends early when the caller
// gives up. Under [Run] the time is fake: it passes at once when nothing else is left to do.
func Delay(d time.Duration) Fault { return Fault{kind: delayFault, delay: d} }

// Reset reads the request's head and then resets its connection: the caller gets ECONNRESET and cannot know
// whether the request was processed. Over HTTP/2 the other requests on the connection go with it. gRPC has
// no error of its own for it: the caller gets Unavailable.
func Reset() Fault { return Fault{kind: resetFault} }

// RefuseConn is an instance that is not there: connections are refused (ECONNREFUSED), kept ones that no
// request uses are closed. A request under way still gets its answer. While it is injected no connection is
// kept, so that under [Percent] and [First], which then count connections, every request makes one. A gRPC
// channel makes some of its own accord.
func RefuseConn() Fault { return Fault{kind: refuseFault} }

// Hang reads the request and never answers. It ends when the caller gives up or the test ends.
func Hang() Fault { return Fault{kind: hangFault} }

// Percent strikes p of 100 requests, drawn from the test's seed.
func Percent(p float64, f Fault) Fault {
	if !(p >= 0 && p <= 100) {
		panic(fmt.Sprintf("meshtest: Percent(%v) is not between 0 and 100", p))
	}
	return f.and(condition{percent: p})
}

// First strikes the first n requests after the injection and then no more.
func First(n int, f Fault) Fault {
	if n <= 0 {
		return f.and(condition{percent: 0})
	}
	return f.and(condition{first: n})
}

// and puts a condition before the others: of First(2, Percent(50, f)) the draw is made for two requests.
func (f Fault) and(c condition) Fault {
	f.when = append([]condition{c}, f.when...)
	return f
}

// String gives the fault as it is written: First(2, Status(503)).
func (f Fault) String() string {
	var s string
	switch f.kind {
	case statusFault:
		s = "Status(" + strconv.Itoa(f.code) + ")"
	case codeFault:
		s = "Code(" + codes.Code(f.code).String() + ")"
	case delayFault:
		s = "Delay(" + f.delay.String() + ")"
	case resetFault:
		s = "Reset()"
	case refuseFault:
		s = "RefuseConn()"
	case hangFault:
		s = "Hang()"
	default:
		s = "no fault"
	}
	for i := len(f.when) - 1; i >= 0; i-- {
		if c := f.when[i]; c.first > 0 {
			s = fmt.Sprintf("First(%d, %s)", c.first, s)
		} else {
			s = fmt.Sprintf("Percent(%v, %s)", c.percent, s)
		}
	}
	return s
}

// An armed fault is one injection. Instance.mu guards it.
type armed struct {
	Fault
	left []int // of each condition's first
}

func (f Fault) arm() *armed {
	if f.kind == statusFault && http.StatusText(f.code) == "" && (f.code < 200 || f.code > 999) {
		panic(fmt.Sprintf("meshtest: Status(%d) is no final status", f.code))
	}
	if f.kind == codeFault && (f.code <= int(codes.OK) || f.code > int(codes.Unauthenticated)) {
		panic(fmt.Sprintf("meshtest: %s is no failure of gRPC", f))
	}
	a := &armed{Fault: f, left: make([]int, len(f.when))}
	for i, c := range f.when {
		a.left[i] = c.first
	}
	return a
}

// strikes decides about one request or connection.
func (a *armed) strikes(random *rand.Rand) bool {
	for i, c := range a.when {
		switch {
		case c.first == 0:
			if random.Float64()*100 >= c.percent {
				return false
			}
		case a.left[i] == 0:
			return false
		default:
			a.left[i]--
		}
	}
	return true
}
