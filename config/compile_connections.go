package config

import (
	"strings"

	meshapi "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/heddlemesh/mesh/resilience"
	"github.com/heddlemesh/mesh/snapshot"
)

// connections reads connectionPool, and what the mesh says where it says nothing.
func (c *compiler) connections(policy *snapshot.Policy, pool *networking.ConnectionPoolSettings) {
	tcp, http, to := pool.GetTcp(), pool.GetHttp(), &policy.Connections
	if t := tcp.GetConnectTimeout(); t != nil {
		policy.ConnectTimeout = t.AsDuration()
	}
	if to.Idle = http.GetIdleTimeout().AsDuration(); to.Idle == 0 {
		to.Idle = tcp.GetIdleTimeout().AsDuration()
	}
	to.MaxAge = tcp.GetMaxConnectionDuration().AsDuration()
	k := tcp.GetTcpKeepalive()
	if k == nil {
		k = c.mesh.GetTcpKeepalive()
	}
	if k != nil {
		to.KeepAlive = snapshot.KeepAlive{Set: true, Time: k.GetTime().AsDuration(), Interval: k.GetInterval().AsDuration(),
			Probes: int(k.GetProbes())}
	}
	to.MaxRequests = int(http.GetMaxRequestsPerConnection())
	policy.Limits = resilience.Limits{Connections: int(tcp.GetMaxConnections()), Pending: int(http.GetHttp1MaxPendingRequests()),
		Requests: int(http.GetHttp2MaxRequests())}
	if k := http.GetHttp2KeepAlive(); k != nil {
		to.Ping = snapshot.Ping{Interval: k.GetInterval().AsDuration(), Timeout: k.GetTimeout().AsDuration()}
	}
	if policy.Protocol == snapshot.Opaque {
		return
	}
	if c.upgrades(http, policy.Protocol) {
		policy.Protocol = snapshot.HTTP2
	}
	if http.GetUseClientProtocol() {
		to.ClientProtocol, policy.Protocol = true, snapshot.HTTP1
	}
}

// upgrades reports whether a port's calls are made over HTTP/2, whatever its protocol says: the rule's word goes
// before the mesh's.
func (c *compiler) upgrades(http *networking.ConnectionPoolSettings_HTTPSettings, p snapshot.Protocol) bool {
	switch http.GetH2UpgradePolicy() {
	case networking.ConnectionPoolSettings_HTTPSettings_UPGRADE:
		return true
	case networking.ConnectionPoolSettings_HTTPSettings_DO_NOT_UPGRADE:
		return false
	}
	return p == snapshot.HTTP1 && c.mesh.GetH2UpgradePolicy() == meshapi.MeshConfig_UPGRADE
}

// originates reads tls: what the mesh secures connections with, nil for nothing. What the service's certificate is
// for can stand with the service too (ServiceEntry.subjectAltNames).
func originates(t *networking.ClientTLSSettings, s *service) *snapshot.TLS {
	mode := t.GetMode()
	if mode != networking.ClientTLSSettings_SIMPLE && mode != networking.ClientTLSSettings_MUTUAL {
		return nil
	}
	out := &snapshot.TLS{CAFile: t.GetCaCertificates(), RevocationFile: t.GetCaCrl(), ServerName: t.GetSni(),
		SkipVerify: t.GetInsecureSkipVerify().GetValue()}
	if mode == networking.ClientTLSSettings_MUTUAL {
		out.CertificateFile, out.KeyFile = t.GetClientCertificate(), t.GetPrivateKey()
	}
	names := t.GetSubjectAltNames()
	if len(names) == 0 && s.doc.entry != nil && !out.SkipVerify {
		names = s.doc.entry.GetSubjectAltNames()
	}
	out.Names = strings.Join(names, "\n")
	return out
}
