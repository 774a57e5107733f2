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

// clusterFamilies are the metrics of the clusters: those that people alert on by Envoy's names (Envoy, cluster manager
// statistics, with the name as the label cluster_name), and those of the endpoints by our own.
func (e *Engine) clusterFamilies(yield func(telemetry.Family)) {
	st, now := e.state.Load(), e.now()
	e.sweepAll(st, now)
	gauge := func(name, help string, value func(*clusterCount) float64) clusterFamily {
		return clusterFamily{telemetry.Family{Name: name, Help: help, Kind: telemetry.Gauge}, value}
	}
	counter := func(name, help string, value func(*clusterCount) float64) clusterFamily {
		return clusterFamily{telemetry.Family{Name: name, Help: help, Kind: telemetry.Counter}, value}
	}
	families := []clusterFamily{
		gauge("envoy_cluster_upstream_rq_active", "Attempts under way.", func(c *clusterCount) float64 { return float64(c.Active) }),
		counter("envoy_cluster_upstream_rq_total", "Attempts begun.", func(c *clusterCount) float64 { return float64(c.Total) }),
		gauge("envoy_cluster_upstream_rq_pending_active", "Requests that wait for a connection.",
			func(c *clusterCount) float64 { return float64(c.load.Pending.Active()) }),
		counter("envoy_cluster_upstream_rq_pending_overflow", "Requests that a limit or a circuit breaker has refused.",
			func(c *clusterCount) float64 { return float64(c.load.counts.overflow.Load()) }),
		counter("envoy_cluster_upstream_rq_retry", "Retries.", func(c *clusterCount) float64 { return float64(c.load.counts.retries.Load()) }),
		counter("envoy_cluster_upstream_rq_retry_overflow", "Retries that the retry budget has refused.",
			func(c *clusterCount) float64 { return float64(c.load.counts.retryRefused.Load()) }),
		gauge("envoy_cluster_upstream_cx_active", "Connections that are open.", func(c *clusterCount) float64 { return float64(c.load.connections.active.Load()) }),
		counter("envoy_cluster_upstream_cx_total", "Connections, those too that could not be made.",
			func(c *clusterCount) float64 { return float64(c.load.connections.total.Load()) }),
		counter("envoy_cluster_upstream_cx_connect_fail", "Connections that could not be made.",
			func(c *clusterCount) float64 { return float64(c.load.connections.failed.Load()) }),
		counter("envoy_cluster_upstream_cx_connect_timeout", "Connections that could not be made in time.",
			func(c *clusterCount) float64 { return float64(c.load.connections.late.Load()) }),
		counter("envoy_cluster_upstream_cx_overflow", "Requests that had to wait because of maxConnections.",
			func(c *clusterCount) float64 { return float64(c.load.connections.overflow.Load()) }),
		counter("envoy_cluster_upstream_cx_destroy", "Connections that have ended.",
			func(c *clusterCount) float64 { return float64(c.load.connections.ended.Load()) }),
		gauge("envoy_cluster_membership_total", "Endpoints.", func(c *clusterCount) float64 { return float64(c.members) }),
		gauge("envoy_cluster_membership_healthy", "Endpoints that outlier detection does not keep out.",
			func(c *clusterCount) float64 { return float64(c.members - c.ejected) }),
		gauge("envoy_cluster_outlier_detection_ejections_active", "Endpoints that outlier detection keeps out.",
			func(c *clusterCount) float64 { return float64(c.ejected) }),
		counter("envoy_cluster_outlier_detection_ejections_enforced_total", "Ejections.",
			func(c *clusterCount) float64 { return float64(c.load.counts.ejections.Load()) }),
	}
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
