package config

import (
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	meshapi "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"
	security "istio.io/api/security/v1beta1"
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
	object   func() any           // of the whole document, for a served kind that has no message
}

const (
	networkingGroup = "networking.istio.io"
	securityGroup   = "security.istio.io"
	extensionsGroup = "extensions.istio.io"
	telemetryGroup  = "telemetry.istio.io"
	installGroup    = "install.istio.io"
	meshGroup       = "mesh.istio.io"
	discoveryGroup  = "discovery.k8s.io"
	heddleGroup     = "heddle.dev"
	coreGroup       = ""
)

var (
	// The three versions of Istio's networking API differ in name only: one Go type serves all.
	networkingVersions = []string{"v1", "v1beta1", "v1alpha3"}
	securityVersions   = []string{"v1", "v1beta1"}
)

// kinds is the register of every kind that the mesh reads, with the versions Istio 1.31 publishes, and of
// Kubernetes' own those that say where services are.
var kinds = map[string]kindInfo{
	"VirtualService": {group: networkingGroup, versions: networkingVersions, state: kindServed,
		new: func() proto.Message { return new(networking.VirtualService) }},
	"DestinationRule": {group: networkingGroup, versions: networkingVersions, state: kindServed,
		new: func() proto.Message { return new(networking.DestinationRule) }},
	"ServiceEntry": {group: networkingGroup, versions: networkingVersions, state: kindServed,
		new: func() proto.Message { return new(networking.ServiceEntry) }},
	"WorkloadEntry": {group: networkingGroup, versions: networkingVersions, state: kindServed,
		new: func() proto.Message { return new(networking.WorkloadEntry) }},
	"Sidecar": {group: networkingGroup, versions: networkingVersions, state: kindServed,
		new: func() proto.Message { return new(networking.Sidecar) }},
	// Istio has it in a ConfigMap only (configmap.go); as a document of its own it has the same fields under spec.
	meshConfigKind: {group: meshGroup, versions: []string{"v1alpha1"}, state: kindServed,
		new: func() proto.Message { return new(meshapi.MeshConfig) }},

	"RateLimit": {group: heddleGroup, versions: []string{"v1alpha1"}, state: kindServed,
		object: func() any { return new(rateLimit) }},
	"ResiliencePolicy": {group: heddleGroup, versions: []string{"v1alpha1"}, state: kindServed,
		object: func() any { return new(resiliencePolicy) }},

	"Service": {group: coreGroup, versions: []string{"v1"}, state: kindServed,
		object: func() any { return new(kubeService) }},
	"EndpointSlice": {group: discoveryGroup, versions: []string{"v1"}, state: kindServed,
		object: func() any { return new(kubeSlice) }},
	"Pod": {group: coreGroup, versions: []string{"v1"}, state: kindServed,
		object: func() any { return new(kubePod) }},

	"PeerAuthentication": {group: securityGroup, versions: securityVersions, state: kindServed,
		object: func() any { return new(peerAuthentication) }},
	"Telemetry": {group: telemetryGroup, versions: []string{"v1", "v1alpha1"}, state: kindServed,
		object: func() any { return new(telemetryPolicy) }},
	"AuthorizationPolicy": {group: securityGroup, versions: securityVersions, state: kindServed,
		new: func() proto.Message { return new(security.AuthorizationPolicy) }},
	"RequestAuthentication": {group: securityGroup, versions: securityVersions, state: kindServed,
		new: func() proto.Message { return new(security.RequestAuthentication) }},

	"EnvoyFilter": {group: networkingGroup, versions: []string{"v1alpha3"}, state: kindRestricting},
	"WasmPlugin":  {group: extensionsGroup, versions: []string{"v1alpha1"}, state: kindRestricting},

	"Gateway":          {group: networkingGroup, versions: networkingVersions, state: kindAdditive},
	"WorkloadGroup":    {group: networkingGroup, versions: networkingVersions, state: kindAdditive},
	"ProxyConfig":      {group: networkingGroup, versions: []string{"v1beta1"}, state: kindAdditive},
	"TrafficExtension": {group: extensionsGroup, versions: []string{"v1alpha1"}, state: kindAdditive},
	"IstioOperator":    {group: installGroup, versions: []string{"v1alpha1"}, state: kindAdditive},
}

// KnownKinds lists the kinds that are not passed over as somebody else's, sorted: those that are served and
// those that are refused or only warned about. Safe for concurrent use.
func KnownKinds() []string { return slices.Sorted(maps.Keys(kinds)) }

// apiVersions lists what a document of the kind may give as its apiVersion.
func (k kindInfo) apiVersions() []string {
	list := make([]string, len(k.versions))
	for i, v := range k.versions {
		list[i] = v
		if k.group != coreGroup {
			list[i] = k.group + "/" + v
		}
	}
	return list
}

// isMeshGroup reports whether every kind of the API group has to be known here.
func isMeshGroup(group string) bool {
	return group == "istio.io" || strings.HasSuffix(group, ".istio.io") ||
		group == heddleGroup || strings.HasSuffix(group, "."+heddleGroup)
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
		ours != coreGroup && len(group) <= 64 && editDistance(group, ours) <= 4
}
