package inject

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// pods says where the pod of each kind is.
var pods = map[string][]string{
	"v1 Pod":                   {},
	"v1 ReplicationController": {"spec", "template"},
	"apps/v1 Deployment":       {"spec", "template"},
	"apps/v1 StatefulSet":      {"spec", "template"},
	"apps/v1 DaemonSet":        {"spec", "template"},
	"apps/v1 ReplicaSet":       {"spec", "template"},
	"batch/v1 Job":             {"spec", "template"},
	"batch/v1 CronJob":         {"spec", "jobTemplate", "spec", "template"},
}

// A pod is one that the sidecar goes into, with what is known of it.
type pod struct {
	*report
	options  Options // with what its annotations say
	name     string  // of the workload
	ends     bool    // of itself, as those of a Job do
	meta     *yaml.Node
	spec     *yaml.Node
	settings settings
}

// workload puts the sidecar into an object, and reports whether it has changed.
func workload(object *yaml.Node, lines int, o *Options, findings *[]Finding) bool {
	var head struct {
		Version string `yaml:"apiVersion"`
		Kind    string `yaml:"kind"`
	}
	_ = object.Decode(&head) // with what is merged into it; it fails where a key is there twice
	version, kind := cmp.Or(head.Version, text(object, "apiVersion")), cmp.Or(head.Kind, text(object, "kind"))
	path, known := pods[version+" "+kind]
	if !known {
		return false
	}
	name := text(object, "metadata", "name")
	if name == "" {
		name = strings.TrimSuffix(text(object, "metadata", "generateName"), "-")
	}
	full := kind + " " + name
	if namespace := text(object, "metadata", "namespace"); namespace != "" {
		full = kind + " " + namespace + "/" + name
	}
	p := &pod{report: &report{object: full, lines: lines, all: findings}, options: *o, name: name, ends: kind == "Job" || kind == "CronJob"}
	if p.shared(object, path) {
		return false
	}
	template := get(object, path...)
	if p.spec = get(template, "spec"); p.spec == nil || p.spec.Kind != yaml.MappingNode || len(items(p.spec, "containers")) == 0 {
		p.refuse(object, "%s: a pod with containers is expected there", strings.Join(append(path, "spec"), "."))
		return false
	}
	if p.meta = get(template, "metadata"); p.meta == nil {
		p.meta = fields{}.node()
		p.meta.Line, p.meta.Column = p.spec.Line, p.spec.Column
	}
	if name == "" || !dnsName.MatchString(name) {
		p.refuse(object, "metadata.name: expected the name of a workload, found %q", name)
		return false
	}
	return p.wanted() && p.guardable() && p.inject()
}

// shared refuses an object whose parts, down to the pod, are those of another one, or are not what they seem.
func (p *pod) shared(object *yaml.Node, path []string) bool {
	if at := twice(resolved(object)); at != nil {
		p.refuse(at, "%s: the key is there twice", at.Value)
		return true
	}
	n := object
	for _, name := range append([]string{""}, append(path, "spec")...) {
		if name != "" {
			_, n = find(n, name)
		}
		if n == nil {
			return false
		}
		if n.Kind == yaml.AliasNode || merges(n) {
			p.refuse(n, "an alias or a merge key above the pod: what is added would be added elsewhere too; write it out")
			return true
		}
	}
	return false
}

// merges reports whether a mapping has a merge key.
func merges(n *yaml.Node) bool {
	return n.Kind == yaml.MappingNode && slices.ContainsFunc(n.Content, func(one *yaml.Node) bool { return one.Tag == "!!merge" })
}

// wanted reports whether the pod is to have a sidecar, and has none.
func (p *pod) wanted() bool {
	const inject = "sidecar.istio.io/inject"
	at, where := get(p.meta, "labels", inject), "labels" // counts before the annotation
	if at == nil {
		at, where = get(p.meta, "annotations", inject), "annotations"
	}
	if at != nil {
		switch strings.ToLower(at.Value) {
		case "false", "n", "no", "off":
			p.inform(at, "%s[%s]: %s, and so it is left as it is", where, inject, at.Value)
			return false
		case "true", "y", "yes", "on":
		default:
			p.refuse(at, "%s[%s]: expected true or false, found %q", where, inject, at.Value)
			return false
		}
	}
	for _, list := range []string{"containers", "initContainers"} {
		for _, c := range items(p.spec, list) {
			switch text(c, "name") {
			case sidecarName, captureName:
				p.inform(c, "%s[%s]: the sidecar is there already, and so it is left as it is", list, text(c, "name"))
				return false
			case "istio-proxy", "istio-init", "istio-validation":
				p.refuse(c, "%s[%s]: Istio's sidecar is there already; two would capture each other's connections", list, text(c, "name"))
				return false
			}
		}
	}
	return true
}

