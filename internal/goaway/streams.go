package goaway

import "encoding/binary"

// net/http ends what a server says on a stream when its handler returns, and the stream with it where the client has not ended his side; it
// resets by INTERNAL_ERROR alone. A tunnel (RFC 9113 §8.5) ends one direction before the other, and says CONNECT_ERROR: for the streams that
// are followed these frames are the connection's own, in the place of net/http's.

// A stream is one that is followed.
type stream struct {
	headed bool   // its head has gone out
	passed uint64 // bytes of it that have
	ending bool   // it ends when as many as
	total  uint64 // have
	ended  bool
	code   uint32 // by which it is reset, 0 for net/http's own
}

// A filter is what stands between net/http and the connection where streams are followed. Its connection's mu guards it.
type filter struct {
	conn    *Conn
	streams map[uint32]*stream
	frames  frames // as net/http writes them
	held    []byte // the beginning of a head
	drops   bool   // the frame under way goes no further
	due     []byte // frames to be written when the one under way is over
}

// Follow has a stream followed, by whose number no frame has been written yet. It is until a handler that has called EndStream has returned, it
// is reset or forgotten.
func (c *Conn) Follow(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.filter == nil {
		f := &filter{conn: c, streams: make(map[uint32]*stream), frames: c.out}
		c.filter, c.through = f, f.write
	}
	c.filter.streams[id] = new(stream)
}

// EndStream ends what the server says on a stream that is followed, behind the total bytes that its handler has written of it.
func (c *Conn) EndStream(id uint32, total uint64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.filter.streams[id]
	if s == nil {
		return nil
	}
	s.ending, s.total = true, total
	c.filter.end(id, s)
	return c.filter.say()
}

// FailStream has the next RST_STREAM that net/http writes for a stream that is followed have this code.
func (c *Conn) FailStream(id, code uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.filter.streams[id]; s != nil {
		s.code = code
	}
}

// Forget ends the following of a stream that has ended otherwise.
func (c *Conn) Forget(id uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.filter.streams, id)
}

// end has the stream end where all of it has gone out.
func (f *filter) end(id uint32, s *stream) {
	if s.headed && s.ending && !s.ended && s.passed == s.total {
		s.ended = true
		f.due = append(f.due, 0, 0, 0, frameData, flagEndStream)
		f.due = binary.BigEndian.AppendUint32(f.due, id)
	}
}

// say writes what is due, where no frame is under way.
func (f *filter) say() error {
	if len(f.due) == 0 || !f.conn.out.between() {
		return nil
	}
	_, err := f.conn.pass(f.due)
	f.due = f.due[:0]
	return err
}

// write is Conn.Write. A head that comes in pieces is held until it is whole.
func (f *filter) write(b []byte) (int, error) {
	from, at := 0, 0 // what lies between has yet to go out
	for at < len(b) {
		if missing := f.frames.missing(); missing > 0 {
			n := min(missing, len(b)-at)
			f.frames.next(b[at : at+n])
			if n < missing || f.judge() || len(f.held) > 0 {
				if _, err := f.conn.pass(b[from:at]); err != nil {
					return from, err
				}
				f.held = append(f.held, b[at:at+n]...)
				from = at + n
				if n == missing {
					if err := f.release(); err != nil {
						return from, err
					}
				}
			}
			if at += n; n < missing {
				break
			}
		}
		if f.frames.left > 0 && at < len(b) {
			n, _ := f.frames.next(b[at:min(len(b), at+f.frames.left)])
			if at += n; f.drops {
				from = at
			}
		}
		if f.frames.left == 0 {
			f.over()
			if len(f.due) > 0 {
				if _, err := f.conn.pass(b[from:at]); err != nil {
					return from, err
				}
				from = at
				if err := f.say(); err != nil {
					return from, err
				}
			}
		}
	}
	n, err := f.conn.pass(b[from:])
	return from + n, err
}

// release lets a head go that was held, or drops it.
func (f *filter) release() error {
	held := f.held
	f.held = f.held[:0]
	if f.drops {
		return nil
	}
	_, err := f.conn.pass(held)
	return err
}

// judge decides about the frame whose head is there: what net/http says of a stream that has ended by now, and by which code it resets one, goes
// no further.
func (f *filter) judge() bool {
	f.drops = false
	s := f.streams[f.frames.stream()]
	if f.frames.n < len(f.frames.head) || s == nil {
		return false
	}
	switch f.frames.head[3] {
	case frameData:
		f.drops = s.ended
	case frameReset:
		f.drops = s.code != 0
	}
	return f.drops
}

// over notes that a frame is.
func (f *filter) over() {
	id := f.frames.stream()
	s := f.streams[id]
	if s == nil {
		return
	}
	switch f.frames.head[3] {
	case frameHeaders, frameContinuation:
		s.headed = s.headed || f.frames.head[4]&flagEndHeaders != 0
	case frameData:
		if s.passed += uint64(f.frames.size()); s.ended {
			delete(f.streams, id) // the handler has returned
			return
		}
	case frameReset:
		delete(f.streams, id)
		if s.code != 0 {
			f.due = append(f.due, 0, 0, 4, frameReset, 0)
			f.due = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(f.due, id), s.code)
		}
		return
	}
	f.end(id, s)
}
