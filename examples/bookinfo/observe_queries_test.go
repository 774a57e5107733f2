package main

import "strings"

// What Istio's dashboards of meshes, services and workloads, and Kiali, ask of data-plane metrics, by metric, labels and grouping; the words
// are ours. $service, $workload and $namespace match what is chosen, $reporter is the side that counts.

// A dashboardQuery is one of them.
type dashboardQuery struct{ board, panel, expr string }

// istioQueries lists what the three dashboards ask for.
func istioQueries() []dashboardQuery {
	var all []dashboardQuery
	add := func(board, panel, expr string) { all = append(all, dashboardQuery{board, panel, expr}) }
	total := func(match, by string) string { return "sum(irate(istio_requests_total{" + match + "}[5m]))" + by }
	good := func(match, by string) string {
		return total(match+`,response_code!~"5.*"`, by) + " / " + total(match, by)
	}
	quantiles := func(board, panel, metric, match string, by ...string) {
		labels := strings.Join(append(by, "le"), ", ")
		for _, q := range []string{"0.50", "0.90", "0.95", "0.99"} {
			add(board, panel+" p"+q[2:], "histogram_quantile("+q+", sum(irate("+metric+"_bucket{"+match+"}[1m])) by ("+labels+"))")
		}
	}
	volume := func(metric, match, by string) string {
		return "round(sum(irate(" + metric + "{" + match + "}[1m])) by (" + by + "), 0.001)"
	}
	add("mesh", "global request volume", `round(sum(irate(istio_requests_total{reporter=~"source|waypoint"}[1m])), 0.001)`)
	add("mesh", "global success rate", `sum(rate(istio_requests_total{reporter=~"source|waypoint",response_code!~"5.*"}[1m])) / sum(rate(istio_requests_total{reporter=~"source|waypoint"}[1m]))`)
	add("mesh", "4xx", `round(sum(irate(istio_requests_total{reporter="destination",response_code=~"4.*"}[1m])), 0.01) or vector(0)`)
	add("mesh", "5xx", `round(sum(irate(istio_requests_total{reporter="destination",response_code=~"5.*"}[1m])), 0.01) or vector(0)`)
	const workloads = `destination_workload, destination_workload_namespace, destination_service`
	add("mesh", "requests", `label_join(sum(rate(istio_requests_total{reporter=~"source|waypoint",response_code="200"}[1m])) by (`+workloads+`), "destination_workload_var", ".", "destination_workload", "destination_workload_namespace")`)
	for _, q := range []string{"0.50", "0.90", "0.99"} {
		add("mesh", "latency "+q, `label_join(histogram_quantile(`+q+`, sum(rate(istio_request_duration_milliseconds_bucket{reporter=~"source|waypoint"}[1m])) by (le, `+workloads+`)), "destination_workload_var", ".", "destination_workload", "destination_workload_namespace")`)
	}
	add("mesh", "success rate", `label_join(sum(rate(istio_requests_total{reporter=~"source|waypoint",response_code!~"5.*"}[1m])) by (`+workloads+`) / sum(rate(istio_requests_total{reporter=~"source|waypoint"}[1m])) by (`+workloads+`), "destination_workload_var", ".", "destination_workload", "destination_workload_namespace")`)
	for _, bytes := range tcpBytes {
		add("mesh", bytes, `label_join(sum(rate(`+bytes+`{reporter=~"source|waypoint"}[1m])) by (`+workloads+`), "destination_workload_var", ".", "destination_workload", "destination_workload_namespace")`)
	}
	add("mesh", "components", `sum(istio_build) by (component, tag)`)

	const (
		service = `reporter=~"$reporter",destination_service=~"$service"`
		client  = service + `,source_workload=~"$workload",source_workload_namespace=~"$namespace"`
		server  = service + `,destination_workload=~"$workload",destination_workload_namespace=~"$namespace"`
		mtls    = `,connection_security_policy="mutual_tls"`
		plain   = `,connection_security_policy!="mutual_tls"`
	)
	add("service", "services", `sum(istio_requests_total{}) by (destination_service)`)
	add("service", "client clusters", `sum(istio_requests_total{`+service+`}) by (source_cluster)`)
	add("service", "client namespaces", `sum(istio_requests_total{`+service+`}) by (source_workload_namespace)`)
	add("service", "client workloads", `sum(istio_requests_total{`+service+`,source_workload_namespace=~"$namespace"}) by (source_workload)`)
	add("service", "service clusters", `sum(istio_requests_total{reporter="destination",destination_service=~"$service"}) by (destination_cluster)`)
	add("service", "service namespaces", `sum(istio_requests_total{reporter="destination",destination_service=~"$service"}) by (destination_workload_namespace)`)
	add("service", "service workloads", `sum(istio_requests_total{reporter="destination",destination_service=~"$service",destination_cluster=~".*",destination_workload_namespace=~"$namespace"}) by (destination_workload)`)
	for _, side := range []struct{ name, match string }{{"client", service}, {"server", `reporter="destination",destination_service=~"$service"`}} {
		add("service", side.name+" request volume", `round(`+total(side.match, "")+`, 0.001)`)
		add("service", side.name+" success rate", good(side.match, ""))
		quantiles("service", side.name+" duration", "istio_request_duration_milliseconds", side.match)
		for _, bytes := range tcpBytes {
			add("service", side.name+" "+bytes, `sum(irate(`+bytes+`{`+side.match+`}[1m]))`)
		}
	}
	for _, side := range []struct{ name, match, by string }{
		{"by source", client, "source_workload, source_workload_namespace"},
		{"by destination", server, "destination_workload, destination_workload_namespace"},
	} {
		by := strings.Split(side.by, ", ")
		for _, security := range []string{mtls, plain} {
			add("service", "incoming requests "+side.name+security, `round(`+total(side.match+security, " by ("+side.by+", response_code)")+`, 0.001)`)
			add("service", "incoming success rate "+side.name+security, good(side.match+security, " by ("+side.by+")"))
			for name, metric := range map[string]string{"duration": "istio_request_duration_milliseconds", "request size": "istio_request_bytes", "response size": "istio_response_bytes"} {
				quantiles("service", name+" "+side.name+security, metric, side.match+security, by...)
			}
			for _, bytes := range tcpBytes {
				add("service", bytes+" "+side.name+security, volume(bytes, side.match+security, side.by))
			}
		}
	}

	const (
		inbound  = `reporter=~"$reporter",destination_workload=~"$workload",destination_workload_namespace=~"$namespace"`
		outbound = `reporter="source",source_workload=~"$workload",source_workload_namespace=~"$namespace"`
	)
	add("workload", "namespaces", `sum(istio_requests_total) by (destination_workload_namespace)`)
	add("workload", "workloads", `sum(istio_requests_total{destination_workload_namespace=~"$namespace"}) by (destination_workload)`)
	add("workload", "callers", `sum(istio_requests_total{`+inbound+`}) by (source_workload)`)
	add("workload", "services that are called", `sum(istio_requests_total{`+outbound+`}) by (destination_service)`)
	for _, bytes := range tcpBytes {
		add("workload", "server "+bytes, `sum(irate(`+bytes+`{`+inbound+`}[1m]))`)
		add("workload", "client "+bytes, `sum(irate(`+bytes+`{`+outbound+`}[1m]))`)
	}
	add("workload", "request volume", `round(`+total(inbound, "")+`, 0.001)`)
	add("workload", "success rate", good(inbound, ""))
	quantiles("workload", "duration", "istio_request_duration_milliseconds", inbound)
	for _, side := range []struct{ name, match, by string }{
		{"inbound", inbound + `,source_workload=~".*",source_workload_namespace=~".*"`, "source_workload, source_workload_namespace"},
		{"outbound", outbound + `,destination_service=~"$service"`, "destination_service"},
	} {
		by := strings.Split(side.by, ", ")
		policies := []string{mtls, plain}
		if side.name == "outbound" {
			policies = policies[1:] // the caller's side leaves it unknown, in Istio too
		}
		for _, security := range policies {
			add("workload", side.name+" requests"+security, `round(`+total(side.match+security, " by ("+side.by+", response_code)")+`, 0.001)`)
			add("workload", side.name+" success rate"+security, good(side.match+security, " by ("+side.by+")"))
			for name, metric := range map[string]string{"duration": "istio_request_duration_milliseconds", "request size": "istio_request_bytes", "response size": "istio_response_bytes"} {
				quantiles("workload", side.name+" "+name+security, metric, side.match+security, by...)
			}
			for _, bytes := range tcpBytes {
				add("workload", side.name+" "+bytes+security, volume(bytes, side.match+security, side.by))
			}
		}
	}
	return all
}