var label = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9._/]*[A-Za-z0-9])?$`)

// guardable refuses pods whose connections the sidecar would not see.
func (p *pod) guardable() bool {
	if yes(p.spec, "hostNetwork") {
		p.refuse(get(p.spec, "hostNetwork"), "hostNetwork: the rules would capture the connections of the whole node; remove it, or label the pod sidecar.istio.io/inject: \"false\"")
	}
	if at := get(p.spec, "os", "name"); text(at) == "windows" {
		p.refuse(at, "os.name: connections are captured on Linux only")
	}
	if at := get(p.spec, "nodeSelector", "kubernetes.io/os"); at != nil && text(at) != "linux" {
		p.refuse(at, "nodeSelector[kubernetes.io/os]: connections are captured on Linux only, found %q", text(at))
	}
	for _, n := range []*yaml.Node{borrowed(p.spec), borrowed(p.meta)} {
		if n != nil {
			p.refuse(n, "an alias or a merge key in the pod: what is added would be added elsewhere too; write it out")
		}
	}
	p.exempt("securityContext", get(p.spec, "securityContext"))
	p.grouped(get(p.spec, "securityContext"))
	for _, list := range []string{"initContainers", "containers"} {
		for _, c := range items(p.spec, list) {
			field := list + "[" + text(c, "name") + "].securityContext"
			p.exempt(field, get(c, "securityContext"))
			p.powerful(field, get(c, "securityContext"))
		}
	}
	if labels := get(p.meta, "labels"); labels != nil {
		for i := 0; i+1 < len(labels.Content); i += 2 {
			if k, v := labels.Content[i], labels.Content[i+1]; !label.MatchString(k.Value) || v.Value != "" && !label.MatchString(v.Value) || v.Kind != yaml.ScalarNode {
				p.refuse(k, "labels: %q: %q is no label of Kubernetes", k.Value, v.Value)
			}
		}
	}
	for _, v := range items(p.spec, "volumes") {
		if name := text(v, "name"); strings.HasPrefix(name, ours) {
			p.refuse(v, "volumes[%s]: the name is one of the sidecar's", name)
		}
	}
	return !p.failed()
}

// exempt refuses programs that run as the sidecar's user or group: what they connect to is not captured.
func (p *pod) exempt(field string, context *yaml.Node) {
	for _, as := range []string{"runAsUser", "runAsGroup"} {
		if n, ok := number(context, as); ok && n == owner {
			p.refuse(get(context, as), "%s.%s: %d is the sidecar's, whose connections are not captured: the program would go past it", field, as, owner)
		}
	}
}

// grouped refuses programs of whose groups the sidecar's is one: a file of their own with that group and its setgid bit would let them run as it.
func (p *pod) grouped(context *yaml.Node) {
	const why = "%d is the sidecar's group, whose connections are not captured: a program among it can come to run as it"
	if n, ok := number(context, "fsGroup"); ok && n == owner {
		p.refuse(get(context, "fsGroup"), "securityContext.fsGroup: "+why, owner)
	}
	for _, g := range items(context, "supplementalGroups") {
		if n, ok := number(g); ok && n == owner {
			p.refuse(g, "securityContext.supplementalGroups: "+why, owner)
		}
	}
}

// powerful names programs that could take the rules away.
func (p *pod) powerful(field string, context *yaml.Node) {
	if yes(context, "privileged") {
		p.warn(get(context, "privileged"), "%s.privileged: the program can take away the rules that capture its connections", field)
	}
	for _, c := range items(context, "capabilities", "add") {
		switch strings.TrimPrefix(strings.ToUpper(c.Value), "CAP_") { // as container runtimes read it
		case "NET_ADMIN", "SYS_ADMIN", "ALL":
			p.warn(c, "%s.capabilities.add: with %s the program can take away the rules that capture its connections", field, c.Value)
		case "SETUID", "SETGID":
			p.warn(c, "%s.capabilities.add: with %s the program can become the sidecar's user, whose connections are not captured", field, c.Value)
		}
	}
}

// inject changes the pod, and reports whether it has.
func (p *pod) inject() bool {
	p.readSettings()
	if p.ends && p.options.InContainers {
		p.refuse(p.spec, "the sidecar of a pod that ends by itself must be one that stays among the init containers, or the pod never ends")
	}
	probes := p.probes()
	if p.failed() {
		return false
	}
	probes.rewrite(p.settings.healthPort)
	p.addContainers(probes)
	p.addVolumes()
	return true
}
