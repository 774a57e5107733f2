package telemetry

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/heddlemesh/mesh/call"
)

// An Outcome is how a request ended, as labels tell it. It is comparable.
type Outcome struct {
	Code  uint16 // HTTP's; 0 where the caller was gone before an answer
	GRPC  uint8  // grpc-status plus one of an RPC, 0 for what is none
	Flags call.Flags
}

func (o Outcome) labels() (code, flags, protocol, status string) {
	if o == beyond {
		return Other, Other, Other, ""
	}
	code, flags, protocol = strconv.Itoa(int(o.Code)), o.Flags.String(), "http"
	if o.GRPC != 0 {
		protocol, status = "grpc", strconv.Itoa(int(o.GRPC)-1)
	}
	return code, flags, protocol, status
}

// GRPCStatus reads a grpc-status for Outcome.GRPC: UNKNOWN for what is none (gRPC over HTTP/2).
func GRPCStatus(text string) uint8 {
	n, err := strconv.ParseUint(text, 10, 8)
	if err != nil || n >= uint64(len(grpcCodes)) {
		return 2 + 1
	}
	return uint8(n) + 1
}

// beyond stands for any outcome.
var beyond = Outcome{Code: 1<<16 - 1}

// A Measurement is what one request took.
type Measurement struct {
	Duration                          time.Duration // to the end of the answer's body
	RequestBytes, ResponseBytes       uint64        // of the bodies
	RequestMessages, ResponseMessages uint64        // of an RPC
}

// A Group is the metrics between one caller and one callee, by outcome. It is safe for concurrent use.
type Group struct {
	labels Labels
	store  *Store
	all    atomic.Pointer[[]*Series] // the list is not changed once it is there; guarded by store.mu for writing
}

// Labels gives what the group was made for, which must not be changed.
func (g *Group) Labels() *Labels { return &g.labels }

// A Series is the metrics of one outcome. It is safe for concurrent use.
type Series struct {
	group    *Group
	outcome  Outcome
	duration histogram // milliseconds
	request  histogram // bytes
	response histogram
	messages *[2]atomic.Uint64 // of RPCs: requests, responses
}

// Series gives the series of an outcome: the same one each time. The first time it makes it, or, where the store is
// full, gives that of everything else. It does not allocate where it is there.
func (g *Group) Series(o Outcome) *Series {
	if list := g.all.Load(); list != nil {
		for _, s := range *list {
			if s.outcome == o {
				return s
			}
		}
	}
	return g.store.series(g, o)
}

// Outcome gives what the series was made for.
func (s *Series) Outcome() Outcome { return s.outcome }

// Instead gives the series of another outcome between the same two.
func (s *Series) Instead(o Outcome) *Series { return s.group.Series(o) }

// Record adds one request. It neither allocates nor waits, unless the store's sink does.
func (s *Series) Record(m Measurement) {
	s.duration.add(uint64(max(m.Duration, 0)) / uint64(time.Microsecond))
	s.request.add(m.RequestBytes * 1000)
	s.response.add(m.ResponseBytes * 1000)
	if s.messages != nil {
		s.messages[0].Add(m.RequestMessages)
		s.messages[1].Add(m.ResponseMessages)
	}
	if sink := s.group.store.sink; sink != nil {
		sink.Request(&s.group.labels, s.outcome, m)
	}
}
