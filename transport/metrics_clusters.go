package transport

import (
	"sync/atomic"

	"github.com/heddlemesh/mesh/routing/balance"
	"github.com/heddlemesh/mesh/telemetry"
)

// clusterCounts are what a cluster has counted since it was first there.
type clusterCounts struct {
	retries      atomic.Uint64
	retryRefused atomic.Uint64 // by the retry budget
	overflow     atomic.Uint64 // requests that a limit has refused
	ejections    atomic.Uint64
}

// clusterFamilies are the metrics of a cluster, without their samples. A table and no code: that is a fraction of the size.
var clusterFamilies = [...]clusterFamily{
	{telemetry.Family{Name: "envoy_cluster_upstream_rq_active", Help: "Attempts under way.", Kind: telemetry.Gauge},
		func(c *clusterCount) float64 { return float64(c.Active) }},
	{telemetry.Family{Name: "envoy_cluster_upstream_rq_total", Help: "Attempts begun.", Kind: telemetry.Counter},
		func(c *clusterCount) float64 { return float64(c.Total) }},
	{telemetry.Family{Name: "envoy_cluster_upstream_rq_pending_active", Help: "Requests that wait for a connection.", Kind: telemetry.Gauge},
		func(c *clusterCount) float64 { return float64(c.load.Pending.Active()) }},
	{telemetry.Family{Name: "envoy_cluster_upstream_rq_pending_overflow", Help: "Requests that a limit or a circuit breaker has refused.", Kind: telemetry.Counter},
		func(c *clusterCount) float64 { return float64(c.load.counts.overflow.Load()) }},
	{telemetry.Family{Name: "envoy_cluster_upstream_rq_retry", Help: "Retries.", Kind: telemetry.Counter},
		func(c *clusterCount) float64 { return float64(c.load.counts.retries.Load()) }},
	{telemetry.Family{Name: "envoy_cluster_upstream_rq_retry_overflow", Help: "Retries that the retry budget has refused.", Kind: telemetry.Counter},
		func(c *clusterCount) float64 { return float64(c.load.counts.retryRefused.Load()) }},
	{telemetry.Family{Name: "envoy_cluster_upstream_cx_active", Help: "Connections that are open.", Kind: telemetry.Gauge},
		func(c *clusterCount) float64 { return float64(c.load.connections.active.Load()) }},
	{telemetry.Family{Name: "envoy_cluster_upstream_cx_total", Help: "Connections, those too that could not be made.", Kind: telemetry.Counter},
		func(c *clusterCount) float64 { return float64(c.load.connections.total.Load()) }},
	{telemetry.Family{Name: "envoy_cluster_upstream_cx_connect_fail", Help: "Connections that could not be made.", Kind: telemetry.Counter},
		func(c *clusterCount) float64 { return float64(c.load.connections.failed.Load()) }},
	{telemetry.Family{Name: "envoy_cluster_upstream_cx_connect_timeout", Help: "Connections that could not be made in time.", Kind: telemetry.Counter},
		func(c *clusterCount) float64 { return float64(c.load.connections.late.Load()) }},
	{telemetry.Family{Name: "envoy_cluster_upstream_cx_overflow", Help: "Requests that had to wait because of maxConnections, and connections that are not HTTP that it has refused.", Kind: telemetry.Counter},
		func(c *clusterCount) float64 { return float64(c.load.connections.overflow.Load()) }},
	{telemetry.Family{Name: "envoy_cluster_upstream_cx_destroy", Help: "Connections that have ended.", Kind: telemetry.Counter},
		func(c *clusterCount) float64 { return float64(c.load.connections.ended.Load()) }},
	{telemetry.Family{Name: "envoy_cluster_membership_total", Help: "Endpoints.", Kind: telemetry.Gauge},
		func(c *clusterCount) float64 { return float64(c.members) }},
	{telemetry.Family{Name: "envoy_cluster_membership_healthy", Help: "Endpoints that outlier detection does not keep out.", Kind: telemetry.Gauge},
		func(c *clusterCount) float64 { return float64(c.members - c.ejected) }},
	{telemetry.Family{Name: "envoy_cluster_outlier_detection_ejections_active", Help: "Endpoints that outlier detection keeps out.", Kind: telemetry.Gauge},
		func(c *clusterCount) float64 { return float64(c.ejected) }},
	{telemetry.Family{Name: "envoy_cluster_outlier_detection_ejections_enforced_total", Help: "Ejections.", Kind: telemetry.Counter},
		func(c *clusterCount) float64 { return float64(c.load.counts.ejections.Load()) }},
}

// families are the metrics of the clusters: those that people alert on by Envoy's names (Envoy, cluster manager
// statistics, with the name as the label cluster_name), and those of the endpoints by our own.
func (e *Engine) families(yield func(telemetry.Family)) {
	st, now := e.state.Load(), e.now()
	e.sweepAll(st, now)
	families := clusterFamilies
	active := telemetry.Family{Name: "heddle_endpoint_attempts_active", Help: "Attempts under way on an endpoint.", Kind: telemetry.Gauge}
	total := telemetry.Family{Name: "heddle_endpoint_attempts_total", Help: "Attempts begun on an endpoint.", Kind: telemetry.Counter}
	failed := telemetry.Family{Name: "heddle_endpoint_attempts_failed_total", Help: "Attempts that an endpoint failed.", Kind: telemetry.Counter}
	for _, c := range st.clusters {
		sum := clusterCount{load: c.records.load}
		for _, ep := range c.picker.Load().all {
			n, address := ep.Counts(), ep.Def.Address.String()
			active.Add(float64(n.Active), "cluster", c.def.Name, "endpoint", address)
			total.Add(float64(n.Total), "cluster", c.def.Name, "endpoint", address)
			failed.Add(float64(n.Failed), "cluster", c.def.Name, "endpoint", address)
			sum.add(ep, n)
		}
		for i := range families {
			families[i].Add(families[i].value(&sum), "cluster_name", c.def.Name)
		}
	}
	for _, f := range families {
		yield(f.Family)
	}
	yield(active)
	yield(total)
	yield(failed)
}

type clusterFamily struct {
	telemetry.Family
	value func(*clusterCount) float64
}

// A clusterCount is what the endpoints of one cluster come to.
type clusterCount struct {
	balance.Counts
	members, ejected int
	load             *Load
}

func (c *clusterCount) add(ep *balance.Endpoint, n balance.Counts) {
	c.Active += n.Active
	c.Total += n.Total
	c.members++
	if !ep.Healthy() {
		c.ejected++
	}
}
