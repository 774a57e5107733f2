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
type flow struct{ from, to uint16 }

// capture records what passes over the loopback interface from and to the ports, until stop is called. It needs to be root.
func capture(t *testing.T, ports map[uint16]string) (stop func() map[flow]*tape) {
	t.Helper()
	const all = 0x0300 // ETH_P_ALL in network order
	fd, err := syscall.Socket(syscall.AF_PACKET, syscall.SOCK_RAW|syscall.SOCK_CLOEXEC, all)
	if errors.Is(err, os.ErrPermission) {
		t.Skip("no packet capture: not root")
	}
	if err != nil {
		t.Fatal(err)
	}
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(syscall.Bind(fd, &syscall.SockaddrLinklayer{Protocol: all, Ifindex: lo.Index}),
		syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUFFORCE, 16<<20),
		syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Usec: 50_000}))
	if err != nil {
		t.Fatal(err)
	}
	end, done := make(chan struct{}), make(chan map[flow]*tape)
	go func() {
		flows := map[flow]*tape{}
		buf := make([]byte, 256<<10)
		ending := false
		for {
			n, _, err := syscall.Recvfrom(fd, buf, 0)
			switch {
			case err == nil:
				record(flows, ports, buf[:n])
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
func record(flows map[flow]*tape, ports map[uint16]string, frame []byte) {
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
	f := flow{binary.BigEndian.Uint16(tcp), binary.BigEndian.Uint16(tcp[2:])}
	payload := tcp[int(tcp[12]>>4)*4:]
	what := ""
	if name := ports[f.to]; name != "" {
		what = "to " + name
	} else if name := ports[f.from]; name != "" {
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

// TestCapture: a packet capture of BookInfo under STRICT has nothing of what the processes say to each other.
func TestCapture(t *testing.T) {
	t.Parallel()
	capture(t, nil)() // or skip before anything is started
	b, err := start(t.Context(), settings{addr: "127.0.0.1:0", languages: auto, rules: strictRules(t, 2), stderr: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.stop)
	ports := map[uint16]string{}
	for _, i := range b.instances {
		if i.service != "productpage" {
			ports[netip.MustParseAddrPort(i.address()).Port()] = i.name
		}
	}
	stop := capture(t, ports)
	openPages(t, b)
	seen, bytesSeen := map[string]bool{}, 0
	for f, r := range stop() {
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
