package proxy

import (
	"os"
	"sync"
	"syscall"
	"time"
)

// A parking has the directions of tunnels in which nothing moves: they wait by epoll(7), all in one goroutine, and have none of their own
// until something comes. The zero value is open. It is safe for concurrent use.
type parking struct {
	begin sync.Once
	file  *os.File // the epoll instance, itself waited for as Go waits for sockets; nil where there is none
	epoll int      // its descriptor, open until close
	ended chan struct{}

	mu      sync.Mutex // guards what follows
	waiting map[int32]*flow
	warm    map[*flow]struct{} // those that have a goroutine of which something has moved
	sweeper *time.Timer        // armed while there are such
	closed  bool
}

// parkAfter is how long nothing must have moved of a flow before it is parked; at the most it is twice as long.
const parkAfter = time.Second

// watch has a flow nudged when nothing has moved of it for some time.
func (p *parking) watch(f *flow) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	if p.warm == nil {
		p.warm = make(map[*flow]struct{})
	}
	p.warm[f] = struct{}{}
	switch {
	case p.sweeper == nil:
		p.sweeper = time.AfterFunc(parkAfter, p.sweep)
	case len(p.warm) == 1:
		p.sweeper.Reset(parkAfter)
	}
}

func (p *parking) sweep() {
	var still []*flow
	p.mu.Lock()
	for f := range p.warm {
		if !f.waiter.moved.Swap(false) {
			still = append(still, f)
			delete(p.warm, f)
		}
	}
	if len(p.warm) > 0 && !p.closed {
		p.sweeper.Reset(parkAfter)
	}
	p.mu.Unlock()
	for _, f := range still {
		f.nudge()
	}
}

func (p *parking) start() {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return // every direction keeps its goroutine
	}
	if syscall.SetNonblock(fd, true) != nil {
		_ = syscall.Close(fd)
		return
	}
	p.epoll, p.file, p.ended = fd, os.NewFile(uintptr(fd), "epoll"), make(chan struct{})
	go p.run()
}

// close ends the goroutine. No direction must wait any more.
func (p *parking) close() {
	p.begin.Do(func() {})
	p.mu.Lock()
	p.closed = true
	if p.sweeper != nil {
		p.sweeper.Stop()
	}
	p.mu.Unlock()
	if p.file != nil {
		_ = p.file.Close()
		<-p.ended
	}
}

func (p *parking) run() {
	defer close(p.ended)
	raw, err := p.file.SyscallConn()
	if err != nil {
		return
	}
	var events [64]syscall.EpollEvent
	var come []*flow
	for {
		n := 0
		if raw.Read(func(fd uintptr) bool {
			n, err = syscall.EpollWait(int(fd), events[:], 0)
			return n > 0
		}) != nil {
			return
		}
		p.mu.Lock()
		for _, e := range events[:n] {
			if f := p.waiting[e.Fd]; f != nil {
				come = append(come, f)
				delete(p.waiting, e.Fd)
			}
		}
		p.mu.Unlock()
		for i, f := range come {
			f.come()
			come[i] = nil
		}
		come = come[:0]
	}
}

// arm has the flow told once when its source has something to read. The descriptor is held by who calls.
func (p *parking) arm(fd int, f *flow) bool {
	p.begin.Do(p.start)
	if p.file == nil {
		return false
	}
	p.mu.Lock()
	if p.waiting == nil {
		p.waiting = make(map[int32]*flow)
	}
	p.waiting[int32(fd)] = f
	p.mu.Unlock()
	op := syscall.EPOLL_CTL_MOD
	if !f.waiter.known {
		op = syscall.EPOLL_CTL_ADD
	}
	err := syscall.EpollCtl(p.epoll, op, fd, &syscall.EpollEvent{Events: syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLONESHOT, Fd: int32(fd)})
	f.waiter.known, f.waiter.fd = err == nil, int32(fd)
	if err != nil {
		p.forget(f)
	}
	return err == nil
}

// forget takes a flow out that has ended.
func (p *parking) forget(f *flow) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting[f.waiter.fd] == f {
		delete(p.waiting, f.waiter.fd)
	}
	delete(p.warm, f)
}
