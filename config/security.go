package config

import (
	"fmt"
	"net"
	"strconv"
	"strings"

	meshapi "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/discovery"
	"github.com/heddlemesh/mesh/snapshot"
)

// A peerAuthentication is Istio's security/v1beta1 PeerAuthentication. It is written down here and not imported: the
// package would add the messages of all of Istio's security kinds to every program.
type peerAuthentication struct {
	APIVersion opaque                 `json:"apiVersion"`
	Kind       opaque                 `json:"kind"`
	Metadata   opaque                 `json:"metadata"`
	Spec       peerAuthenticationSpec `json:"spec"`
	Status     opaque                 `json:"status"`
}

type peerAuthenticationSpec struct {
	Selector struct {
		MatchLabels map[string]string `json:"matchLabels"`
	} `json:"selector"`
	MTLS          mutualTLS            `json:"mtls"`
	PortLevelMTLS map[string]mutualTLS `json:"portLevelMtls"`
}

// mutualTLS is PeerAuthentication_MutualTLS.
type mutualTLS struct {
	Mode string `json:"mode"`
}

const unsetMode = "UNSET"

// peerModes are the values of mtls.mode.
var peerModes = []string{unsetMode, "DISABLE", "PERMISSIVE", "STRICT"}

// given reads the mode; ok is false where it is that of the policy above.
func (m mutualTLS) given() (mode snapshot.MTLS, ok bool) {
	switch m.Mode {
	case "DISABLE":
		return snapshot.Disabled, true
	case "PERMISSIVE":
		return snapshot.Permissive, true
	case "STRICT":
		return snapshot.Strict, true
	}
	return snapshot.Permissive, false
}

// selects reports a policy for some workloads of its namespace only.
func (s *peerAuthenticationSpec) selects() bool { return len(s.Selector.MatchLabels) > 0 }

// peerAuthentication checks what istiod does (pkg/config/validation, validatePeerAuthentication).
func (v *validation) peerAuthentication(s *peerAuthenticationSpec) {
	p := fieldPath{"spec"}
	v.labels(p.at("selector", "matchLabels"), s.Selector.MatchLabels)
	v.enum(p.at("mtls", "mode"), s.MTLS.Mode, peerModes...)
	at := p.at("portLevelMtls")
	if _, _, written := v.d.find(at); !written {
		return
	}
	switch {
	case len(s.PortLevelMTLS) == 0:
		v.refuse(at, "portLevelMtls has no port", "name a port and its mode, or remove it")
	case !s.selects():
		v.refuse(at, "portLevelMtls needs a selector: ports are those of workloads", "write selector.matchLabels")
	}
	for _, port := range sortedKeys(s.PortLevelMTLS) {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			v.refuseKey(at.at(port), "is no port", "write a number from 1 to 65535")
		}
		v.enum(at.at(port, "mode"), s.PortLevelMTLS[port].Mode, peerModes...)
	}
}

// readPeerAuthentications keeps the policies, and refuses a second one for the whole mesh.
func (c *compiler) readPeerAuthentications(docs []*document) {
	var mesh *document
	for _, d := range docs {
		s, ok := d.spec.(*peerAuthentication)
		if !ok {
			continue
		}
		c.peers = append(c.peers, d)
		switch {
		case d.key.Namespace != c.root():
		case s.Spec.selects():
			c.add(d.finding(Warning, codeDoubtful, false, []any{"spec", "selector"},
				"without effect: a policy of the root namespace is for the whole mesh, and one with a selector is none, in Istio neither",
				"write it in the namespace of the workloads"))
		case mesh != nil:
			c.add(d.finding(Error, codeDuplicate, true, []any{"metadata", "name"},
				fmt.Sprintf("the policy for the whole mesh is %s (%s) already", mesh.key, mesh.place("metadata", "name")), "remove one of the two"))
		default:
			mesh = d
		}
	}
}

// peerMode is what a workload takes of its callers: the policy for the mesh, that of the namespace over it, that of the
// workload over both, the oldest of each (istio.io, pilot/pkg/security/authn/policy_applier.go ComposePeerAuthentication).
func (c *compiler) peerMode(namespace string, labels map[string]string) snapshot.Inbound {
	var levels [3]*document
	for _, d := range c.peers {
		s := &d.spec.(*peerAuthentication).Spec
		level := 0
		switch {
		case d.key.Namespace == c.root() && !s.selects():
		case d.key.Namespace != namespace || d.key.Namespace == c.root():
			continue
		case !s.selects():
			level = 1
		case hasLabels(labels, s.Selector.MatchLabels):
			level = 2
		default:
			continue
		}
		if levels[level] == nil {
			levels[level] = d
		}
	}
	var in snapshot.Inbound
	for _, d := range levels {
		if d == nil {
			continue
		}
		s := &d.spec.(*peerAuthentication).Spec
		if mode, ok := s.MTLS.given(); ok {
			in.MTLS, in.Origin = mode, d.key.String()+" "+d.place("spec", "mtls", "mode")
		}
		for port, m := range s.PortLevelMTLS {
			mode, ok := m.given()
			if !ok {
				mode = in.MTLS
			}
			if in.Ports == nil {
				in.Ports = make(map[uint16]snapshot.MTLS)
			}
			n, _ := strconv.ParseUint(port, 10, 16)
			in.Ports[uint16(n)] = mode
			in.PortsOrigin = d.key.String() + " " + d.place("spec", "portLevelMtls")
		}
	}
	return in
}

