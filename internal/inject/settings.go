package inject

import (
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// settings are what the annotations of a pod say of its sidecar.
type settings struct {
	capture    []string // arguments of heddle capture install
	healthPort int
	noRewrite  bool // of the program's probes
	hold       bool // the program until the sidecar is ready
	proxy      []string
	processors int // 0 for the sidecar's default
	resources  resources
	readiness  readiness
	volumes    []*yaml.Node
	mounts     []*yaml.Node
}

type resources struct{ cpu, memory, cpuLimit, memoryLimit string }

type readiness struct{ delay, period, failures int }

// annotations are those of Istio (annotations of resources, and ProxyConfig) that have an effect. A function gives what is wrong with the
// value, "" for nothing.
var annotations = map[string]func(*pod, *yaml.Node) string{
	"sidecar.istio.io/inject":                               nothing, // wanted has looked at it
	"sidecar.istio.io/proxyImage":                           (*pod).proxyImage,
	"sidecar.istio.io/proxyCPU":                             quantityOf(func(r *resources) *string { return &r.cpu }),
	"sidecar.istio.io/proxyMemory":                          quantityOf(func(r *resources) *string { return &r.memory }),
	"sidecar.istio.io/proxyCPULimit":                        quantityOf(func(r *resources) *string { return &r.cpuLimit }),
	"sidecar.istio.io/proxyMemoryLimit":                     quantityOf(func(r *resources) *string { return &r.memoryLimit }),
	"sidecar.istio.io/interceptionMode":                     (*pod).interceptionMode,
	"sidecar.istio.io/rewriteAppHTTPProbers":                (*pod).rewriteProbers,
	"sidecar.istio.io/nativeSidecar":                        (*pod).nativeSidecar,
	"sidecar.istio.io/userVolume":                           (*pod).userVolume,
	"sidecar.istio.io/userVolumeMount":                      (*pod).userVolumeMount,
	"sidecar.istio.io/status":                               (*pod).injectedByIstio,
	"status.sidecar.istio.io/port":                          (*pod).statusPort,
	"readiness.status.sidecar.istio.io/initialDelaySeconds": secondsOf(func(r *readiness) *int { return &r.delay }),
	"readiness.status.sidecar.istio.io/periodSeconds":       secondsOf(func(r *readiness) *int { return &r.period }),
	"readiness.status.sidecar.istio.io/failureThreshold":    secondsOf(func(r *readiness) *int { return &r.failures }),
	"traffic.sidecar.istio.io/includeOutboundIPRanges":      nothing, // read with includeOutboundPorts
	"traffic.sidecar.istio.io/includeOutboundPorts":         nothing,
	"traffic.sidecar.istio.io/excludeOutboundIPRanges":      listOf("--exclude-cidrs", isPrefix),
	"traffic.sidecar.istio.io/excludeOutboundPorts":         listOf("--exclude-outbound-ports", isPort),
	"traffic.sidecar.istio.io/includeInboundPorts":          (*pod).includeInboundPorts,
	"traffic.sidecar.istio.io/excludeInboundPorts":          nothing, // read with the health port
	"traffic.sidecar.istio.io/excludeInterfaces":            (*pod).excludeInterfaces,
	"traffic.sidecar.istio.io/kubevirtInterfaces":           refused("connections of virtual machines are not captured"),
	"istio.io/reroute-virtual-interfaces":                   refused("connections of virtual machines are not captured"),
	"proxy.istio.io/config":                                 (*pod).proxyConfig,
}

// readSettings reads the annotations, in their order.
func (p *pod) readSettings() {
	p.settings = settings{healthPort: healthPort}
	all := get(p.meta, "annotations")
	if all == nil {
		all = fields{}.node()
	}
	for i := 0; i+1 < len(all.Content); i += 2 {
		key, value := all.Content[i], all.Content[i+1]
		if !ofIstio(key.Value) {
			continue
		}
		read, known := annotations[key.Value]
		if !known {
			p.warn(key, "annotations[%s]: it has no effect on this sidecar", key.Value)
			continue
		}
		if wrong := read(p, value); wrong != "" {
			p.refuse(value, "annotations[%s]: %s", key.Value, wrong)
		}
	}
	p.outboundIncludes(all)
	p.inboundExcludes(all)
}

// ofIstio reports whether an annotation is one of those that Istio reads from pods.
func ofIstio(name string) bool {
	domain, _, _ := strings.Cut(name, "/")
	return domain == "istio.io" || strings.HasSuffix(domain, ".istio.io") && domain != "galley.istio.io" && domain != "networking.istio.io"
}

func nothing(*pod, *yaml.Node) string { return "" }

func refused(why string) func(*pod, *yaml.Node) string {
	return func(*pod, *yaml.Node) string { return why }
}

func (p *pod) proxyImage(v *yaml.Node) string {
	if !imageRef.MatchString(v.Value) {
		return fmt.Sprintf("expected the reference of an image, found %q", v.Value)
	}
	p.options.Image = v.Value
	return ""
}

// quantity is one of Kubernetes, in the forms that people write.
var quantity = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?([mkKMGTPE]|[KMGTPE]i)?$`)

func quantityOf(of func(*resources) *string) func(*pod, *yaml.Node) string {
	return func(p *pod, v *yaml.Node) string {
		if !quantity.MatchString(v.Value) {
			return fmt.Sprintf("expected a quantity such as 100m or 128Mi, found %q", v.Value)
		}
		*of(&p.settings.resources) = v.Value
		return ""
	}
}

func secondsOf(of func(*readiness) *int) func(*pod, *yaml.Node) string {
	return func(p *pod, v *yaml.Node) string {
		n, err := strconv.ParseUint(v.Value, 10, 16)
		if err != nil {
			return fmt.Sprintf("expected a number, found %q", v.Value)
		}
		*of(&p.settings.readiness) = int(n)
		return ""
	}
}

func (p *pod) interceptionMode(v *yaml.Node) string {
	switch v.Value {
	case "REDIRECT":
		return ""
	case "TPROXY":
		return "TPROXY needs a capability in the sidecar, which is given none; REDIRECT needs none"
	case "NONE":
		return `without capture nothing would come to the sidecar; to have none, label the pod sidecar.istio.io/inject: "false"`
	}
	return fmt.Sprintf("expected REDIRECT, found %q", v.Value)
}

// truth reads a bool as annotations have it.
func truth(v *yaml.Node) (is bool, wrong string) {
	is, err := strconv.ParseBool(v.Value)
	if err != nil {
		return false, fmt.Sprintf("expected true or false, found %q", v.Value)
	}
	return is, ""
}

func (p *pod) rewriteProbers(v *yaml.Node) string {
	is, wrong := truth(v)
	p.settings.noRewrite = !is
	return wrong
}

func (p *pod) nativeSidecar(v *yaml.Node) string {
	is, wrong := truth(v)
	p.options.InContainers = !is
	return wrong
}

func (p *pod) injectedByIstio(*yaml.Node) string {
	return "Istio has put its sidecar in already; two would capture each other's connections"
}

func (p *pod) statusPort(v *yaml.Node) string {
	if !isPort(v.Value) {
		return fmt.Sprintf("expected a port, found %q", v.Value)
	}
	p.settings.healthPort, _ = strconv.Atoi(v.Value)
	return ""
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

func isPrefix(s string) bool {
	_, err := netip.ParsePrefix(s)
	return err == nil
}

// entries are those of a list with commas.
func entries(v *yaml.Node) []string {
	var all []string
	for one := range strings.SplitSeq(v.Value, ",") {
		if one = strings.TrimSpace(one); one != "" {
			all = append(all, one)
		}
	}
	return all
}

// listed gives a list whose entries are all of a form.
func listed(v *yaml.Node, is func(string) bool) (list, wrong string) {
	all := entries(v)
	for _, one := range all {
		if !is(one) {
			return "", fmt.Sprintf("%q is not what is expected in the list", one)
		}
	}
	return strings.Join(all, ","), ""
}

func listOf(flag string, is func(string) bool) func(*pod, *yaml.Node) string {
	return func(p *pod, v *yaml.Node) string {
		list, wrong := listed(v, is)
		if list != "" {
			p.settings.capture = append(p.settings.capture, flag, list)
		}
		return wrong
	}
}

// everything are all addresses, and all ports.
const (
	everywhere = "0.0.0.0/0,::/0"
	everyPort  = "1-65535"
)

func (p *pod) includeInboundPorts(v *yaml.Node) string {
	if v.Value == "*" {
		return ""
	}
	list, wrong := listed(v, isPort)
	if list == "" {
		p.settings.capture = append(p.settings.capture, "--exclude-inbound-ports", everyPort)
	} else {
		p.settings.capture = append(p.settings.capture, "--include-inbound-ports", list)
	}
	return wrong
}

// inboundExcludes leaves out the health listener, which a kubelet asks without mutual TLS.
func (p *pod) inboundExcludes(all *yaml.Node) {
	const name = "traffic.sidecar.istio.io/excludeInboundPorts"
	list := strconv.Itoa(p.settings.healthPort)
	if v := get(all, name); v != nil {
		more, wrong := listed(v, isPort)
		if wrong != "" {
			p.refuse(v, "annotations[%s]: %s", name, wrong)
		}
		if more != "" {
			list += "," + more
		}
	}
	p.settings.capture = append(p.settings.capture, "--exclude-inbound-ports", list)
}

// outboundIncludes reads two lists of which Istio captures what is in either: ports wherever they are, and addresses whatever the port.
func (p *pod) outboundIncludes(all *yaml.Node) {
	const ranges, ports = "traffic.sidecar.istio.io/includeOutboundIPRanges", "traffic.sidecar.istio.io/includeOutboundPorts"
	cidrs, numbers := get(all, ranges), get(all, ports)
	list, given := "", numbers != nil && strings.TrimSpace(numbers.Value) != ""
	if given {
		var wrong string
		if list, wrong = listed(numbers, isPort); wrong != "" {
			p.refuse(numbers, "annotations[%s]: %s", ports, wrong)
		}
	}
	switch {
	case cidrs == nil || strings.TrimSpace(cidrs.Value) == "*": // and so every port
	case strings.TrimSpace(cidrs.Value) == "" && given:
		p.settings.capture = append(p.settings.capture, "--include-outbound-ports", list)
	case strings.TrimSpace(cidrs.Value) == "":
		p.settings.capture = append(p.settings.capture, "--exclude-cidrs", everywhere)
	case given:
		p.refuse(numbers, "annotations[%s]: ports beside addresses of %s would be captured in addition, which the rules cannot say", ports, ranges)
	default:
		in, wrong := listed(cidrs, isPrefix)
		if wrong != "" {
			p.refuse(cidrs, "annotations[%s]: %s", ranges, wrong)
		}
		p.settings.capture = append(p.settings.capture, "--include-cidrs", in)
	}
}

var interfaceName = regexp.MustCompile(`^[A-Za-z0-9_.@-]{1,15}$`)

func (p *pod) excludeInterfaces(v *yaml.Node) string {
	list, wrong := listed(v, interfaceName.MatchString)
	if list != "" {
		p.settings.capture = append(p.settings.capture, "--exclude-outbound-interfaces", list, "--exclude-inbound-interfaces", list)
	}
	return wrong
}

// userVolume and userVolumeMount take JSON: a list, or objects by their names.
func (p *pod) userVolume(v *yaml.Node) (wrong string) {
	p.settings.volumes, wrong = named(v)
	return wrong
}

func (p *pod) userVolumeMount(v *yaml.Node) (wrong string) {
	p.settings.mounts, wrong = named(v)
	return wrong
}

func named(v *yaml.Node) (all []*yaml.Node, wrong string) {
	var root yaml.Node
	if err := yaml.Unmarshal([]byte(v.Value), &root); err != nil || len(root.Content) == 0 {
		return nil, "expected JSON: a list, or objects by their names"
	}
	switch n := root.Content[0]; n.Kind {
	case yaml.SequenceNode:
		all = n.Content
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			one := n.Content[i+1]
			if one.Kind == yaml.MappingNode && text(one, "name") == "" {
				one.Content = append([]*yaml.Node{scalar("name"), scalar(n.Content[i].Value)}, one.Content...)
			}
			all = append(all, one)
		}
	}
	for _, one := range all {
		if name := text(one, "name"); name == "" || strings.HasPrefix(name, ours) {
			return nil, fmt.Sprintf("expected objects with names that are not the sidecar's, found %q", name)
		}
		blockStyle(one)
	}
	if len(all) == 0 {
		return nil, "expected JSON: a list, or objects by their names"
	}
	return all, ""
}

// blockStyle has JSON written as the rest of the document is.
func blockStyle(n *yaml.Node) {
	n.Style &^= yaml.FlowStyle | yaml.DoubleQuotedStyle
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
		n.SetString(n.Value)
	}
	for _, one := range n.Content {
		blockStyle(one)
	}
}

// proxyConfig reads the fields of Istio's ProxyConfig that this sidecar has; the others are named.
func (p *pod) proxyConfig(v *yaml.Node) string {
	var root yaml.Node
	if err := yaml.Unmarshal([]byte(v.Value), &root); err != nil || len(root.Content) == 0 || root.Content[0].Kind != yaml.MappingNode {
		return "expected a ProxyConfig, in YAML"
	}
	config := root.Content[0]
	for i := 0; i+1 < len(config.Content); i += 2 {
		name, value := config.Content[i].Value, config.Content[i+1]
		wrong := ""
		switch name {
		case "holdApplicationUntilProxyStarts":
			p.settings.hold, wrong = truth(value)
		case "terminationDrainDuration":
			if d, err := time.ParseDuration(value.Value); err != nil || d < 0 {
				wrong = fmt.Sprintf("expected a duration, found %q", value.Value)
			}
			p.settings.proxy = append(p.settings.proxy, "--drain-delay", value.Value)
		case "concurrency":
			n, err := strconv.ParseUint(value.Value, 10, 8)
			if err != nil {
				wrong = fmt.Sprintf("expected a number of threads, found %q", value.Value)
			}
			p.settings.processors = int(n)
		case "proxyMetadata":
			wrong = p.proxyMetadata(v, value)
		case "interceptionMode":
			wrong = p.interceptionMode(value)
		case "statusPort":
			wrong = p.statusPort(value)
		default:
			p.warn(v, "annotations[proxy.istio.io/config].%s: it has no effect on this sidecar", name)
		}
		if wrong != "" {
			return name + ": " + wrong
		}
	}
	return ""
}

// proxyMetadata reads the variables of Istio's agent that this sidecar has; the others are named.
func (p *pod) proxyMetadata(at, n *yaml.Node) (wrong string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i].Value, n.Content[i+1]
		is := false
		switch name {
		case "ISTIO_META_DNS_CAPTURE":
			p.options.DNS, wrong = truth(value)
		case "ISTIO_META_DNS_AUTO_ALLOCATE":
			is, wrong = truth(value)
			p.settings.proxy = append(p.settings.proxy, "--dns-auto-allocate="+strconv.FormatBool(is))
		default:
			p.warn(at, "annotations[proxy.istio.io/config].proxyMetadata.%s: it has no effect on this sidecar", name)
		}
		if wrong != "" {
			return name + ": " + wrong
		}
	}
	return ""
}
