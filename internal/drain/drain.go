// Package drain ends listening without resetting whom the kernel has accepted already.
//
// Closing a listening socket resets the connections in its queue: clients for whom the three-way handshake is done,
// and whose request may be on its way. So who stops listening calls Stop, goes on accepting until that fails, takes
// what Queued gives, and closes then.
package drain

import (
	"net"
	"time"
)

// Grace is how long a listener still accepts after Stop: long enough for a handshake under way on a local network.
const Grace = 5 * time.Millisecond

// Stop has the listener take no new connections, where the system can do that, and has Accept, from Grace on, fail with
// os.ErrDeadlineExceeded, once nothing comes any more. It reports false where the listener knows no deadlines: that
// one can only be closed.
//
// Where it is a plain TCP listener on Linux, a filter drops every SYN from here on: whoever comes now tries again
// a second later, and finds nobody or a successor; nobody is reset. Elsewhere — also with the
// listeners of multipath TCP that net.Listen makes, see net.ListenConfig.SetMultipathTCP — some microseconds between
// the last look into the queue and the close remain in which a connection is reset.
func Stop(l net.Listener) bool {
	d, ok := l.(interface{ SetDeadline(time.Time) error })
	if !ok {
		return false
	}
	refuse(l)
	return d.SetDeadline(time.Now().Add(Grace)) == nil
}
