package config

// destinationRuleFields is what becomes of each field of a DestinationRule.
func destinationRuleFields() register {
	return register{
		"DestinationRule": {needs: "{host: reviews}", fields: []fieldEntry{
			{name: "host"},
			{name: "trafficPolicy"},
			{name: "subsets"},
			{name: "exportTo", value: `["*"]`},
			{name: "workloadSelector"},
		}},
		"type.WorkloadSelector": {needs: "{matchLabels: {app: web}}", fields: []fieldEntry{
			{name: "matchLabels"},
		}},
		"Subset": {needs: "{name: v1}", fields: []fieldEntry{
			{name: "name", value: "v1"},
			{name: "labels"},
			{name: "trafficPolicy"},
		}},
		"TrafficPolicy": {fields: []fieldEntry{
			{name: "loadBalancer"},
			{name: "connectionPool"},
			{name: "outlierDetection", value: "{consecutive5xxErrors: 5}"},
			{name: "tls", test: "TestCompilesConnections"},
			{name: "portLevelSettings"},
			{name: "tunnel", outcome: Refused, value: "{targetHost: a.example.com, targetPort: 80}"},
			{name: "proxyProtocol", test: "TestProxyProtocol", value: "{version: V2}", note: "of connections that are not HTTP, by the sidecar; to ports of HTTP calls get 503, flag NC"},
			{name: "retryBudget", value: "{percent: 20}", test: "TestRetryBudget"},
		}},
		"TrafficPolicy.ProxyProtocol": {test: "TestProxyProtocol", fields: []fieldEntry{
			{name: "version"},
		}},
		"TrafficPolicy.PortTrafficPolicy": {needs: "{port: {number: 9080}}", fields: []fieldEntry{
			{name: "port"},
			{name: "loadBalancer"},
			{name: "connectionPool"},
			{name: "outlierDetection", value: "{consecutive5xxErrors: 5}", test: "TestOutlierDetection"},
			{name: "tls", test: "TestCompilesConnections"},
		}},
		"LoadBalancerSettings": {test: "TestCompilesBalancing", fields: []fieldEntry{
			{name: "simple", value: "ROUND_ROBIN"},
			{name: "simple=LEAST_CONN"},
			{name: "consistentHash"},
			{name: "localityLbSetting"},
			{name: "zoneAwareLbSetting", outcome: Warned, value: "{enabled: true}", note: "not built yet: it weighs zones by how many callers run in each, which nothing tells a mesh without a control plane; failover and failoverPriority in it are refused"},
			{name: "warmupDurationSecs", beside: "{simple: ROUND_ROBIN}"},
			{name: "warmup", beside: "{simple: ROUND_ROBIN}"},
		}},
		"LoadBalancerSettings.ConsistentHashLB": {needs: "{httpHeaderName: x-user}", test: "TestCompilesBalancing", fields: []fieldEntry{
			{name: "httpHeaderName"},
			{name: "httpCookie"},
			{name: "useSourceIp"},
			{name: "httpQueryParameterName"},
			{name: "ringHash"},
			{name: "maglev"},
			{name: "minimumRingSize", value: "2048"},
		}},
		"LoadBalancerSettings.ConsistentHashLB.HTTPCookie": {needs: "{name: user, ttl: 0s}", test: "TestCompilesBalancing", fields: []fieldEntry{
			{name: "name"},
			{name: "path", value: "/"},
			{name: "ttl"},
			{name: "attributes"},
		}},
		"LoadBalancerSettings.ConsistentHashLB.HTTPCookie.Attribute": {needs: "{name: SameSite}", test: "TestCompilesBalancing", fields: []fieldEntry{
			{name: "name", value: "Secure"},
			{name: "value", value: "Strict"},
		}},
		"LoadBalancerSettings.ConsistentHashLB.RingHash": {test: "TestCompilesBalancing", fields: []fieldEntry{
			{name: "minimumRingSize", value: "2048"},
		}},
		"LoadBalancerSettings.ConsistentHashLB.MagLev": {test: "TestCompilesBalancing", fields: []fieldEntry{
			{name: "tableSize", value: "65537"},
		}},
		"LocalityLoadBalancerSetting": {test: "TestCompilesBalancing", fields: []fieldEntry{
			{name: "distribute"},
			{name: "failover"},
			{name: "failoverPriority", value: "[topology.istio.io/network]"},
			{name: "enabled"},
		}},
		"LocalityLoadBalancerSetting.Distribute": {needs: `{from: "eu/*", to: {"eu/a": 100}}`, test: "TestCompilesBalancing", fields: []fieldEntry{
			{name: "from", value: "eu/*"},
			{name: "to", value: `{"eu/a": 100}`},
		}},
		"LocalityLoadBalancerSetting.Failover": {needs: "{from: eu, to: us}", test: "TestCompilesBalancing", fields: []fieldEntry{
			{name: "from", value: "eu"},
			{name: "to", value: "us"},
		}},
		"WarmupConfiguration": {needs: "{duration: 10s}", test: "TestCompilesBalancing", fields: []fieldEntry{
			{name: "duration"},
			{name: "minimumPercent", value: "10"},
			{name: "aggression"},
		}},
		"ConnectionPoolSettings": {test: "TestCompilesConnections", fields: []fieldEntry{
			{name: "tcp"},
			{name: "http"},
		}},
		"ConnectionPoolSettings.TCPSettings": {test: "TestCompilesConnections", fields: []fieldEntry{
			{name: "maxConnections", note: "those of a sidecar that are not HTTP are reset beyond it, flag UO; of HTTP/2 each endpoint may have one in any case; those of gRPC channels are not limited yet"},
			{name: "connectTimeout"},
			{name: "tcpKeepalive"},
			{name: "maxConnectionDuration"},
			{name: "idleTimeout"},
		}},
		"ConnectionPoolSettings.TCPSettings.TcpKeepalive": {test: "TestCompilesConnections", fields: []fieldEntry{
			{name: "probes"},
			{name: "time"},
			{name: "interval"},
		}},
		"ConnectionPoolSettings.HTTPSettings": {test: "TestCompilesConnections", fields: []fieldEntry{
			{name: "http1MaxPendingRequests"},
			{name: "http2MaxRequests"},
			{name: "maxRequestsPerConnection", value: "10", note: "but for gRPC channels"},
			{name: "maxRetries", test: "TestRetryBudget"},
			{name: "idleTimeout"},
			{name: "h2UpgradePolicy"},
			{name: "useClientProtocol"},
			{name: "maxConcurrentStreams", outcome: Warned},
			{name: "http2KeepAlive", note: "but for gRPC channels, whose pings are the program's: grpc.WithKeepaliveParams"},
		}},
		"ConnectionPoolSettings.HTTPSettings.ConnectionKeepalive": {needs: "{interval: 10s, timeout: 5s}", test: "TestCompilesConnections", fields: []fieldEntry{
			{name: "interval"},
			{name: "timeout"},
		}},
		"OutlierDetection": {test: "TestOutlierDetection", fields: []fieldEntry{
			{name: "consecutive5xxErrors"},
			{name: "consecutiveGatewayErrors"},
			{name: "splitExternalLocalOriginErrors"},
			{name: "consecutiveLocalOriginFailures", beside: "{splitExternalLocalOriginErrors: true}"},
			{name: "interval"},
			{name: "baseEjectionTime"},
			{name: "maxEjectionPercent"},
			{name: "minHealthPercent"},
			{name: "outlierDetectionHttpErrorCodes", value: "[500]"},
			{name: "consecutiveErrors", outcome: Warned, note: "Istio ignores it too"},
		}},
		"TrafficPolicy.RetryBudget": {test: "TestRetryBudget", fields: []fieldEntry{
			{name: "percent", value: "20"},
			{name: "minRetryConcurrency"},
			{name: "budgetInterval"},
		}},
		"ClientTLSSettings": {needs: "{mode: SIMPLE}", test: "TestCompilesConnections", fields: []fieldEntry{
			{name: "mode", value: "SIMPLE"},
			{name: "mode=MUTUAL", beside: "{clientCertificate: /a, privateKey: /b}"},
			{name: "mode=ISTIO_MUTUAL", beside: alone, test: "TestCompilesMutualTLS"},
			{name: "clientCertificate", value: "/a", beside: "{mode: MUTUAL, privateKey: /b}"},
			{name: "privateKey", value: "/b", beside: "{mode: MUTUAL, clientCertificate: /a}"},
			{name: "caCertificates", value: "/ca"},
			{name: "credentialName", outcome: Refused},
			{name: "subjectAltNames"},
			{name: "sni", value: "a.example.com"},
			{name: "insecureSkipVerify"},
			{name: "caCrl", value: "/crl"},
		}},
	}
}
