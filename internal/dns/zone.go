package dns

import (
	"bytes"
	"net/netip"
	"slices"
)

// A Host is a name with addresses.
type Host struct {
	// Name is in small letters and without a dot at its end. One that begins with "*." stands for every name below the rest.
	Name    string
	Aliases []string // further names
	Addrs   []netip.Addr
	// Automatic says that Addrs are from Automatic.
	Automatic bool
}

// A Zone is what a Server answers by itself. It is immutable.
type Zone struct {
	names     map[string]*entry
	automatic map[netip.Addr]string
}

type entry struct{ v4, v6 []netip.Addr }

// NewZone makes one. Of hosts that claim one name the first has it, and a host's own name counts before an alias.
func NewZone(hosts []Host) *Zone {
	z := &Zone{names: make(map[string]*entry), automatic: make(map[netip.Addr]string)}
	entries := make([]*entry, len(hosts))
	claim := func(name string, e *entry) {
		if z.names[name] == nil {
			z.names[name] = e
		}
	}
	for i, h := range hosts {
		e := new(entry)
		for _, a := range h.Addrs {
			if a = a.Unmap(); a.Is4() {
				e.v4 = append(e.v4, a)
			} else {
				e.v6 = append(e.v6, a)
			}
			if h.Automatic {
				z.automatic[a] = h.Name
			}
		}
		entries[i] = e
		claim(h.Name, e)
	}
	for i, h := range hosts {
		for _, alias := range h.Aliases {
			claim(alias, entries[i])
		}
	}
	return z
}

// HostOf gives the host that has an automatic address, "" for none.
func (z *Zone) HostOf(a netip.Addr) string { return z.automatic[a.Unmap()] }

// find gives the entry of a name: its own; that of what the name is with the search domain behind it, which is then in target; or
// the longest wildcard's (istio.io, pkg/dns/client LookupTable).
func (z *Zone) find(name []byte, search string) (e *entry, target []byte) {
	if z == nil || len(name) == 0 {
		return nil, nil
	}
	if e = z.names[string(name)]; e != nil {
		return e, nil
	}
	if rest, ok := bytes.CutSuffix(name, []byte(search)); ok && search != "" && len(rest) > 1 && rest[len(rest)-1] == '.' {
		rest = rest[:len(rest)-1]
		if e = z.names[string(rest)]; e != nil && rest[0] != '*' {
			return e, rest
		}
	}
	var room [2 + maxName]byte
	for rest := name; ; {
		dot := bytes.IndexByte(rest, '.')
		if dot < 0 {
			return nil, nil
		}
		rest = rest[dot+1:]
		if e = z.names[string(append(append(room[:0], '*', '.'), rest...))]; e != nil {
			return e, nil
		}
	}
}

// timeToLive is for how many seconds the addresses of the mesh's hosts are good, as with Istio.
const timeToLive = 30

// answer writes what a zone has for the query into out, which is empty. It reports false for types that it knows nothing of.
func (q *query) answer(e *entry, target, out []byte) ([]byte, bool) {
	var addrs []netip.Addr
	switch q.kind {
	case typeA:
		addrs = e.v4
	case typeAAAA:
		addrs = e.v6
	case typeSVCB, typeHTTPS: // by which a client would go elsewhere
	default:
		return nil, false
	}
	out = q.begin(out, bitAuthoritative, 0)
	name := uint16(headerLen)
	count := 0
	if len(target) > 0 && len(addrs) > 0 {
		out = appendRecord(out, name, typeCNAME, len(target)+2)
		name = uint16(len(out))
		out = appendName(out, target)
		count++
	}
	for _, a := range addrs {
		b := a.AsSlice()
		if len(out)+12+len(b)+optLen > q.limit {
			out[2] |= bitTruncated >> 8
			break
		}
		out = append(appendRecord(out, name, q.kind, len(b)), b...)
		count++
	}
	out[6], out[7] = byte(count>>8), byte(count)
	return q.finish(out, 0), true
}

// appendRecord writes a record up to its data, with a pointer for its name.
func appendRecord(out []byte, name uint16, kind, size int) []byte {
	return append(out, 0xc0|byte(name>>8), byte(name), byte(kind>>8), byte(kind), 0, classIN, 0, 0, 0, timeToLive, byte(size>>8), byte(size))
}

func appendName(out, name []byte) []byte {
	for label := range bytes.SplitSeq(name, []byte{'.'}) {
		out = append(append(out, byte(len(label))), label...)
	}
	return append(out, 0)
}

// Names lists what the zone has names for, sorted.
func (z *Zone) Names() []string {
	names := make([]string, 0, len(z.names))
	for name := range z.names {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
