package capture

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
)

// A Backend is a kind of rules.
type Backend string

// The backends. The last two name the one of iptables' two variants that is meant; IPTables is the system's choice.
const (
	NFTables       Backend = "nftables" // a table "inet heddle", by nft
	IPTables       Backend = "iptables" // chains HEDDLE_…, by iptables-restore and ip6tables-restore
	IPTablesNFT    Backend = "iptables-nft"
	IPTablesLegacy Backend = "iptables-legacy"
)

// Backends are all backends.
var Backends = []Backend{NFTables, IPTables, IPTablesNFT, IPTablesLegacy}

// The defaults, which are Istio's.
const (
	OutboundPort = 15001
	InboundPort  = 15006
	DNSPort      = 15053
	Mark         = 1337 // of packets that stay on this machine though their addresses are others'
	RouteTable   = 133  // which keeps them
	Owner        = 1337 // user and group of the sidecar
)

// A Range is of ports, users or groups, both ends included.
type Range struct{ First, Last uint32 }

// A Selection says which connections of one direction are captured. Where an Include list is not empty, what it does not have
// is not captured; Exclude counts before Include.
type Selection struct {
	IncludePorts, ExcludePorts []Range // of the destination
	// CIDRs are the destination's. Where IncludeCIDRs has one family only, nothing of the other is captured. Of outbound only.
	IncludeCIDRs, ExcludeCIDRs []netip.Prefix
	// Users and groups are those of the process that connects. IncludeUIDs and IncludeGIDs are one list. Of outbound only.
	IncludeUIDs, ExcludeUIDs, IncludeGIDs, ExcludeGIDs []Range
	// Interfaces are those by which outbound connections leave and inbound ones arrive. A name may end in "*".
	IncludeInterfaces, ExcludeInterfaces []string

	nothing bool // of what would be captured
}

// A Config says what is captured. It must not be changed while it is used.
type Config struct {
	Backend Backend // default: NFTables
	// OutboundPort and InboundPort are the sidecar's. Default: OutboundPort, InboundPort.
	OutboundPort, InboundPort uint16
	// DNSPort is the sidecar's for the program's queries by UDP and TCP, whatever server they are for, by port 53. Of Outbound only users
	// and groups count for them. Default: 0, none is captured.
	DNSPort uint16
	// NoQUIC has the program's UDP to port 443 refused at once, so that it takes TCP, which is captured. Of Outbound only users and groups
	// count. Default: it goes past the sidecar.
	NoQUIC bool
	// UIDs and GIDs are the sidecar's users and groups. Default: Owner, where both are empty.
	UIDs, GIDs        []Range
	Outbound, Inbound Selection
	// TPROXY hands what the program is sent to the sidecar as it is, and not by redirection: the sidecar can call the program from
	// its caller's address (DialAs). The sidecar then needs CAP_NET_ADMIN, or from Linux 5.17 on CAP_NET_RAW.
	TPROXY bool
	// NoIPv6 leaves IPv6 alone: it then goes past the sidecar. Default: it is captured.
	NoIPv6 bool

	failOpen bool // a FailOpen watches
	lifted   lift
}

// complete gives the configuration with its defaults, or says what is wrong with it.
func (c Config) complete() (Config, error) {
	if c.Backend == "" {
		c.Backend = NFTables
	}
	if c.OutboundPort == 0 {
		c.OutboundPort = OutboundPort
	}
	if c.InboundPort == 0 {
		c.InboundPort = InboundPort
	}
	if len(c.UIDs)+len(c.GIDs) == 0 {
		c.UIDs, c.GIDs = []Range{{Owner, Owner}}, []Range{{Owner, Owner}}
	}
	switch {
	case !slices.Contains(Backends, c.Backend):
		return c, fmt.Errorf("unknown backend %q", c.Backend)
	case c.OutboundPort == c.InboundPort:
		return c, errors.New("the outbound port and the inbound port are the same")
	case c.DNSPort == c.OutboundPort, c.DNSPort == c.InboundPort:
		return c, errors.New("the port for DNS is one of those for connections")
	}
	in := &c.Inbound
	if len(in.IncludeCIDRs)+len(in.ExcludeCIDRs)+len(in.IncludeUIDs)+len(in.ExcludeUIDs)+len(in.IncludeGIDs)+len(in.ExcludeGIDs) > 0 {
		return c, errors.New("addresses, users and groups select outbound connections only")
	}
	for _, s := range []*Selection{&c.Outbound, &c.Inbound} {
		if err := s.check(); err != nil {
			return c, err
		}
	}
	return c, checkRanges("user or group", 1<<32-2, c.UIDs, c.GIDs)
}

// interfaceName has what nft and iptables both take as a name, and no more than Linux has room for.
var interfaceName = regexp.MustCompile(`^[A-Za-z0-9_.@-]{1,15}$|^[A-Za-z0-9_.@-]{1,14}\*$`)

func (s *Selection) check() error {
	for _, name := range slices.Concat(s.IncludeInterfaces, s.ExcludeInterfaces) {
		if !interfaceName.MatchString(name) {
			return fmt.Errorf("%q is no name of an interface", name)
		}
	}
	for _, p := range slices.Concat(s.IncludeCIDRs, s.ExcludeCIDRs) {
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
			return fmt.Errorf("%s is no range of addresses", p)
		}
	}
	return errors.Join(checkRanges("port", 1<<16-1, s.IncludePorts, s.ExcludePorts),
		checkRanges("user or group", 1<<32-2, s.IncludeUIDs, s.ExcludeUIDs, s.IncludeGIDs, s.ExcludeGIDs))
}

func checkRanges(what string, most uint32, lists ...[]Range) error {
	for _, r := range slices.Concat(lists...) {
		if r.First > r.Last || r.Last > most {
			return fmt.Errorf("%d-%d is no range of a %s", r.First, r.Last, what)
		}
	}
	return nil
}
