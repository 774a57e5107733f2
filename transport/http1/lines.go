package http1

import "bytes"

// lines finds the lines of one section, a head or a trailer section, as its bytes come. It looks at each byte once,
// however slowly they come. Offsets are relative to the start of the section, which may move in memory.
type lines struct {
	limits *Limits
	total  int // what bounds the section
	large  *refusal
	late   bool // a trailer section
	pos    int  // start of the line at hand
	scan   int  // what lies before has no LF
}

// next gives the end of the line that starts at l.pos, without its CRLF, and moves on; ok is false while the line is
// not complete. most bounds the line.
func (l *lines) next(b []byte, most int, long *refusal) (start, end int, ok bool, err *refusal) {
	at := -1
	if l.scan < len(b) {
		at = bytes.IndexByte(b[l.scan:], '\n')
	}
	seen := len(b)
	if at >= 0 {
		at += l.scan
		seen = at + 1
	}
	// The bound that the bytes pass first counts, however they are cut into reads.
	lineMax, totalMax := l.pos+most+len("\r\n"), l.total
	switch {
	case seen > lineMax && lineMax <= totalMax:
		return 0, 0, false, long
	case seen > totalMax:
		return 0, 0, false, l.large
	case at < 0:
		l.scan = len(b)
		return 0, 0, false, nil
	case at == l.pos || b[at-1] != '\r':
		return 0, 0, false, errBareLF
	}
	start = l.pos
	l.pos, l.scan = at+1, at+1
	return start, at - 1, true, nil
}

// fields adds field lines to f until the empty line. It reports whether that has come.
func (l *lines) fields(b []byte, f *Fields) (bool, *refusal) {
	for {
		start, end, ok, err := l.next(b, l.limits.Field, errFieldSize)
		if err != nil || !ok {
			return false, err
		}
		if start == end {
			return true, nil
		}
		if len(f.list) == l.limits.Fields {
			return false, errFieldCount
		}
		if err := f.add(b, start, end); err != nil {
			return false, err
		}
		if l.late && f.list[len(f.list)-1].id.lateForbidden() {
			return false, errForbidden
		}
	}
}
