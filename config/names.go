package config

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Istio's mesh defaults (MeshConfig rootNamespace, and the cluster domain).
const (
	rootNamespace = "istio-system"
	clusterDomain = "cluster.local"
	meshGateway   = "mesh" // the reserved name for all sidecars
)

// resolveHost gives the full name of a host as a rule of the namespace means it: a name without a dot
// belongs to the rule's namespace; wildcards, IP addresses and names with a dot are left as they are
// (istio.io, pkg/config/host ResolveShortname).
func resolveHost(host, namespace string) string {
	host = canonicalName(host)
	if host == "" || strings.ContainsAny(host, ".*:") {
		return host
	}
	return host + "." + namespace + ".svc." + clusterDomain
}

// canonicalName is a host as the registry keeps it: lower case, no trailing dot.
func canonicalName(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }

// serviceName takes <name>.<namespace>.svc.<cluster domain> apart.
func serviceName(fqdn string) (name, namespace string, ok bool) {
	rest, ok := strings.CutSuffix(fqdn, ".svc."+clusterDomain)
	if !ok {
		return "", "", false
	}
	name, namespace, ok = strings.Cut(rest, ".")
	if !ok || name == "" || namespace == "" || strings.Contains(namespace, ".") || isWildcard(name) {
		return "", "", false
	}
	return name, namespace, true
}

// shortNames lists the further names by which a workload of the namespace reaches a service: name.ns and
// name.ns.svc for everyone, the bare name within the service's own namespace.
func shortNames(fqdn, workloadNamespace string) []string {
	name, namespace, ok := serviceName(fqdn)
	if !ok {
		return nil
	}
	short := []string{name + "." + namespace, name + "." + namespace + ".svc"}
	if namespace == workloadNamespace {
		short = append(short, name)
	}
	return short
}

// covers reports whether a host pattern takes a host: the same name, or a wildcard's suffix. A wildcard
// takes narrower wildcards too.
func covers(pattern, host string) bool {
	if !isWildcard(pattern) {
		return pattern == host
	}
	suffix := pattern[1:]
	return strings.HasSuffix(strings.TrimPrefix(host, "*"), suffix) && len(host) > len(suffix)
}

// visible reports whether something of the namespace, exported so, is seen from another (exportTo).
func visible(exportTo []string, namespace, from string) bool {
	if len(exportTo) == 0 {
		return true // MeshConfig default…ExportTo is "*"
	}
	return slices.Contains(exportTo, "*") || slices.Contains(exportTo, from) ||
		namespace == from && slices.Contains(exportTo, ".")
}

// hasLabels reports whether labels hold all of the selector's.
func hasLabels(labels, selector map[string]string) bool {
	for k, v := range selector {
		if got, ok := labels[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// isIP reports an IP address, in brackets or not.
func isIP(s string) bool {
	if inner, ok := strings.CutPrefix(s, "["); ok {
		s = strings.TrimSuffix(inner, "]")
	}
	_, err := netip.ParseAddr(s)
	return err == nil
}

// sortedKeys lists a map's keys, so that what is made of them comes in one order.
func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
