package config

import "testing"

var acceptedDestinationRules = []validateCase{
	{"bookinfo", `
  host: reviews
  subsets:
  - name: v1
    labels: {version: v1}
  - name: v2
    labels: {version: v2}`, nil},
	{"everything that is honoured", `
  host: "*.shop.svc.cluster.local"
  exportTo: [.]
  workloadSelector: {matchLabels: {app: web}}
  trafficPolicy:
    loadBalancer: {simple: LEAST_REQUEST, localityLbSetting: {enabled: false}}
    connectionPool: {tcp: {connectTimeout: 1ms}}
    tls: {mode: DISABLE}
    portLevelSettings:
    - port: {number: 80}
      loadBalancer: {simple: ROUND_ROBIN}
    - port: {number: 65535}
      loadBalancer: {simple: RANDOM}
      tls: {}
  subsets:
  - name: All
  - name: v1
    labels: {}
    trafficPolicy:
      loadBalancer: {simple: UNSPECIFIED}`, nil},
	{"every host", `
  host: "*"
  workloadSelector: {matchLabels: {app: web}}
  exportTo: [shop]`, nil},
}

func TestAcceptedDestinationRules(t *testing.T) {
	t.Parallel()
	runValidate(t, "DestinationRule", acceptedDestinationRules)
}

func policySpec(text string) string { return "  host: a\n  trafficPolicy:\n    " + text }

