package config

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"
)

func (v *validation) destinationRule(p fieldPath, r *networking.DestinationRule) {
	v.annotations(alwaysOneAnnotation)
	if r.GetHost() == "" {
		v.refuse(p.at("host"), "host is missing", "name the service that the rule is for")
	} else {
		v.host(p.at("host"), r.GetHost())
	}
	v.checkExportTo(p.at("exportTo"), r.GetExportTo())
	if s := r.GetWorkloadSelector(); s != nil {
		at := p.at("workloadSelector")
		if len(s.GetMatchLabels()) == 0 {
			v.refuse(at, "the selector has no matchLabels", "name the labels of the callers, or remove it")
		}
		v.labels(at.at("matchLabels"), s.GetMatchLabels())
		for i, namespace := range r.GetExportTo() {
			if namespace != "." && namespace != v.d.key.Namespace {
				v.refuseValue(p.at("exportTo", i), "has no effect with workloadSelector",
					`a rule with a selector is for its own namespace: write "." or nothing`)
			}
		}
	}
	v.trafficPolicy(p.at("trafficPolicy"), r.GetTrafficPolicy())
	names := make(map[string]int, len(r.GetSubsets()))
	for i, s := range r.GetSubsets() {
		at := p.at("subsets", i)
		v.labelName(at.at("name"), s.GetName(), "name of a subset")
		if first, again := names[s.GetName()]; again && s.GetName() != "" {
			v.refuseValue(at.at("name"), fmt.Sprintf("repeats subsets[%d]", first), "names of subsets are unique")
		} else {
			names[s.GetName()] = i
		}
		v.labels(at.at("labels"), s.GetLabels())
		v.trafficPolicy(at.at("trafficPolicy"), s.GetTrafficPolicy())
	}
}

func (v *validation) trafficPolicy(p fieldPath, t *networking.TrafficPolicy) {
	if t == nil {
		return
	}
	v.policyBlocks(p, t)
	ports := make(map[uint32]int, len(t.GetPortLevelSettings()))
	for i, s := range t.GetPortLevelSettings() {
		at, n := p.at("portLevelSettings", i), s.GetPort().GetNumber()
		v.port(at.at("port", "number"), n)
		if first, again := ports[n]; again && n != 0 {
			v.refuseValue(at.at("port", "number"), fmt.Sprintf("repeats portLevelSettings[%d]", first), "keep one of them")
		} else {
			ports[n] = i
		}
		v.policyBlocks(at, s)
	}
	if tunnel := t.GetTunnel(); tunnel != nil {
		v.tunnel(p.at("tunnel"), tunnel)
		if t.GetProxyProtocol() != nil {
			v.refuse(p.at("proxyProtocol"), "tunnel and proxyProtocol exclude each other", "keep one of them")
		}
	}
	if b := t.GetRetryBudget(); b != nil {
		at := p.at("retryBudget")
		v.share(at.at("percent"), b.GetPercent())
		if d := b.GetBudgetInterval(); d.AsDuration() != 0 { // 0 counts only what is active
			v.duration(at.at("budgetInterval"), d)
		}
	}
}

// policyBlocks checks what a policy and its settings for one port have in common.
func (v *validation) policyBlocks(p fieldPath, t interface {
	GetLoadBalancer() *networking.LoadBalancerSettings
	GetConnectionPool() *networking.ConnectionPoolSettings
	GetOutlierDetection() *networking.OutlierDetection
	GetTls() *networking.ClientTLSSettings
}) {
	v.loadBalancer(p.at("loadBalancer"), t.GetLoadBalancer())
	v.connectionPool(p.at("connectionPool"), t.GetConnectionPool())
	v.outlierDetection(p.at("outlierDetection"), t.GetOutlierDetection())
	v.clientTLS(p.at("tls"), t.GetTls())
}

func (v *validation) tunnel(p fieldPath, t *networking.TrafficPolicy_TunnelSettings) {
	switch t.GetProtocol() {
	case "", "CONNECT", "POST":
	default:
		v.refuseValue(p.at("protocol"), "is no protocol of a tunnel", "write CONNECT or POST")
	}
	if t.GetTargetHost() == "" {
		v.refuse(p.at("targetHost"), "targetHost is missing", "name where the tunnel leads")
	} else if !isIP(t.GetTargetHost()) {
		v.host(p.at("targetHost"), t.GetTargetHost())
	}
	v.port(p.at("targetPort"), t.GetTargetPort())
	v.unbuilt(p, "connections would not go through the tunnel")
}

func (v *validation) share(p fieldPath, percent *wrapperspb.DoubleValue) {
	if n := percent.GetValue(); n < 0 || n > 100 {
		v.refuseValue(p, "is no percentage", "write 0 to 100")
	}
}

