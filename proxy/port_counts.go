package proxy

import "sync"

// portCounts count connections by port. It is safe for concurrent use; its zero value has none.
type portCounts struct {
	mu sync.Mutex // guards n
	n  map[uint16]int
}

// enter counts a connection to a port, unless there are as many as most, 0 for any number.
func (c *portCounts) enter(port uint16, most int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if most > 0 && c.n[port] >= most {
		return false
	}
	if c.n == nil {
		c.n = make(map[uint16]int)
	}
	c.n[port]++
	return true
}

func (c *portCounts) leave(port uint16) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n[port]--; c.n[port] == 0 {
		delete(c.n, port)
	}
}
