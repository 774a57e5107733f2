package proxy

import (
	"maps"
	"sync"
	"time"
)

// keptReplies is how many of the last answers of our own the admin pages show.
const keptReplies = 64

// A failureView is one of them. It has no path, no query and no header, which may be secret.
type failureView struct {
	At        time.Time `json:"at"`
	Direction string    `json:"direction"`
	Method    string    `json:"method"`
	Host      string    `json:"host"`
	Status    int       `json:"status"`
	Flag      string    `json:"flag"`
	Reason    string    `json:"reason"`
	Details   string    `json:"details"`
}

// replyKey is what answers of our own are counted by.
type replyKey struct{ direction, flag, reason string }

// replies remembers answers of our own.
type replies struct {
	mu     sync.Mutex // guards what follows
	counts map[replyKey]uint64
	last   []failureView // a ring, once it is full
	next   int
}

// report notes an answer and tells those who want to know.
func (s *Sidecar) report(l LocalReply) {
	s.replies.add(time.Now(), l)
	if s.config.OnReply != nil {
		s.config.OnReply(l)
	}
}

func (r *replies) add(now time.Time, l LocalReply) {
	v := failureView{At: now, Direction: l.Direction, Method: l.Method, Host: l.Host, Status: l.Status, Flag: l.Flag,
		Reason: l.Reason, Details: l.Details()}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.counts == nil {
		r.counts = make(map[replyKey]uint64)
	}
	r.counts[replyKey{l.Direction, l.Flag, l.Reason}]++
	if len(r.last) < keptReplies {
		r.last = append(r.last, v)
		return
	}
	r.last[r.next] = v
	r.next = (r.next + 1) % keptReplies
}

// recent lists the last answers, the oldest first.
func (r *replies) recent() []failureView {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append(append([]failureView{}, r.last[r.next:]...), r.last[:r.next]...)
}

func (r *replies) counted() map[replyKey]uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.counts)
}
