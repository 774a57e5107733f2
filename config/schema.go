package config

import (
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"
)

// A kindState says what this version does with the documents of a kind.
type kindState uint8

const (
	kindServed      kindState = iota // decoded, validated and compiled
	kindRestricting                  // takes something away from someone: refused, for it cannot be enforced
	kindAdditive                     // adds behaviour or concerns other processes: kept, not acted upon
)

// A kindInfo is what the register knows of one kind.
type kindInfo struct {
	group    string
	versions []string // the newest first
	state    kindState
	new      func() proto.Message // of the spec; nil unless served
}

const (
	networkingGroup = "networking.istio.io"
	securityGroup   = "security.istio.io"
	extensionsGroup = "extensions.istio.io"
	telemetryGroup  = "telemetry.istio.io"
	installGroup    = "install.istio.io"
)

var (
	// The three versions of Istio's networking API differ in name only: one Go type serves all.
	networkingVersions = []string{"v1", "v1beta1", "v1alpha3"}
	securityVersions   = []string{"v1", "v1beta1"}
)

// kinds is the register of every kind that is the mesh's own, with the versions Istio 1.31 publishes.
var kinds = map[string]kindInfo{
	"VirtualService": {networkingGroup, networkingVersions, kindServed,
		func() proto.Message { return new(networking.VirtualService) }},
	"DestinationRule": {networkingGroup, networkingVersions, kindServed,
		func() proto.Message { return new(networking.DestinationRule) }},
	"ServiceEntry": {networkingGroup, networkingVersions, kindServed,
		func() proto.Message { return new(networking.ServiceEntry) }},
	"WorkloadEntry": {networkingGroup, networkingVersions, kindServed,
		func() proto.Message { return new(networking.WorkloadEntry) }},

	"AuthorizationPolicy":   {securityGroup, securityVersions, kindRestricting, nil},
	"PeerAuthentication":    {securityGroup, securityVersions, kindRestricting, nil},
	"RequestAuthentication": {securityGroup, securityVersions, kindRestricting, nil},
	"Sidecar":               {networkingGroup, networkingVersions, kindRestricting, nil},
	"EnvoyFilter":           {networkingGroup, []string{"v1alpha3"}, kindRestricting, nil},
	"WasmPlugin":            {extensionsGroup, []string{"v1alpha1"}, kindRestricting, nil},

	"Gateway":          {networkingGroup, networkingVersions, kindAdditive, nil},
	"WorkloadGroup":    {networkingGroup, networkingVersions, kindAdditive, nil},
	"ProxyConfig":      {networkingGroup, []string{"v1beta1"}, kindAdditive, nil},
	"Telemetry":        {telemetryGroup, []string{"v1", "v1alpha1"}, kindAdditive, nil},
	"TrafficExtension": {extensionsGroup, []string{"v1alpha1"}, kindAdditive, nil},
	"IstioOperator":    {installGroup, []string{"v1alpha1"}, kindAdditive, nil},
}

// KnownKinds lists the kinds that are not passed over as somebody else's, sorted: those that are served and
// those that are refused or only warned about. Safe for concurrent use.
func KnownKinds() []string { return slices.Sorted(maps.Keys(kinds)) }

// apiVersions lists what a document of the kind may give as its apiVersion.
func (k kindInfo) apiVersions() []string {
	list := make([]string, len(k.versions))
	for i, v := range k.versions {
		list[i] = k.group + "/" + v
	}
	return list
}

// isMeshGroup reports whether every kind of the API group has to be known here.
func isMeshGroup(group string) bool {
	return group == "istio.io" || strings.HasSuffix(group, ".istio.io") ||
		group == "heddle.dev" || strings.HasSuffix(group, ".heddle.dev")
}

// classify says whether a document of this apiVersion and kind is the mesh's (ours), and if it is one that
// must be refused, why. A kind of ours in a group that looks like a slip of the pen is refused and not
// passed over: a policy must not be lost to a typing error. A kind of the same name in a group that is
// plainly someone else's, as Gateway in gateway.networking.k8s.io, is theirs.
func classify(apiVersion, kind string) (ours bool, field, message, hint string) {
	group, version, slash := strings.Cut(apiVersion, "/")
	if !slash {
		group, version = "", apiVersion
	}
	info, known := kinds[kind]
	switch {
	case !known && isMeshGroup(group):
		return true, "kind", "unknown kind " + quoted(kind), oneOf(kind, KnownKinds())
	case !known:
		return false, "", "", ""
	case group == info.group && slices.Contains(info.versions, version):
		return true, "", "", ""
	case isMeshGroup(group) || resemblesGroup(group, info.group):
		return true, "apiVersion", "unknown apiVersion " + quoted(apiVersion) + " of " + kind,
			oneOf(apiVersion, info.apiVersions())
	}
	return false, "", "", ""
}

func resemblesGroup(group, ours string) bool {
	return !strings.Contains(group, ".") || strings.Contains(strings.ToLower(group), "istio") ||
		len(group) <= 64 && editDistance(group, ours) <= 4
}
