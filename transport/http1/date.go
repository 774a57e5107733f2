package http1

import (
	"sync/atomic"
	"time"
)

// A Date gives the value of the Date field (RFC 9110 §6.6.1), formatted once a second. Its zero value is ready. Safe for
// concurrent use.
type Date struct{ text atomic.Pointer[dateText] }

type dateText struct {
	second int64
	text   string
}

// Field gives the value at a moment.
func (d *Date) Field(now time.Time) string {
	t := d.text.Load()
	if second := now.Unix(); t == nil || t.second != second {
		t = &dateText{second, now.UTC().Format("Mon, 02 Jan 2006 15:04:05 GMT")}
		d.text.Store(t)
	}
	return t.text
}
