package config

import (
	"fmt"

	meshapi "istio.io/api/mesh/v1alpha1"

	"github.com/heddlemesh/mesh/snapshot"
)

// readMesh finds the mesh's own settings. There is one set of them: of two, neither is plainly meant.
func (c *compiler) readMesh(docs []*document) {
	var at *document
	for _, d := range docs {
		m, ok := d.spec.(*meshapi.MeshConfig)
		switch {
		case !ok:
		case d.inConfigMap() && d.key.Namespace != rootOf(m):
			c.add(d.finding(Warning, codeNotServed, false, []any{"metadata", "namespace"},
				fmt.Sprintf("not read: the mesh's settings are in ConfigMap %s of the root namespace, %s, and this one is in %s",
					meshConfigMapName, rootOf(m), d.key.Namespace), "write namespace: "+rootOf(m)))
		case at != nil:
			c.add(d.finding(Error, codeDuplicate, true, []any{"metadata", "name"},
				fmt.Sprintf("the mesh's settings are in %s (%s) already", at.key, at.place("metadata", "name")), "remove one of the two"))
		default:
			at, c.mesh, c.meshDoc = d, m, d
		}
	}
	c.retry = &c.defaults.retry
	if r := c.mesh.GetDefaultHttpRetryPolicy(); r != nil {
		c.retry = c.retryPolicy(r)
	}
}

// rootOf is MeshConfig.rootNamespace.
func rootOf(m *meshapi.MeshConfig) string {
	if root := m.GetRootNamespace(); root != "" {
		return root
	}
	return rootNamespace
}

// root is the namespace whose rules are everybody's.
func (c *compiler) root() string { return rootOf(c.mesh) }

// sees reports whether the workload sees what a namespace exports so; otherwise is the mesh's default for what says
// nothing (MeshConfig.default…ExportTo), in which "." is each document's own namespace.
func (c *compiler) sees(exportTo, otherwise []string, namespace string) bool {
	return exported(exportTo, otherwise, namespace, c.workload.Namespace)
}

func exported(exportTo, otherwise []string, namespace, to string) bool {
	if len(exportTo) == 0 {
		exportTo = otherwise
	}
	return visible(exportTo, namespace, to)
}

// outbound says what becomes of calls to what is not known: the Sidecar's word goes before the mesh's. Where neither
// has one it is the program's own setting.
func (c *compiler) outbound() snapshot.Outbound {
	allow, said := false, false
	if p := c.mesh.GetOutboundTrafficPolicy(); p != nil {
		allow, said = p.GetMode() != meshapi.MeshConfig_OutboundTrafficPolicy_REGISTRY_ONLY, true
	}
	if p := c.scope.spec.GetOutboundTrafficPolicy(); p != nil {
		allow, said = p.GetMode() != 0, true
	}
	switch {
	case !said:
		return snapshot.OutboundUnset
	case allow:
		return snapshot.AllowAny
	}
	return snapshot.RegistryOnly
}
