package main

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
)

// A flow is one way of a TCP connection.
type flow struct{ from, to netip.AddrPort }

// listenTo opens a socket that hears every frame of an interface, "" for all of them. It needs to be root.
func listenTo(link string) (fd int, err error) {
	const all = 0x0300 // ETH_P_ALL in network order
	if fd, err = syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, all); err != nil {
		return 0, err
	}
	at := &syscall.SockaddrLinklayer{Protocol: all}
	if link != "" {
		i, err := net.InterfaceByName(link)
		if err != nil {
			return 0, err
		}
		at.Ifindex = i.Index
	}
	return fd, errors.Join(syscall.Bind(fd, at),
		syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, 16<<20),
		syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Usec: 50_000}))
}

// overhear records what passes from and to the addresses, until stop is called.
func overhear(fd int, of map[netip.AddrPort]string) (stop func() map[flow]*tape) {
	end, done := make(chan struct{}), make(chan map[flow]*tape)
	go func() {
		flows := map[flow]*tape{}
		buf := make([]byte, 256<<10)
		ending := false
		for {
			n, _, err := syscall.Recvfrom(fd, buf, 0)
			switch {
			case err == nil:
				record(flows, of, buf[:n])
			case ending: // and there is nothing more
				_ = syscall.Close(fd)
				done <- flows
				return
			}
			select {
			case <-end:
				ending = true
			default:
			}
		}
	}()
	return func() map[flow]*tape {
		close(end)
		return <-done
	}
}

// record takes the payload of one frame of Ethernet, IPv4 and TCP.
func record(flows map[flow]*tape, of map[netip.AddrPort]string, frame []byte) {
	const ethernet = 14
	if len(frame) < ethernet+20 || frame[ethernet]>>4 != 4 || frame[ethernet+9] != syscall.IPPROTO_TCP {
		return
	}
	packet := frame[ethernet:]
	header := int(packet[0]&15) * 4
	if length := int(binary.BigEndian.Uint16(packet[2:])); length >= header && length <= len(packet) {
		packet = packet[:length]
	}
	tcp := packet[header:]
	if len(tcp) < 20 || len(tcp) < int(tcp[12]>>4)*4 {
		return
	}
	f := flow{endpoint(packet[12:16], tcp), endpoint(packet[16:20], tcp[2:])}
	payload := tcp[int(tcp[12]>>4)*4:]
	what := ""
	if name := of[f.to]; name != "" {
		what = "to " + name
	} else if name := of[f.from]; name != "" {
		what = "from " + name
	}
	if what == "" || len(payload) == 0 {
		return
	}
	if flows[f] == nil {
		flows[f] = &tape{what: what}
	}
	_, _ = flows[f].Write(payload)
}

func endpoint(addr, port []byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(addr)), binary.BigEndian.Uint16(port))
}

// TestCapture: a packet capture of BookInfo under STRICT has nothing of what the processes say to each other.
func TestCapture(t *testing.T) {
	t.Parallel()
	b, err := start(t.Context(), settings{addr: "127.0.0.1:0", languages: auto, rules: strictRules(t, 2), stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.stop)
	fd, err := listenTo("lo") // not before: the services' ports were those of other tests
	if errors.Is(err, os.ErrPermission) {
		t.Skip("no packet capture: not root")
	}
	if err != nil {
		t.Fatal(err)
	}
	stop := overhear(fd, b.behindFront())
	openPages(t, b)
	judgeSecrecy(t, stop())
}

// behindFront are the addresses at which services talk to each other, and to nobody else.
func (b *bookinfo) behindFront() map[netip.AddrPort]string {
	of := map[netip.AddrPort]string{}
	for _, i := range b.instances {
		if i.service != "productpage" {
			of[netip.MustParseAddrPort(i.address())] = i.name
		}
	}
	return of
}

func judgeSecrecy(t *testing.T, flows map[flow]*tape) {
	t.Helper()
	seen, bytesSeen := map[string]bool{}, 0
	for f, r := range flows {
		if found := r.readable(); found != "" { // not its first byte: on a busy machine the kernel may leave a packet out
			t.Errorf("%v: %s", f, found)
		}
		bytesSeen += r.size()
		seen[strings.Split(strings.Fields(r.what)[1], "-")[0]] = true
	}
	if len(seen) != 3 || bytesSeen < 10_000 {
		t.Errorf("%d bytes captured, of %v", bytesSeen, seen)
	}
	t.Logf("%d bytes captured", bytesSeen)
}
