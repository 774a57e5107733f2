package cli

import (
	"cmp"
	"context"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/transport"
)

// A clusterName is "outbound|<port>|<subset>|<host>" in its pieces.
type clusterName struct{ direction, port, subset, host string }

func splitCluster(name string) clusterName {
	p := strings.SplitN(name, "|", 4)
	if len(p) != 4 {
		return clusterName{"-", "-", "-", name}
	}
	return clusterName{p[0], p[1], p[2], p[3]}
}

// ruleOf makes name.namespace of where something was written, "" where that is of another kind.
func ruleOf(kind, origin string) string {
	_, rest, ok := strings.Cut(origin, kind+" ")
	if !ok {
		return ""
	}
	rest, _, _ = strings.Cut(rest, " ")
	namespace, name, ok := strings.Cut(strings.TrimRight(rest, ",;:"), "/")
	if !ok {
		return ""
	}
	return name + "." + namespace
}

func dash(s string) string { return cmp.Or(s, "-") }

// A clusterFilter is istioctl's flags of clusters.
type clusterFilter struct {
	fqdn, direction, subset string
	port                    int
}

func (f *clusterFilter) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.fqdn, "fqdn", "", "only of the service of this `name`, or part of it")
	cmd.Flags().StringVar(&f.direction, "direction", "", "only of this `direction`: outbound")
	cmd.Flags().StringVar(&f.subset, "subset", "", "only of this `subset`")
	cmd.Flags().IntVar(&f.port, "port", 0, "only of this `port`")
}

func (f *clusterFilter) takes(n clusterName) bool {
	return strings.Contains(n.host, f.fqdn) && (f.direction == "" || f.direction == n.direction) && (f.subset == "" || f.subset == n.subset) &&
		(f.port == 0 || strconv.Itoa(f.port) == n.port)
}

func clustersOf(ctx context.Context, admin string, take func(clusterName) bool) ([]transport.ClusterView, error) {
	var all []transport.ClusterView
	err := adminPage(ctx, admin, "/clusters?format=json", &all)
	return slices.DeleteFunc(all, func(c transport.ClusterView) bool { return !take(splitCluster(c.Name)) }), err
}

func clustersCommand() *cobra.Command {
	var f clusterFilter
	cmd, _ := inspection("clusters", []string{"cluster", "c"}, "clusters",
		"clusters prints each service, port and subset that calls can go to, and the DestinationRule that says how.",
		func(ctx context.Context, admin string) (shown, error) {
			all, err := clustersOf(ctx, admin, f.takes)
			return shown{all, clusterTable(all)}, err
		})
	f.flags(cmd)
	return cmd
}

func clusterTable(all []transport.ClusterView) string {
	rows := [][]string{{"SERVICE FQDN", "PORT", "SUBSET", "DIRECTION", "TYPE", "DESTINATION RULE"}}
	for _, c := range all {
		n, kind := splitCluster(c.Name), "EDS"
		if c.Direct {
			kind = "ORIGINAL_DST"
		}
		rows = append(rows, []string{n.host, n.port, dash(n.subset), n.direction, kind, ruleOf("DestinationRule", c.Origin)})
	}
	return table(rows...)
}

func endpointsCommand() *cobra.Command {
	var cluster, status, address string
	port := 0
	cmd, _ := inspection("endpoints", []string{"endpoint", "ep"}, "endpoints",
		"endpoints prints each endpoint of each cluster, and whether outlier detection keeps it out.",
		func(ctx context.Context, admin string) (shown, error) {
			all, err := clustersOf(ctx, admin, func(clusterName) bool { return true })
			for i := range all {
				all[i].Endpoints = slices.DeleteFunc(all[i].Endpoints, func(e transport.EndpointView) bool {
					host, p, _ := net.SplitHostPort(e.Address)
					return address != "" && address != host || port != 0 && strconv.Itoa(port) != p || status != "" && !strings.EqualFold(status, healthOf(&e))
				})
			}
			all = slices.DeleteFunc(all, func(c transport.ClusterView) bool {
				return len(c.Endpoints) == 0 || cluster != "" && cluster != c.Name
			})
			return shown{all, endpointTable(all)}, err
		})
	cmd.Flags().StringVar(&cluster, "cluster", "", "only of the cluster of this `name`")
	cmd.Flags().StringVar(&status, "status", "", "only of this `status`: healthy or unhealthy")
	cmd.Flags().StringVar(&address, "address", "", "only of this `address`")
	cmd.Flags().IntVar(&port, "port", 0, "only of this `port`")
	return cmd
}

func healthOf(e *transport.EndpointView) string {
	if e.Ejected != nil {
		return "UNHEALTHY"
	}
	return "HEALTHY"
}

