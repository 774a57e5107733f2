package proxy

import (
	"container/list"
	"sync"
)

// maxUnheard bounds the captured connections of one direction of which it is not known yet what they speak, or that shake hands. One
// more takes the place of the one that has been so for longest: a client that speaks is through within a round trip, so that
// silence shuts nobody out.
const maxUnheard = 1024

// Crowded is the reason of replies to captured connections that have made way for others while they said too little. They are
// closed.
const Crowded = "crowded"

// unheard are those connections, the oldest first.
type unheard struct {
	mu  sync.Mutex // guards all, and the sessions' places in it
	all list.List  // of *session
}

// enter notes a session, and ends the oldest where there are too many.
func (u *unheard) enter(s *session) {
	u.mu.Lock()
	var oldest *session
	if u.all.Len() >= maxUnheard {
		oldest = u.all.Front().Value.(*session)
		u.remove(oldest)
	}
	s.unheard = u.all.PushBack(s)
	u.mu.Unlock()
	if oldest != nil {
		oldest.wire.forward.report(LocalReply{Direction: oldest.wire.forward.direction, Flag: "UO", Reason: Crowded, Text: "too many connections say nothing"})
		oldest.cut()
	}
}

// leave notes that it is known what a session speaks, or that it has ended.
func (u *unheard) leave(s *session) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.remove(s)
}

// remove takes a session out, once. u.mu is held.
func (u *unheard) remove(s *session) {
	if s.unheard != nil {
		u.all.Remove(s.unheard)
		s.unheard = nil
	}
}

func (u *unheard) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.all.Len()
}
