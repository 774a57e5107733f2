package proxy

import (
	"maps"
	"sync"
)

// replyKey is what answers of our own are counted by.
type replyKey struct{ direction, flag, reason string }

// replies counts answers of our own.
type replies struct {
	mu     sync.Mutex // guards counts
	counts map[replyKey]uint64
}

// report notes an answer and tells those who want to know.
func (s *Sidecar) report(l LocalReply) {
	s.replies.add(l)
	if s.config.OnReply != nil {
		s.config.OnReply(l)
	}
}

func (r *replies) add(l LocalReply) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = make(map[replyKey]uint64)
	}
	r.counts[replyKey{l.Direction, l.Flag, l.Reason}]++
}

func (r *replies) counted() map[replyKey]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.counts)
}