// Labels by which Kiali makes edges of requests, and tells which of them are by mutual TLS.
const (
	kialiEdge = "source_cluster, source_workload_namespace, source_workload, source_canonical_service, source_canonical_revision, " +
		"destination_cluster, destination_service_namespace, destination_service, destination_service_name, destination_workload_namespace, " +
		"destination_workload, destination_canonical_service, destination_canonical_revision"
	kialiTraffic  = kialiEdge + ", request_protocol, response_code, grpc_response_status, response_flags"
	kialiSecurity = kialiEdge + ", source_principal, destination_principal, connection_security_policy"
)

// kialiQueries are those of its graph: traffic, security, response times and throughput.
var kialiQueries = []string{
	`sum(rate(istio_requests_total{reporter=~"source|waypoint"}[1m])) by (` + kialiTraffic + `) > 0`,
	`sum(rate(istio_requests_total{reporter="destination"}[1m])) by (` + kialiTraffic + `) > 0`,
	`sum(rate(istio_requests_total{reporter="destination"}[1m])) by (` + kialiSecurity + `) > 0`,
	`histogram_quantile(0.95, sum(rate(istio_request_duration_milliseconds_bucket{reporter=~"source|waypoint"}[1m])) by (le, ` + kialiEdge + `, request_protocol)) > 0`,
	`sum(rate(istio_request_duration_milliseconds_sum{reporter="destination"}[1m])) by (` + kialiEdge + `) / sum(rate(istio_request_duration_milliseconds_count{reporter="destination"}[1m])) by (` + kialiEdge + `) > 0`,
	`sum(rate(istio_request_bytes_sum{reporter=~"source|waypoint"}[1m])) by (` + kialiEdge + `)`,
	`sum(rate(istio_response_bytes_sum{reporter=~"source|waypoint"}[1m])) by (` + kialiEdge + `) > 0`,
}
