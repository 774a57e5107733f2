package inject

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// What the sidecar is made of.
const (
	ours        = "heddle-" // containers and volumes of ours
	sidecarName = "heddle-proxy"
	captureName = "heddle-capture"

	owner      = 1337 // whom the rules exempt
	keyGroup   = 1338 // of the volumes of a pod that has said no other: not owner, or its programs could come to run as that
	healthPort = 15021

	binary      = "/heddle"
	configDir   = "/etc/heddle/mesh.d"
	identityDir = "/etc/heddle/identity"
	csiDir      = "/run/spiffe"
	csiSocket   = "unix://" + csiDir + "/socket"

	configVolume   = ours + "config"
	identityVolume = ours + "identity"
)

// addContainers adds what installs the rules, and the sidecar: where both are init containers, before those of the program, which
// are captured then, else after these, which are not.
func (p *pod) addContainers(probes probings) {
	capture, sidecar := p.captureContainer(), p.sidecarContainer(probes)
	inits := list(p.spec, "initContainers")
	if !p.options.InContainers {
		inits.Content = slices.Insert(inits.Content, 0, capture, sidecar)
		return
	}
	for _, one := range items(inits) {
		p.inform(one, "initContainers[%s]: it runs before the rules are there: what it calls is not captured", text(one, "name"))
	}
	inits.Content = append(inits.Content, capture)
	containers := list(p.spec, "containers")
	if p.settings.hold { // the kubelet starts the next one when the hook has ended
		containers.Content = slices.Insert(containers.Content, 0, sidecar)
	} else {
		containers.Content = append(containers.Content, sidecar)
	}
}

// captureContainer installs the rules and ends. It alone has a capability.
func (p *pod) captureContainer() *yaml.Node {
	return fields{
		{"name", captureName},
		{"image", p.options.CaptureImage},
		{"args", p.captureArgs()},
		{"securityContext", fields{
			{"runAsUser", 0},
			{"runAsGroup", 0},
			{"runAsNonRoot", false},
			{"privileged", false},
			{"allowPrivilegeEscalation", false},
			{"readOnlyRootFilesystem", true},
			{"capabilities", fields{{"drop", []string{"ALL"}}, {"add", []string{"NET_ADMIN"}}}},
			{"seccompProfile", fields{{"type", "RuntimeDefault"}}},
		}},
		{"resources", p.resources()},
	}.node()
}

func (p *pod) captureArgs() []string {
	args := append([]string{"capture", "install"}, merged(p.settings.capture)...)
	if p.options.DNS {
		args = append(args, "--dns")
	}
	return args
}

// merged joins the values of flags that are given twice, in the order of their first places.
func merged(args []string) []string {
	var out []string
	for i := 0; i+1 < len(args); i += 2 {
		if at := slices.Index(out, args[i]); at >= 0 {
			out[at+1] += "," + args[i+1]
			continue
		}
		out = append(out, args[i], args[i+1])
	}
	return out
}

// sidecarContainer is heddle proxy without any privilege.
func (p *pod) sidecarContainer(probes probings) *yaml.Node {
	args := []string{"proxy", "--config", configDir, "--workload", p.name, "--namespace", "$(POD_NAMESPACE)", "--service-account", "$(SERVICE_ACCOUNT)"}
	if labels := p.labels(); labels != "" {
		args = append(args, "--labels", labels)
	}
	args = append(args, "--transparent", "--health", ":"+strconv.Itoa(p.settings.healthPort))
	env := []fields{fromPod("POD_NAMESPACE", "metadata.namespace"), fromPod("SERVICE_ACCOUNT", "spec.serviceAccountName")}
	mounts := []fields{{{"name", configVolume}, {"mountPath", configDir}, {"readOnly", true}}}
	switch {
	case p.options.IdentitySecret != "":
		args = append(args, "--svid", identityDir+"/tls.crt", "--svid-key", identityDir+"/tls.key", "--svid-bundle", identityDir+"/ca.crt")
		mounts = append(mounts, fields{{"name", identityVolume}, {"mountPath", identityDir}, {"readOnly", true}})
	case p.options.IdentityCSI != "":
		args = append(args, "--workload-api", csiSocket)
		mounts = append(mounts, fields{{"name", identityVolume}, {"mountPath", csiDir}, {"readOnly", true}})
	}
	args = append(args, p.settings.proxy...)
	if p.settings.processors > 0 {
		env = append(env, fields{{"name", "GOMAXPROCS"}, {"value", strconv.Itoa(p.settings.processors)}})
	}
	if text := probes.json(); text != "" {
		env = append(env, fields{{"name", "ISTIO_KUBE_APP_PROBERS"}, {"value", literal(text)}})
	}
	mountNodes := node(mounts)
	mountNodes.Content = append(mountNodes.Content, p.settings.mounts...)
	c := fields{{"name", sidecarName}, {"image", p.options.Image}}
	if !p.options.InContainers {
		c.add("restartPolicy", "Always")
	}
	c.add("args", args)
	c.add("env", env)
	c.add("ports", []fields{{{"name", "heddle-health"}, {"containerPort", p.settings.healthPort}, {"protocol", "TCP"}}})
	c.add("securityContext", fields{
		{"runAsUser", owner},
		{"runAsGroup", owner},
		{"runAsNonRoot", true},
		{"privileged", false},
		{"allowPrivilegeEscalation", false},
		{"readOnlyRootFilesystem", true},
		{"capabilities", fields{{"drop", []string{"ALL"}}}},
		{"seccompProfile", fields{{"type", "RuntimeDefault"}}},
	})
	c.add("resources", p.resources())
	asked := fields{{"path", "/healthz/ready"}, {"port", p.settings.healthPort}}
	if !p.options.InContainers { // the next container starts when this has succeeded
		c.add("startupProbe", fields{{"httpGet", asked}, {"periodSeconds", 1}, {"timeoutSeconds", 3}, {"failureThreshold", 600}})
	}
	r := p.settings.readiness
	probe := fields{{"httpGet", asked}}
	if r.delay > 0 {
		probe.add("initialDelaySeconds", r.delay)
	}
	probe.add("periodSeconds", cmp.Or(r.period, 15))
	probe.add("timeoutSeconds", 3)
	probe.add("failureThreshold", cmp.Or(r.failures, 4))
	c.add("readinessProbe", probe)
	if p.options.InContainers && p.settings.hold {
		wait := []string{binary, "wait", "--url", "http://localhost:" + strconv.Itoa(p.settings.healthPort) + "/healthz/ready"}
		c.add("lifecycle", fields{{"postStart", fields{{"exec", fields{{"command", wait}}}}}})
	}
	c.add("volumeMounts", mountNodes)
	return c.node()
}

