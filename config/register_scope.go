package config

import meshapi "istio.io/api/mesh/v1alpha1"

// scopeFields is what becomes of each field of a Sidecar and a MeshConfig.
func scopeFields() register {
	return register{
		"Sidecar": {needs: `{egress: [{hosts: ["*/*"]}]}`, fields: []fieldEntry{
			{name: "workloadSelector"},
			{name: "ingress", value: "[{port: {number: 80, name: http, protocol: HTTP}, defaultEndpoint: '127.0.0.1:8080'}]", test: "TestDeclaredInbound", note: "a sidecar's; a program that imports the mesh listens itself"},
			{name: "egress"},
			{name: "inboundConnectionPool", outcome: Warned, value: "{http: {maxRequestsPerConnection: 1}}", note: "but for tcp.maxConnections, of connections to each port that are not HTTP: a sidecar closes those beyond it, flag UO"},
			{name: "outboundTrafficPolicy"},
		}},
		"IstioIngressListener": {needs: "{port: {number: 80, name: http, protocol: HTTP}, defaultEndpoint: '127.0.0.1:8080'}", test: "TestDeclaredInbound", fields: []fieldEntry{
			{name: "port", value: "{number: 81, protocol: TCP}"},
			{name: "bind", value: "127.0.0.1"},
			{name: "captureMode"},
			{name: "defaultEndpoint", value: "'unix:///run/app.sock'"},
			{name: "tls", outcome: Refused, value: "{mode: SIMPLE}"},
			{name: "connectionPool", outcome: Warned, value: "{http: {maxRequestsPerConnection: 1}}", note: "but for tcp.maxConnections, as inboundConnectionPool, in whose place it stands"},
		}},
		"IstioEgressListener": {needs: `{hosts: ["*/*"]}`, test: "TestDeclaredOutbound", fields: []fieldEntry{
			{name: "port"},
			{name: "bind", value: "127.0.0.1", beside: `{hosts: ["*/*"], port: {number: 80, name: http, protocol: HTTP}}`, note: "where a sidecar listens; of captured calls the port alone counts, and there is a warning with IPTABLES"},
			{name: "captureMode", beside: `{hosts: ["*/*"], port: {number: 80, name: http, protocol: HTTP}}`, note: "NONE of the listener for all ports is warned about"},
			{name: "hosts", value: `["*/*"]`},
		}},
		"SidecarPort": {needs: "{number: 80, name: http, protocol: HTTP}", fields: []fieldEntry{
			{name: "number", value: "80"},
			{name: "protocol", value: "HTTP"},
			{name: "name", value: "http"},
			{name: "targetPort", outcome: Warned},
		}},
		"OutboundTrafficPolicy": {needs: "{mode: ALLOW_ANY}", fields: []fieldEntry{
			{name: "mode"},
			{name: "egressProxy", outcome: Refused, value: "{host: reviews}"},
		}},
		meshConfigKind: meshConfigEntry(),
		"MeshConfig.DefaultProviders": {test: "TestAccessLogging", fields: []fieldEntry{
			{name: "tracing", value: "[zipkin]", test: "TestTraceProviders", note: "the first"},
			{name: "metrics", outcome: Idle, value: "[prometheus]", note: "metrics are Prometheus's"},
			{name: "accessLogging", value: "[envoy]"},
		}},
		"MeshConfig.OutboundTrafficPolicy": {needs: "{mode: ALLOW_ANY}", fields: []fieldEntry{
			{name: "mode", value: "ALLOW_ANY"},
			{name: "tls", outcome: Refused, value: "{mode: SIMPLE}"},
		}},
		"MeshConfig.TLSConfig": {test: "TestLeastTLS", fields: []fieldEntry{
			{name: "minProtocolVersion", value: "TLSV1_3"},
			{name: "cipherSuites", outcome: Warned, value: "[ECDHE-ECDSA-AES256-GCM-SHA384]"},
			{name: "ecdhCurves", outcome: Warned, value: "[P-256]"},
		}},
		"MeshConfig.ProxyPathNormalization": {test: "TestPathLevels", fields: []fieldEntry{
			{name: "normalization", note: "of requests that come in; rules of calls see paths as BASE has them"},
		}},
	}
}

// meshConfigEntry is meshFields, by which validation itself goes, with the samples that types do not suggest.
func meshConfigEntry() objectEntry {
	values := map[string]string{
		"connectTimeout": "1s", "rootNamespace": "istio-system", "trustDomain": "cluster.local", "trustDomainAliases": "[old.local]",
		"defaultServiceExportTo": `["*"]`, "defaultVirtualServiceExportTo": `["*"]`, "defaultDestinationRuleExportTo": `["*"]`,
		"tcpKeepalive": "{time: 60s}", "inboundTrafficPolicy": "{mode: LOCALHOST}", "zoneAwareLbSetting": "{enabled: true}",
		"meshMTLS": "{minProtocolVersion: TLSV1_3}", "tlsDefaults": "{minProtocolVersion: TLSV1_3}",
		"defaultTrafficPolicy": "{connectionPool: {tcp: {maxConnections: 1}}}", "serviceEntryVisibility": "{defaultVisibility: NAMESPACE}",
		"extensionProviders": "[{name: opa, envoyExtAuthzHttp: " + providerSample + "}]",
		"defaultConfig":      "{concurrency: 2}", "defaultProviders": "{accessLogging: [envoy]}", "ca": "{address: x}",
	}
	tests := map[string]string{"trustDomainAliases": "TestTrustDomainAliases", "enableAutoMtls": "TestCompilesMutualTLS", "tcpKeepalive": "TestMeshDefaultsWithoutARule", "h2UpgradePolicy": "TestMeshDefaultsWithoutARule", "localityLbSetting": "TestMeshLocality", "accessLogFile": "TestAccessLogging", "accessLogFormat": "TestAccessLogFormats", "accessLogEncoding": "TestAccessLogFormats",
		"defaultProviders": "TestAccessLogging", "extensionProviders": "TestExternalRows", "enableTracing": "TestTraceProviders"}
	o := objectEntry{test: "TestMeshDefaults"}
	fields := new(meshapi.MeshConfig).ProtoReflect().Descriptor().Fields()
	for i := range fields.Len() {
		fd := fields.Get(i)
		e := fieldEntry{name: fd.JSONName(), value: values[fd.JSONName()], test: tests[fd.JSONName()]}
		switch meshFields[fd.Name()] {
		case meshHonoured:
		case meshElsewhere:
			e.outcome = Idle
		case meshMissing:
			e.outcome = Warned
		case meshRefused:
			e.outcome = Refused
		default:
			continue // TestEveryFieldIsRegistered fails for it
		}
		o.fields = append(o.fields, e)
	}
	return o
}