var policyCases = []validateCase{
	{"no host", `
  subsets: []`, []string{`IST0106! 4:1 spec.host ~ host is missing`}},
	{"host", `
  host: a*b`, []string{`IST0106! 5:9 spec.host ~ "a*b" has a "*" that is not at its start`}},
	{"subsets", `
  host: a
  subsets:
  - labels: {version: v1}
  - name: v_1
  - name: v1
    labels: {"": a, version: "a b"}
  - name: v1`, []string{
		`IST0106! 7:5 spec.subsets[0].name ~ the name of a subset is missing`,
		`IST0106! 8:11 spec.subsets[1].name ~ "v_1" is no name of a subset`,
		`IST0106! 10:14 spec.subsets[2].labels[""] ~ "" is no key of a label`,
		`IST0106! 10:30 spec.subsets[2].labels.version ~ "a b" is no value of a label`,
		`IST0106! 11:11 spec.subsets[3].name ~ "v1" repeats subsets[2]`,
	}},
	{"selector", `
  host: a
  workloadSelector: {}
  exportTo: [., other]`, []string{
		`IST0106! 6:3 spec.workloadSelector ~ the selector has no matchLabels`,
		`IST0106! 7:17 spec.exportTo[1] ~ "other" has no effect with workloadSelector`,
	}},
	{"ports", policySpec(`portLevelSettings:
    - loadBalancer: {simple: RANDOM}
    - port: {number: 80}
    - port: {number: 80}
      tls: {mode: SIMPLE}
    - port: {number: 70000}`), []string{
		`IST0106! 8:7 spec.trafficPolicy.portLevelSettings[0].port.number ~ nothing is no port`,
		`IST0106! 10:22 spec.trafficPolicy.portLevelSettings[2].port.number ~ 80 repeats portLevelSettings[1]`,
		`IST0106! 12:22 spec.trafficPolicy.portLevelSettings[3].port.number ~ 70000 is no port`,
	}},
	{"A-039 pool", policySpec(`connectionPool:
      tcp: {maxConnections: -1, connectTimeout: 10us, tcpKeepalive: {time: 0s}}
      http: {http1MaxPendingRequests: -1, maxRequestsPerConnection: -1, maxRetries: 3,
        useClientProtocol: true, h2UpgradePolicy: UPGRADE, http2KeepAlive: {interval: 1s}}`), []string{
		`IST0106! 8:29 spec.trafficPolicy.connectionPool.tcp.maxConnections ~ -1 is negative`,
		`IST0106! 8:49 spec.trafficPolicy.connectionPool.tcp.connectTimeout ~ "10us" is shorter than 1ms`,
		`IST0106! 8:76 spec.trafficPolicy.connectionPool.tcp.tcpKeepalive.time ~ "0s" is shorter than 1ms`,
		`IST0106! 9:39 spec.trafficPolicy.connectionPool.http.http1MaxPendingRequests ~ -1 is negative`,
		`IST0106! 9:69 spec.trafficPolicy.connectionPool.http.maxRequestsPerConnection ~ -1 is negative`,
		`IST0106! 10:28 spec.trafficPolicy.connectionPool.http.useClientProtocol ~ exclude each other`,
		`IST0106! 10:60 spec.trafficPolicy.connectionPool.http.http2KeepAlive ~ lacks interval or timeout`,
	}},
	{"A-040 outlier", policySpec(`outlierDetection: {maxEjectionPercent: 101, interval: 0s, consecutiveErrors: 5, minHealthPercent: -1,
      consecutiveLocalOriginFailures: 5, baseEjectionTime: 1s, outlierDetectionHttpErrorCodes: [503, 99]}`), []string{
		`IST0106! 7:44 spec.trafficPolicy.outlierDetection.maxEjectionPercent ~ 101 is out of range`,
		`IST0106! 7:59 spec.trafficPolicy.outlierDetection.interval ~ "0s" is shorter than 1ms`,
		`HDL0009? 7:82 spec.trafficPolicy.outlierDetection.consecutiveErrors ~ write consecutive5xxErrors`,
		`IST0106! 7:103 spec.trafficPolicy.outlierDetection.minHealthPercent ~ -1 is negative`,
		`IST0106! 8:39 spec.trafficPolicy.outlierDetection.consecutiveLocalOriginFailures ~ needs splitExternalLocalOriginErrors`,
		`IST0106! 8:102 spec.trafficPolicy.outlierDetection.outlierDetectionHttpErrorCodes[1] ~ 99 is out of range`,
	}},
	{"tls ISTIO_MUTUAL", policySpec(`tls: {mode: ISTIO_MUTUAL}`), nil},
	{"tls ISTIO_MUTUAL with more", policySpec(`tls: {mode: ISTIO_MUTUAL, sni: a, privateKey: /k}`), []string{
		`IST0106! 7:5 spec.trafficPolicy.tls ~ but these are set: privateKey, sni`,
	}},
	{"tls MUTUAL", policySpec(`tls: {mode: MUTUAL, clientCertificate: /c}`), []string{
		`IST0106! 7:5 spec.trafficPolicy.tls ~ MUTUAL has no certificate of its own`,
	}},
	{"A-044 tls SIMPLE", policySpec(`tls: {mode: SIMPLE, credentialName: a, caCertificates: /c, insecureSkipVerify: true}`), []string{
		`IST0106! 7:41 spec.trafficPolicy.tls.credentialName ~ exclude each other`,
		`HDL0008! 7:41 spec.trafficPolicy.tls.credentialName ~ mount the Secret`,
		`IST0106! 7:84 spec.trafficPolicy.tls.insecureSkipVerify ~ void`,
	}},
	{"tls files", policySpec(`tls: {mode: MUTUAL, clientCertificate: /a, privateKey: /b, caCertificates: /c, caCrl: /d, sni: a.example.com, subjectAltNames: [a.example.com]}`), nil},
	{"tls of the system", policySpec(`tls: {mode: SIMPLE}`), nil},
	{"tls names", policySpec(`tls: {mode: SIMPLE, privateKey: /k, sni: "*.a", subjectAltNames: ["", "a b", "*.a"]}`), []string{
		`HDL0009? 7:5 spec.trafficPolicy.tls ~ SIMPLE shows no certificate`,
		`IST0106! 7:46 spec.trafficPolicy.tls.sni ~ "*.a" is no name of a server`,
		`IST0106! 7:71 spec.trafficPolicy.tls.subjectAltNames[0] ~ "" is no name`,
		`IST0106! 7:75 spec.trafficPolicy.tls.subjectAltNames[1] ~ "a b" has a space`,
		`HDL0009? 7:82 spec.trafficPolicy.tls.subjectAltNames[2] ~ compared as it stands`,
	}},
	{"tunnel and the rest", policySpec(`tunnel: {protocol: GET, targetPort: 0}
    proxyProtocol: {version: V2}
    retryBudget: {percent: 101, budgetInterval: 0s}`), []string{
		`IST0106! 7:5 spec.trafficPolicy.tunnel.targetHost ~ targetHost is missing`,
		`HDL0008! 7:5 spec.trafficPolicy.tunnel ~ is not built`,
		`IST0106! 7:24 spec.trafficPolicy.tunnel.protocol ~ "GET" is no protocol of a tunnel`,
		`IST0106! 7:41 spec.trafficPolicy.tunnel.targetPort ~ 0 is no port`,
		`IST0106! 8:5 spec.trafficPolicy.proxyProtocol ~ exclude each other`,
		`IST0106! 9:28 spec.trafficPolicy.retryBudget.percent ~ 101 is no percentage`,
	}},
}