// literal keeps Kubernetes from putting variables into a text.
func literal(s string) string { return strings.ReplaceAll(s, "$(", "$$(") }

// fromPod is a variable that Kubernetes fills in.
func fromPod(name, path string) fields {
	return fields{{"name", name}, {"valueFrom", fields{{"fieldRef", fields{{"fieldPath", path}}}}}}
}

// labels are the pod's, which rules select by, in the order of their names.
func (p *pod) labels() string {
	var all []string
	if n := get(p.meta, "labels"); n != nil && n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, v := n.Content[i], n.Content[i+1]
			if key.Value != "sidecar.istio.io/inject" {
				all = append(all, key.Value+"="+v.Value)
			}
		}
	}
	slices.Sort(all)
	return strings.Join(all, ",")
}

// resources are the annotations', or enough for a sidecar that has not much to do, with room for one that has.
func (p *pod) resources() fields {
	r := p.settings.resources
	limits := fields{{"memory", cmp.Or(r.memoryLimit, "256Mi")}}
	if r.cpuLimit != "" {
		limits = append(fields{{"cpu", r.cpuLimit}}, limits...)
	}
	return fields{
		{"requests", fields{{"cpu", cmp.Or(r.cpu, "10m")}, {"memory", cmp.Or(r.memory, "40Mi")}}},
		{"limits", limits},
	}
}

// addGroup gives the pod's volumes a group where they have none: a supplementary one of all its programs, and of the sidecar.
func (p *pod) addGroup() {
	_, context := find(p.spec, "securityContext")
	if get(p.spec, "securityContext") == nil {
		if context != nil { // null
			*context = *fields{{"fsGroup", keyGroup}}.node()
			return
		}
		p.spec.Content = append(p.spec.Content, scalar("securityContext"), fields{{"fsGroup", keyGroup}}.node())
		return
	}
	if get(context, "fsGroup") == nil {
		context.Content = append(context.Content, scalar("fsGroup"), node(keyGroup))
	}
}

// addVolumes adds those of the sidecar.
func (p *pod) addVolumes() {
	l := list(p.spec, "volumes")
	l.Content = append(l.Content, fields{{"name", configVolume}, {"configMap", fields{{"name", p.options.ConfigMap}}}}.node())
	switch {
	case p.options.IdentitySecret != "":
		account := cmp.Or(text(p.spec, "serviceAccountName"), text(p.spec, "serviceAccount"), "default")
		secret := strings.ReplaceAll(p.options.IdentitySecret, "{account}", account)
		// The key is the pod's group's to read, and no other container mounts it.
		l.Content = append(l.Content, fields{{"name", identityVolume}, {"secret", fields{{"secretName", secret}, {"defaultMode", 0o440}}}}.node())
		p.addGroup()
	case p.options.IdentityCSI != "":
		l.Content = append(l.Content, fields{{"name", identityVolume}, {"csi", fields{{"driver", p.options.IdentityCSI}, {"readOnly", true}}}}.node())
	}
	l.Content = append(l.Content, p.settings.volumes...)
}