func (v *validation) connectionPool(p fieldPath, c *networking.ConnectionPoolSettings) {
	if c == nil {
		return
	}
	const most = 1<<31 - 1
	if t := c.GetTcp(); t != nil {
		at := p.at("tcp")
		v.whole(at.at("maxConnections"), int64(t.GetMaxConnections()), 0, most)
		v.duration(at.at("connectTimeout"), t.GetConnectTimeout())
		v.duration(at.at("maxConnectionDuration"), t.GetMaxConnectionDuration())
		v.duration(at.at("idleTimeout"), t.GetIdleTimeout())
		v.duration(at.at("tcpKeepalive", "time"), t.GetTcpKeepalive().GetTime())
		v.duration(at.at("tcpKeepalive", "interval"), t.GetTcpKeepalive().GetInterval())
	}
	if h := c.GetHttp(); h != nil {
		at := p.at("http")
		v.whole(at.at("http1MaxPendingRequests"), int64(h.GetHttp1MaxPendingRequests()), 0, most)
		v.whole(at.at("http2MaxRequests"), int64(h.GetHttp2MaxRequests()), 0, most)
		v.whole(at.at("maxRequestsPerConnection"), int64(h.GetMaxRequestsPerConnection()), 0, most)
		v.whole(at.at("maxRetries"), int64(h.GetMaxRetries()), 0, most)
		v.whole(at.at("maxConcurrentStreams"), int64(h.GetMaxConcurrentStreams()), 0, most)
		v.duration(at.at("idleTimeout"), h.GetIdleTimeout())
		if h.GetUseClientProtocol() && h.GetH2UpgradePolicy() == networking.ConnectionPoolSettings_HTTPSettings_UPGRADE {
			v.refuse(at.at("useClientProtocol"), "useClientProtocol and h2UpgradePolicy UPGRADE exclude each other", "keep one of them")
		}
		if k := h.GetHttp2KeepAlive(); k != nil {
			if k.GetInterval() == nil || k.GetTimeout() == nil {
				v.refuse(at.at("http2KeepAlive"), "the keep-alive lacks interval or timeout", "it needs both")
			}
			v.duration(at.at("http2KeepAlive", "interval"), k.GetInterval())
			v.duration(at.at("http2KeepAlive", "timeout"), k.GetTimeout())
		}
	}
	unbuilt := slices.DeleteFunc(setFields(c), func(name string) bool {
		return poolFields[name]
	})
	if len(unbuilt) > 0 {
		v.unenforced(p, listed(unbuilt))
	}
}

// poolFields are the fields of connectionPool that connections have.
var poolFields = map[string]bool{
	"tcp.connectTimeout": true, "tcp.idleTimeout": true, "tcp.maxConnectionDuration": true,
	"tcp.tcpKeepalive.probes": true, "tcp.tcpKeepalive.time": true, "tcp.tcpKeepalive.interval": true,
	"tcp.maxConnections": true, "http.http1MaxPendingRequests": true, "http.http2MaxRequests": true, "http.maxRequestsPerConnection": true,
	"http.maxRetries": true, "http.idleTimeout": true, "http.h2UpgradePolicy": true, "http.useClientProtocol": true,
	"http.http2KeepAlive.interval": true, "http.http2KeepAlive.timeout": true,
}

func (v *validation) outlierDetection(p fieldPath, o *networking.OutlierDetection) {
	if o == nil {
		return
	}
	v.duration(p.at("interval"), o.GetInterval())
	v.duration(p.at("baseEjectionTime"), o.GetBaseEjectionTime())
	v.whole(p.at("maxEjectionPercent"), int64(o.GetMaxEjectionPercent()), 0, 100)
	v.whole(p.at("minHealthPercent"), int64(o.GetMinHealthPercent()), 0, 100)
	if o.GetConsecutiveLocalOriginFailures().GetValue() > 0 && !o.GetSplitExternalLocalOriginErrors() {
		v.refuse(p.at("consecutiveLocalOriginFailures"),
			"consecutiveLocalOriginFailures needs splitExternalLocalOriginErrors: true", "set both, or neither")
	}
	for i, code := range o.GetOutlierDetectionHttpErrorCodes() {
		v.whole(p.at("outlierDetectionHttpErrorCodes", i), int64(code), 100, 599)
	}
	//nolint:staticcheck // SA1019: a deprecated field that documents still have
	if o.GetConsecutiveErrors() != 0 {
		v.doubt(p.at("consecutiveErrors"), "consecutiveErrors is ignored, by Istio too", "write consecutive5xxErrors")
	}
}
