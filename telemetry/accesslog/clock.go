package accesslog

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A clockPart is a piece of a time as it is written: a layout of package time, a text, or seconds since 1970.
type clockPart struct {
	layout  string
	literal string
	epoch   bool
	digits  int // of a second's fraction, where layout and literal are ""
}

// defaultClock is Envoy's: 2006-01-02T15:04:05.000Z.
var defaultClock = []clockPart{{layout: "2006-01-02T15:04:05.000Z"}}

var directives = map[byte]string{'Y': "2006", 'm': "01", 'd': "02", 'e': "_2", 'H': "15", 'I': "03", 'M': "04", 'S': "05", 'p': "PM", 'y': "06", 'j': "002",
	'a': "Mon", 'A': "Monday", 'b': "Jan", 'B': "January", 'F': "2006-01-02", 'T': "15:04:05", 'Z': "MST", 'z': "-0700", 'D': "01/02/06", 'R': "15:04"}

// parseClock reads the argument of %START_TIME(…)%: strftime's directives, and Envoy's %s, %3f, %6f, %9f and %f.
func parseClock(s string) (parts []clockPart, err error) {
	for s != "" {
		i := strings.IndexByte(s, '%')
		if i < 0 {
			return append(parts, clockPart{literal: s}), nil
		}
		if i > 0 {
			parts = append(parts, clockPart{literal: s[:i]})
		}
		if s = s[i+1:]; s == "" {
			return nil, fmt.Errorf("ends in the middle of a directive")
		}
		switch c := s[0]; {
		case c == '%':
			parts = append(parts, clockPart{literal: "%"})
		case c == 's':
			parts = append(parts, clockPart{epoch: true})
		case c == 'f':
			parts = append(parts, clockPart{digits: 9})
		case '1' <= c && c <= '9' && len(s) > 1 && s[1] == 'f':
			parts = append(parts, clockPart{digits: int(c - '0')})
			s = s[1:]
		case directives[c] != "":
			parts = append(parts, clockPart{layout: directives[c]})
		default:
			return nil, fmt.Errorf("has the directive %%%c, which is none of a time's", c)
		}
		s = s[1:]
	}
	return parts, nil
}

func (p *clockPart) append(b []byte, t time.Time) []byte {
	switch {
	case p.layout != "":
		return t.UTC().AppendFormat(b, p.layout)
	case p.literal != "":
		return append(b, p.literal...)
	case p.epoch:
		return strconv.AppendInt(b, t.Unix(), 10)
	}
	n := t.Nanosecond()
	for range 9 - p.digits {
		n /= 10
	}
	for unit := pow10(p.digits - 1); unit > 0; unit /= 10 {
		b = append(b, byte('0'+n/unit%10))
	}
	return b
}

func pow10(n int) int {
	p := 1
	for range n {
		p *= 10
	}
	return p
}
