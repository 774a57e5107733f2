package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// cluster is what metrics say where the workloads are: Kiali tells workloads of the same name apart by it.
const cluster = "bookinfo"

// workloadLabels are those of an instance, by which subsets choose it and metrics call it.
func workloadLabels(service, version string) map[string]string {
	return map[string]string{
		"app": service, "version": version, "topology.istio.io/cluster": cluster, "service.istio.io/workload-name": service + "-" + version,
	}
}

// joined writes labels as heddle takes them, with "=", or as YAML does, with ": ", the names in order.
func joined(labels map[string]string, is, comma string) string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		all = append(all, fmt.Sprint(name, is, labels[name]))
	}
	return strings.Join(all, comma)
}
