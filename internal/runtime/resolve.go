package runtime

import "net"

// lookupNetwork says which addresses of a name get anywhere from this machine: "ip4" or "ip6" where it has an
// address of one family only, else "ip". Istio has Envoy look names up by the families of the proxy's own
// addresses in the same way; an endpoint that cannot be reached would otherwise take its share of the calls.
func lookupNetwork() string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "ip"
	}
	return families(addrs)
}

func families(addrs []net.Addr) string {
	var four, six bool
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok || !n.IP.IsGlobalUnicast() {
			continue
		}
		if n.IP.To4() != nil {
			four = true
		} else {
			six = true
		}
	}
	switch {
	case four && !six:
		return "ip4"
	case six && !four:
		return "ip6"
	}
	return "ip"
}