// pathLevels are the levels of MeshConfig.pathNormalization.
var pathLevels = map[meshapi.MeshConfig_ProxyPathNormalization_NormalizationType]call.PathNormalization{
	meshapi.MeshConfig_ProxyPathNormalization_NONE:                     call.PathNone,
	meshapi.MeshConfig_ProxyPathNormalization_MERGE_SLASHES:            call.PathMerge,
	meshapi.MeshConfig_ProxyPathNormalization_DECODE_AND_MERGE_SLASHES: call.PathDecodeAndMerge,
}

// inbound is what the workload itself takes of its callers.
func (c *compiler) inbound() snapshot.Inbound {
	in := c.peerMode(c.workload.Namespace, c.workload.Labels)
	in.Aliases = c.mesh.GetTrustDomainAliases()
	in.Paths = pathLevels[c.mesh.GetPathNormalization().GetNormalization()]
	if t := c.mesh.GetDefaultConfig().GetGatewayTopology(); t != nil {
		in.Hops = 1 + int(t.GetNumTrustedProxies())
	}
	in.MaxConnections = int(c.scope.spec.GetInboundConnectionPool().GetTcp().GetMaxConnections())
	in.Listeners = c.ingress()
	in.TLS13 = c.onlyTLS13()
	return in
}

// onlyTLS13 reports that mutual TLS of the mesh is to be TLS 1.3 (MeshConfig.meshMTLS).
func (c *compiler) onlyTLS13() bool {
	return c.mesh.GetMeshMTLS().GetMinProtocolVersion() == meshapi.MeshConfig_TLSConfig_TLSV1_3
}

// tlsModeLabel says of a workload whether it takes mutual TLS of the mesh (istio.io, pkg/model GetTLSModeFromEndpointLabels).
const (
	tlsModeLabel = "security.istio.io/tlsMode"
	istioTLSMode = "istio"
)

// proving notes which endpoints take mutual TLS: those that say so, and WorkloadEntries that have a service account and
// do not say otherwise, where no policy has switched it off for them (istio.io, pilot/pkg/serviceregistry/serviceentry
// getTLSModeFromWorkloadEntry, pilot/pkg/model MtlsPolicy).
func (c *compiler) proving(d *document, list []discovery.Endpoint) []discovery.Endpoint {
	for i := range list {
		e := &list[i]
		e.Namespace = d.key.Namespace
		mode, said := e.Labels[tlsModeLabel]
		e.MTLS = mode == istioTLSMode || !said && e.ServiceAccount != "" && !d.isService() && !strings.HasPrefix(e.Workload, "Pod ")
		if !e.MTLS || len(c.peers) == 0 {
			continue
		}
		policy := c.peerMode(e.Namespace, e.Labels)
		e.MTLS = policy.Mode(portOf(e.Address)) != snapshot.Disabled
	}
	return list
}

func portOf(a discovery.Address) uint16 {
	_, port, _ := net.SplitHostPort(a.Addr)
	n, _ := strconv.ParseUint(port, 10, 16)
	return uint16(n)
}

// meshTLS is mutual TLS of the mesh for a service port and subset, with the names by which Istio's servers and gateways
// know each other (istio.io, pilot/pkg/model BuildDNSSrvSubsetKey).
func (c *compiler) meshTLS(s *service, port uint32, subset string) *snapshot.TLS {
	t := &snapshot.TLS{Mesh: true, TLS13: c.onlyTLS13(), ServerName: fmt.Sprintf("outbound_.%d_.%s_.%s", port, subset, s.host),
		Aliases: strings.Join(c.mesh.GetTrustDomainAliases(), "\n")}
	if s.doc.entry != nil {
		t.Names = strings.Join(s.doc.entry.GetSubjectAltNames(), "\n")
	}
	return t
}

// automatic is meshTLS for a service of the mesh, nil where it is switched off or the service is another's.
func (c *compiler) automatic(s *service, port uint32, subset string) *snapshot.TLS {
	if on := c.mesh.GetEnableAutoMtls(); on != nil && !on.GetValue() || s.doc.entry.GetLocation() != networking.ServiceEntry_MESH_INTERNAL ||
		s.resolution == networking.ServiceEntry_NONE {
		return nil
	}
	return c.meshTLS(s, port, subset)
}
