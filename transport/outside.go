package transport

import (
	"context"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/snapshot"
)

// An OutboundTrafficPolicy says what becomes of calls to what the mesh does not know: Istio's
// MeshConfig.outboundTrafficPolicy.mode.
type OutboundTrafficPolicy uint8

const (
	AllowAny     OutboundTrafficPolicy = iota // they pass through to the host itself (Istio's PassthroughCluster)
	RegistryOnly                              // they are rejected (Istio's BlackHoleCluster)
)

// String gives Istio's name of the mode.
func (p OutboundTrafficPolicy) String() string {
	if p == RegistryOnly {
		return "REGISTRY_ONLY"
	}
	return "ALLOW_ANY"
}

// policyOf gives the policy of a configuration: its own word, else the engine's.
func (e *Engine) policyOf(s *snapshot.Snapshot) OutboundTrafficPolicy {
	switch s.Outbound {
	case snapshot.AllowAny:
		return AllowAny
	case snapshot.RegistryOnly:
		return RegistryOnly
	}
	return e.policy
}

// The clusters of calls to what the mesh does not know, by Istio's names for them.
const (
	PassthroughCluster = "PassthroughCluster"
	BlackHoleCluster   = "BlackHoleCluster"
)

// outside decides about a call to a host, or to a port of one, that the mesh does not know.
func (c *Call) outside() Step {
	if c.state.policy == AllowAny {
		c.seen(PassthroughCluster)
		return Step{Kind: Direct}
	}
	c.seen(BlackHoleCluster)
	e := c.fail(call.ReasonUnknownHost, nil, onlyRegistry(c.known))
	e.Cluster = BlackHoleCluster
	return Step{Kind: Reject, Err: e}
}

// onlyRegistry says, for people, why a call is not let out.
func onlyRegistry(known []uint16) string {
	const policy = "the outbound traffic policy is REGISTRY_ONLY"
	if len(known) > 0 {
		return policy + ", and the mesh knows the host on other ports only: " + portList(known)
	}
	return policy
}

// beginUnnamed is Begin for a call whose host has no canonical name, or whose scheme is none of HTTP's: no
// registry has it.
func (e *Engine) beginUnnamed(ctx context.Context, c *Call, host string) Step {
	c.engine, c.state, c.host = e, e.state.Load(), host
	c.start(ctx)
	return c.outside()
}
