package identity

import (
	"context"
	"fmt"
	"time"
)

// An EventKind is what happened to an identity.
type EventKind uint8

const (
	EventTaken   EventKind = iota // material was taken
	EventRefused                  // none came, or it was not sound: what is held stays
	EventAging                    // 50, 80 or 95 % of the SVID's life have gone by and no newer one has come
	EventExpired                  // it has expired: every handshake is refused
)

func (k EventKind) String() string {
	switch k {
	case EventTaken:
		return "taken"
	case EventRefused:
		return "refused"
	case EventAging:
		return "aging"
	case EventExpired:
		return "expired"
	}
	return fmt.Sprintf("EventKind(%d)", uint8(k))
}

// An Event is something that happened to an identity.
type Event struct {
	Kind    EventKind
	ID      ID // the program's, zero before the first SVID
	Expires time.Time
	Percent int   // of the SVID's life, with EventAging
	Err     error // with EventRefused
}

// alarms are the shares of an SVID's life, in percent, at which its age is told.
var alarms = [...]int{50, 80, 95, 100}

// watch tells of an SVID that grows old, each share of its life once, until ctx ends.
func (i *Identity) watch(ctx context.Context) {
	const longest = time.Minute // the clock may be set meanwhile
	var of *held
	told := 0
	for {
		changed := i.Changed()
		wait := longest
		if h := i.held.Load(); h != nil {
			if h != of {
				of, told = h, 0
			}
			told, wait = i.tell(h, told, longest)
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-changed:
			t.Stop()
		case <-t.C:
		}
	}
}

// tell reports the newest alarm that is due, and says how many are over and how long it is to the next.
func (i *Identity) tell(h *held, told int, longest time.Duration) (int, time.Duration) {
	leaf, now := h.own.Leaf, i.now()
	life := leaf.NotAfter.Sub(leaf.NotBefore)
	at := func(n int) time.Time { return leaf.NotBefore.Add(life / 100 * time.Duration(alarms[n])) }
	due := told
	for due < len(alarms) && now.After(at(due)) {
		due++
	}
	if due > told {
		e := Event{Kind: EventAging, ID: h.id, Expires: leaf.NotAfter, Percent: alarms[due-1]}
		if due == len(alarms) {
			e.Kind = EventExpired
		}
		i.mu.Lock()
		i.report(e)
		i.mu.Unlock()
	}
	if due == len(alarms) {
		return due, longest
	}
	return due, min(max(at(due).Sub(now)+time.Millisecond, time.Millisecond), longest)
}