func endpointTable(all []transport.ClusterView) string {
	rows := [][]string{{"ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER"}}
	for _, c := range all {
		for i := range c.Endpoints {
			e, check := &c.Endpoints[i], "OK"
			if e.Ejected != nil {
				check = "FAILED"
			}
			rows = append(rows, []string{e.Address, healthOf(e), check, c.Name})
		}
	}
	return table(rows...)
}

func routesCommand() *cobra.Command {
	name := ""
	cmd, _ := inspection("routes", []string{"route", "r"}, "routes",
		"routes prints each host that calls can be made to, with its rules in the order in which they are asked.",
		func(ctx context.Context, admin string) (shown, error) {
			var all []transport.HostView
			err := adminPage(ctx, admin, "/routes", &all)
			all = slices.DeleteFunc(all, func(h transport.HostView) bool { return name != "" && name != strconv.Itoa(int(h.Port)) })
			return shown{all, routeTable(all)}, err
		})
	cmd.Flags().StringVar(&name, "name", "", "only of the routes of this `name`, which is a port")
	return cmd
}

func routeTable(all []transport.HostView) string {
	rows := [][]string{{"NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE"}}
	for _, h := range all {
		port := strconv.Itoa(int(h.Port))
		domains := h.Host
		if n := len(h.Also); n > 0 {
			domains = h.Also[0] + ", " + h.Host
			if n > 1 {
				domains += " + " + strconv.Itoa(n-1) + " more..."
			}
		}
		for _, r := range h.Routes {
			match := strings.Join(r.Match, " or ")
			if match == "" {
				match = "/*"
			}
			rows = append(rows, []string{port, h.Host + ":" + port, domains, match, ruleOf("VirtualService", r.Origin)})
		}
	}
	return table(rows...)
}

// A listenerView is one of /listeners.
type listenerView struct {
	Name    string `json:"name"`
	Address string `json:"address"`
	App     string `json:"app,omitempty"`
	Origin  string `json:"origin,omitempty"` // the document that asks for it
	Error   string `json:"error,omitempty"`  // why it is not open
}

func listenersCommand() *cobra.Command {
	address, port := "", 0
	cmd, _ := inspection("listeners", []string{"listener", "l"}, "listeners",
		"listeners prints where the process listens, and where what comes there goes.",
		func(ctx context.Context, admin string) (shown, error) {
			var all []listenerView
			err := adminPage(ctx, admin, "/listeners?format=json", &all)
			all = slices.DeleteFunc(all, func(l listenerView) bool {
				host, p, _ := net.SplitHostPort(l.Address)
				return address != "" && address != host || port != 0 && strconv.Itoa(port) != p
			})
			return shown{all, listenerTable(all)}, err
		})
	cmd.Flags().StringVar(&address, "address", "", "only of this `address`")
	cmd.Flags().IntVar(&port, "port", 0, "only of this `port`")
	return cmd
}

func listenerTable(all []listenerView) string {
	rows := [][]string{{"ADDRESSES", "PORT", "MATCH", "DESTINATION"}}
	for _, l := range all {
		host, port, err := net.SplitHostPort(l.Address)
		if err != nil { // a Unix socket's
			host = l.Address
		}
		to := map[string]string{"inbound": "Cluster: inbound|" + port + "|| (" + l.App + ")", "outbound": "Route: by Host", "admin": "Admin pages"}[l.Name]
		if l.Error != "" {
			to = "not open: " + call.Printable(l.Error)
		}
		rows = append(rows, []string{host, port, "ALL", to})
	}
	return table(rows...)
}

// everything is what proxy-config all shows.
type everything struct {
	Clusters  []transport.ClusterView `json:"clusters"`
	Listeners []listenerView          `json:"listeners"`
	Routes    []transport.HostView    `json:"routes"`
	Secrets   identity.Secrets        `json:"secrets"`
}

func allCommand() *cobra.Command {
	cmd, _ := inspection("all", nil, "configuration", "all prints clusters, listeners, routes, endpoints and secrets.",
		func(ctx context.Context, admin string) (shown, error) {
			var e everything
			for _, page := range []struct {
				path string
				into any
			}{{"/clusters?format=json", &e.Clusters}, {"/listeners?format=json", &e.Listeners}, {"/routes", &e.Routes}, {"/certs", &e.Secrets}} {
				if err := adminPage(ctx, admin, page.path, page.into); err != nil {
					return shown{}, err
				}
			}
			secrets, err := secretsTable(e.Secrets)
			return shown{e, strings.Join([]string{clusterTable(e.Clusters), listenerTable(e.Listeners), routeTable(e.Routes), endpointTable(e.Clusters), string(secrets)}, "\n")}, err
		})
	return cmd
}
