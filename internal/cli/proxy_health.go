package cli

import (
	"os"

	"github.com/heddlemesh/mesh/proxy"
)

// appProbers is the variable in which Istio's injector hands over the probes of a program.
const appProbers = "ISTIO_KUBE_APP_PROBERS"

// appProbes gives the program's probes, which need a listener that is asked for them.
func (o *proxyFlags) appProbes() (proxy.Probes, error) {
	from := "--app-probes"
	if o.probes == "" {
		o.probes, from = os.Getenv(appProbers), appProbers
	}
	probes, err := proxy.ParseProbes(o.probes)
	switch {
	case err != nil:
		return nil, usageError("%s: %w", from, err)
	case len(probes) > 0 && listenAddress(o.health) == "":
		return nil, usageError("%s goes with --health: nobody could ask for the probes", from)
	}
	return probes, nil
}
