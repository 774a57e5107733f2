package dns

import (
	"container/list"
	"encoding/binary"
	"sync"
	"time"
)

// The bounds of what a cache keeps. The bytes are of messages and their keys.
const (
	mostCached      = 4096
	mostCachedBytes = 1 << 20
)

// A cache keeps answers as long as they are good, the last used ones where there are too many. It is safe for concurrent use.
type cache struct {
	mu      sync.Mutex // guards what follows
	entries map[string]*list.Element
	used    list.List // the last used first
	bytes   int
}

type cached struct {
	key     string
	message []byte // without OPT
	since   time.Time
	life    time.Duration
}

func (c *cached) size() int { return len(c.key) + len(c.message) }

// get writes what is known of the query. It gives nil for nothing.
func (c *cache) get(q *query, key, out []byte, now time.Time) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := c.entries[string(key)]
	if at == nil {
		return nil
	}
	e := at.Value.(*cached)
	passed := now.Sub(e.since)
	if passed >= e.life {
		c.drop(at)
		return nil
	}
	c.used.MoveToFront(at)
	return q.reply(e.message, passed, out)
}

func (c *cache) put(key string, message []byte, now time.Time) {
	e := &cached{key, message, now, lifetimeOf(message).Duration}
	if e.life <= 0 || e.size() > mostCachedBytes/8 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.entries == nil {
		c.entries = make(map[string]*list.Element)
	}
	if old := c.entries[key]; old != nil {
		c.drop(old)
	}
	c.entries[key] = c.used.PushFront(e)
	c.bytes += e.size()
	for c.bytes > mostCachedBytes || c.used.Len() > mostCached {
		c.drop(c.used.Back())
	}
}

func (c *cache) drop(at *list.Element) {
	e := at.Value.(*cached)
	c.used.Remove(at)
	delete(c.entries, e.key)
	c.bytes -= e.size()
}

// key says which queries have one answer: those for the same, in any case of letters, with the same wishes.
func (q *query) key(out []byte) []byte {
	wishes := q.flags & (bitRecurse | bitAuthentic | bitUnchecked)
	do := byte(0)
	if q.dnssec {
		do = 1
	}
	out = append(out, byte(wishes>>8), byte(wishes), do)
	n := len(q.question) - 4
	for _, b := range q.question[:n] {
		out = append(out, lower(b))
	}
	return append(out, q.question[n:]...)
}

// plain gives a name server's answer without OPT, which is between it and us. What stands behind that is left out too: pointers
// might lead there.
func plain(b []byte) []byte {
	kept, additional := 0, 0
	end := len(b)
	if all, ok := records(b, func(section int, r *record) {
		switch {
		case section != inAdditional || end < len(b):
		case r.kind == typeOPT:
			end, kept = r.start, additional
		default:
			additional++
		}
	}); ok && end == len(b) {
		end, kept = all, additional
	}
	b = append([]byte(nil), b[:end]...)
	binary.BigEndian.PutUint16(b[10:], uint16(kept))
	return b
}

// reply writes an answer that is of an age as one to the query.
func (q *query) reply(message []byte, passed time.Duration, out []byte) []byte {
	out = append(out[:0], message...)
	binary.BigEndian.PutUint16(out, q.id)
	flags := word(out, 2)&^(bitRecurse|bitAuthoritative) | int(q.flags)&bitRecurse | bitRecursion
	binary.BigEndian.PutUint16(out[2:], uint16(flags))
	if word(out, 4) == 1 {
		copy(out[headerLen:], q.question) // in the client's letters
	}
	if passed >= time.Second {
		age(out, passed)
	}
	return q.finish(out, 0)
}