func TestValidatePolicies(t *testing.T) {
	t.Parallel()
	runValidate(t, "DestinationRule", policyCases)
}

func balancerSpec(text string) string { return policySpec("loadBalancer: {" + text + "}") }

var balancerCases = []validateCase{
	{"A-037 old name", balancerSpec(`simple: LEAST_CONN`), []string{
		`HDL0009? 7:28 spec.trafficPolicy.loadBalancer.simple ~ LEAST_CONN is the old name of LEAST_REQUEST`,
	}},
	{"A-037 passthrough", balancerSpec(`simple: PASSTHROUGH`), nil},
	{"A-037 no key", balancerSpec(`consistentHash: {}`), []string{
		`IST0106! 7:20 spec.trafficPolicy.loadBalancer.consistentHash ~ there is nothing to hash`,
	}},
	{"A-037 source address off", balancerSpec(`consistentHash: {useSourceIp: false}`), []string{
		`IST0106! 7:50 spec.trafficPolicy.loadBalancer.consistentHash.useSourceIp ~ there is nothing to hash`,
	}},
	{"A-037 empty header", balancerSpec(`consistentHash: {httpHeaderName: ""}`), []string{
		`IST0106! 7:53 spec.trafficPolicy.loadBalancer.consistentHash.httpHeaderName ~ "" is no name of a header`,
	}},
	{"A-037 empty query parameter", balancerSpec(`consistentHash: {httpQueryParameterName: ""}`), []string{
		`IST0106! 7:61 spec.trafficPolicy.loadBalancer.consistentHash.httpQueryParameterName ~ is no query parameter`,
	}},
	{"A-037 empty cookie", balancerSpec(`consistentHash: {httpCookie: {name: "", ttl: -1s, attributes: [{value: a}]}}`), []string{
		`IST0106! 7:56 spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.name ~ "" is no name of a cookie`,
		`IST0106! 7:65 spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.ttl ~ "-1s" is negative`,
		`IST0106! 7:83 spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.attributes[0].name ~ is no name of an attribute`,
	}},
	{"A-037 table not prime", balancerSpec(`consistentHash: {useSourceIp: true, maglev: {tableSize: 65536}}`), []string{
		`IST0106! 7:76 spec.trafficPolicy.loadBalancer.consistentHash.maglev.tableSize ~ 65536 is no size of a Maglev table`,
	}},
	{"A-037 table too large", balancerSpec(`consistentHash: {useSourceIp: true, maglev: {tableSize: 5000011}}`), []string{
		`IST0106! 7:76 spec.trafficPolicy.loadBalancer.consistentHash.maglev.tableSize ~ 5000011 is no size`,
	}},
	{"A-037 table", balancerSpec(`consistentHash: {useSourceIp: true, maglev: {tableSize: 65537}}`), nil},
	{"A-037 cookies", balancerSpec(`consistentHash: {httpCookie: {name: a, path: "/;", ttl: 1s, attributes: [{name: SameSite, value: "a; b"}]}}`), []string{
		`IST0106! 7:65 spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.path ~ is no path of a cookie`,
		`IST0106! 7:117 spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.attributes[0].value ~ is no value of an attribute`,
	}},
	{"cookie that is not made", balancerSpec(`consistentHash: {httpCookie: {name: a, path: /}}`), []string{
		`HDL0009? 7:37 spec.trafficPolicy.loadBalancer.consistentHash.httpCookie ~ without ttl no cookie is made`,
	}},
	{"A-037 ring", balancerSpec(`consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 18446744073709551615}, minimumRingSize: 8388609}`), []string{
		`IST0106! 7:84 spec.trafficPolicy.loadBalancer.consistentHash.ringHash.minimumRingSize ~ is out of range; write 0 to 8388608`,
		`IST0106! 7:124 spec.trafficPolicy.loadBalancer.consistentHash.minimumRingSize ~ 8388609 is out of range`,
		`HDL0009? 7:124 spec.trafficPolicy.loadBalancer.consistentHash.minimumRingSize ~ is the old form of ringHash.minimumRingSize`,
	}},
	{"A-038 distribute", balancerSpec(`localityLbSetting: {distribute: [
      {from: a/*, to: {b: 50, c: 49}},
      {from: a/z, to: {b: 100}},
      {from: a/*/c, to: {b: 100}},
      {from: "", to: {"": 100}}]}`), []string{
		`IST0106! 8:19 spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to ~ the shares sum to 99`,
		`IST0106! 9:14 spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[1].from ~ "a/z" overlaps distribute[0].from`,
		`IST0106! 10:14 spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[2].from ~ "a/*/c" is no locality`,
		`IST0106! 11:14 spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[3].from ~ "" is no locality`,
		`IST0106! 11:23 spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[3].to[""] ~ "" is no locality`,
	}},
	{"A-038 from twice", balancerSpec(`localityLbSetting: {distribute: [{from: a/*, to: {b: 100}}, {from: a, to: {b: 100}}, {from: b, to: {a: 0, c: 100}}]}`), []string{
		`IST0106! 7:60 spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[0].from ~ "a/*" overlaps distribute[1].from`,
		`IST0106! 7:123 spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[2].to.a ~ 0 is out of range`,
	}},
	{"A-038 failover", balancerSpec(`localityLbSetting: {failover: [{from: a, to: a}, {from: a, to: b/c}], failoverPriority: ["=x"]}`), []string{
		`IST0106! 7:65 spec.trafficPolicy.loadBalancer.localityLbSetting.failover[0].to ~ "a" is where the failover comes from`,
		`IST0106! 7:76 spec.trafficPolicy.loadBalancer.localityLbSetting.failover[1].from ~ "a" repeats failover[0]`,
		`IST0106! 7:83 spec.trafficPolicy.loadBalancer.localityLbSetting.failover[1].to ~ "b/c" is no region`,
		`IST0106! 7:109 spec.trafficPolicy.loadBalancer.localityLbSetting.failoverPriority[0] ~ names no label`,
	}},
	{"A-038 both", balancerSpec(`localityLbSetting: {distribute: [{from: a, to: {b: 100}}], failover: [{from: a, to: b}]}, zoneAwareLbSetting: {enabled: true}`), []string{
		`IST0106! 7:79 spec.trafficPolicy.loadBalancer.localityLbSetting.failover ~ distribute and failover exclude each other`,
		`IST0106! 7:110 spec.trafficPolicy.loadBalancer.zoneAwareLbSetting ~ exclude each other`,
		`HDL0008? 7:110 spec.trafficPolicy.loadBalancer.zoneAwareLbSetting ~ without effect, not built in this version yet: `,
	}},
	{"warm-up", balancerSpec(`warmup: {duration: 1us, minimumPercent: 101, aggression: -.5}, warmupDurationSecs: 1s, simple: RANDOM`), []string{
		`IST0106! 7:20 spec.trafficPolicy.loadBalancer.warmup ~ warmup needs ROUND_ROBIN or LEAST_REQUEST`,
		`IST0106! 7:39 spec.trafficPolicy.loadBalancer.warmup.duration ~ "1us" is shorter than 1ms`,
		`IST0106! 7:60 spec.trafficPolicy.loadBalancer.warmup.minimumPercent ~ 101 is no percentage`,
		`IST0106! 7:77 spec.trafficPolicy.loadBalancer.warmup.aggression ~ -.5 is negative`,
		`IST0106! 7:103 spec.trafficPolicy.loadBalancer.warmupDurationSecs ~ exclude each other`,
	}},
	{"warm-up in the old form", balancerSpec(`warmupDurationSecs: 30s`), []string{
		`HDL0009? 7:40 spec.trafficPolicy.loadBalancer.warmupDurationSecs ~ warmupDurationSecs is the old form of warmup.duration`,
	}},
}

func TestValidateBalancers(t *testing.T) {
	t.Parallel()
	runValidate(t, "DestinationRule", balancerCases)
}
