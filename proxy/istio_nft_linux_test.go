package proxy_test

import (
	"testing"

	"github.com/heddlemesh/mesh/internal/capture"
	"github.com/heddlemesh/mesh/internal/netns"
)

// istioNFT are the rules of Istio's native nftables mode for both families, with its defaults (istio/istio, tools/istio-nftables, pkg/capture: what it has
// for all inbound ports and all outbound addresses), but for the owner: in a test the sidecar runs as root.
const istioNFT = `table inet istio-proxy-nat {
	chain prerouting { type nat hook prerouting priority -100; meta l4proto tcp jump istio-inbound; }
	chain output { type nat hook output priority -100; jump istio-output; }
	chain istio-inbound {
		tcp dport 15008 return
		tcp dport 15090 return
		tcp dport 15021 return
		tcp dport 15020 return
		meta l4proto tcp jump istio-in-redirect
	}
	chain istio-redirect { meta l4proto tcp redirect to :15001; }
	chain istio-in-redirect { meta l4proto tcp redirect to :15006; }
	chain istio-output {
		oifname "lo" ip saddr 127.0.0.6/32 return
		oifname "lo" ip6 saddr ::6/128 return
		oifname "lo" ip daddr != 127.0.0.1/32 tcp dport != 15008 meta skuid 0 jump istio-in-redirect
		oifname "lo" ip6 daddr != ::1/128 tcp dport != 15008 meta skuid 0 jump istio-in-redirect
		oifname "lo" meta skuid != 0 return
		meta skuid 0 return
		ip daddr 127.0.0.1/32 return
		ip6 daddr ::1/128 return
		jump istio-redirect
	}
}
`

// installIstioNFT puts them in place, with the address that its tool adds.
func installIstioNFT(t *testing.T) (uninstall func()) {
	t.Helper()
	netns.Command(t, "ip", "-6", "address", "add", "::6/128", "dev", "lo", "nodad")
	if _, err := capture.Run(t.Context(), istioNFT, "nft", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	return func() {
		netns.Command(t, "nft", "flush", "ruleset")
		netns.Command(t, "ip", "-6", "address", "del", "::6/128", "dev", "lo")
	}
}
