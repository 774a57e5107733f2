package config

import (
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	meshapi "istio.io/api/mesh/v1alpha1"

	"github.com/heddlemesh/mesh/call"
	"github.com/heddlemesh/mesh/telemetry"
)

type telemetryTracing struct {
	Match struct {
		Mode string `json:"mode"`
	} `json:"match"`
	Providers   []telemetryProvider  `json:"providers"`
	Sampling    *percentage          `json:"randomSamplingPercentage"`
	Disabled    *bool                `json:"disableSpanReporting"`
	Tags        map[string]customTag `json:"customTags"`
	ByRequestID *bool                `json:"useRequestIdForTraceSampling"`
	IstioTags   *bool                `json:"enableIstioTags"`
	Silent      *bool                `json:"disableContextPropagation"`
}

type customTag struct {
	Literal *struct {
		Value string `json:"value"`
	} `json:"literal"`
	Environment *namedTag `json:"environment"`
	Header      *namedTag `json:"header"`
	Formatter   opaque    `json:"formatter"`
}

type namedTag struct {
	Name    string `json:"name"`
	Default string `json:"defaultValue"`
}

// A percentage is a number of any kind.
type percentage float64

func (p *percentage) read(n *yaml.Node) complaint {
	v, bad := realValue(n)
	*p = percentage(v)
	return bad
}

// tracing checks what a Telemetry says of spans.
func (v *validation) tracing(p fieldPath, list []telemetryTracing) {
	for i := range list {
		t, at := &list[i], p.at(i)
		v.enum(at.at("match", "mode"), t.Match.Mode, sortedKeys(workloadModes)...)
		for j, r := range t.Providers {
			if r.Name == "" {
				v.refuse(at.at("providers", j, "name"), "the provider has no name", "write the name of one of MeshConfig's extensionProviders")
			}
			if j > 0 {
				v.doubt(at.at("providers", j), "spans go to the first provider only, in Istio too", "remove it")
			}
		}
		if t.Sampling != nil && !(*t.Sampling >= 0 && *t.Sampling <= 100) {
			v.refuseValue(at.at("randomSamplingPercentage"), "is no percentage", "write a number from 0 to 100")
		}
		for _, name := range sortedKeys(t.Tags) {
			v.customTag(at.at("customTags", name), name, t.Tags[name])
		}
	}
}

func (v *validation) customTag(p fieldPath, name string, tag customTag) {
	if name == "" {
		v.refuseKey(p, "is no name of a tag", "write one")
	}
	kinds := 0
	for _, there := range []bool{tag.Literal != nil, tag.Environment != nil, tag.Header != nil, tag.Formatter.there} {
		if there {
			kinds++
		}
	}
	if kinds != 1 {
		v.refuse(p, "the tag has not one source", "write one of literal, environment and header")
	}
	if tag.Formatter.there {
		v.unenforced(p.at("formatter"), "Envoy's format strings are not evaluated for tags")
	}
	if e := tag.Environment; e != nil && e.Name == "" {
		v.refuse(p.at("environment"), "the variable has no name", "write name")
	}
	if h := tag.Header; h != nil && (h.Name == "" || !isToken(h.Name)) {
		v.refuse(p.at("header"), "the header has no name that there can be", "write name: with letters, digits and dashes")
	}
}

// telemetryLevels are the documents that are for the workload: that of the mesh, of the namespace, and its own.
type telemetryLevels [3]*document

// spans is what the documents say of the workload's spans, nil for nothing.
func (c *compiler) spans(levels telemetryLevels) *telemetry.Tracing {
	m := c.mesh
	var t telemetry.Tracing
	name, said := "", false
	if list := m.GetDefaultProviders().GetTracing(); len(list) > 0 {
		name, said = list[0], true
	}
	if d := m.GetDefaultConfig().GetTracing(); d != nil {
		said = true
		for i := range t.Modes {
			ofProxyConfig(&t.Modes[i], d)
		}
	}
	var from *document
	at := []any{"metadata", "name"}
	for _, d := range levels {
		if d == nil {
			continue
		}
		list := d.spec.(*telemetryPolicy).Spec.Tracing
		for i := range list {
			said = true
			if len(list[i].Providers) > 0 {
				name, from, at = list[i].Providers[0].Name, d, []any{"spec", "tracing", i, "providers", 0, "name"}
			}
			for _, r := range workloadModes[orElse(given(&list[i].Match.Mode), "CLIENT_AND_SERVER")] {
				list[i].over(&t.Modes[r])
			}
		}
	}
	switch {
	case name != "":
		t.Provider = c.traceProvider(name, from, at)
	case m.GetEnableTracing():
		said, t.Provider = true, zipkinOfProxyConfig(m.GetDefaultConfig().GetTracing())
	}
	if !said {
		return nil
	}
	if n := m.GetDefaultConfig().GetTracing().GetMaxPathTagLength(); n > 0 && t.Provider != nil && t.Provider.MaxTag == 0 {
		t.Provider.MaxTag = int(n)
	}
	return &t
}

// over puts what an entry says over what holds before it; a map of tags takes the place of another whole (Telemetry, customTags).
func (t *telemetryTracing) over(m *telemetry.TraceMode) {
	if t.Sampling != nil {
		m.Sampling = new(float64(*t.Sampling))
	}
	m.Disabled = orElse(t.Disabled, m.Disabled)
	m.Apart = !orElse(t.ByRequestID, !m.Apart)
	m.Plain = !orElse(t.IstioTags, !m.Plain)
	m.Silent = orElse(t.Silent, m.Silent)
	if t.Tags == nil {
		return
	}
	m.Tags = nil
	for _, name := range sortedKeys(t.Tags) {
		switch tag := t.Tags[name]; {
		case tag.Literal != nil:
			m.Tags = append(m.Tags, telemetry.TraceTag{Name: name, Value: tag.Literal.Value})
		case tag.Environment != nil:
			m.Tags = append(m.Tags, telemetry.TraceTag{Name: name, Source: telemetry.TagEnvironment, Value: tag.Environment.Name, Default: tag.Environment.Default})
		case tag.Header != nil:
			m.Tags = append(m.Tags, telemetry.TraceTag{Name: name, Source: telemetry.TagHeader, Header: call.NewName(tag.Header.Name), Default: tag.Header.Default})
		}
	}
}

// ofProxyConfig takes what MeshConfig.defaultConfig.tracing says, over which all Telemetry goes. A sampling that is not written is 0
// there, and means the default.
func ofProxyConfig(m *telemetry.TraceMode, t *meshapi.Tracing) {
	if s := t.GetSampling(); s > 0 {
		m.Sampling = &s
	}
	if t.GetEnableIstioTags() != nil {
		m.Plain = !t.GetEnableIstioTags().GetValue()
	}
	for _, name := range slices.Sorted(maps.Keys(t.GetCustomTags())) {
		switch tag := t.GetCustomTags()[name]; {
		case tag.GetLiteral() != nil:
			m.Tags = append(m.Tags, telemetry.TraceTag{Name: name, Value: tag.GetLiteral().GetValue()})
		case tag.GetEnvironment() != nil:
			m.Tags = append(m.Tags, telemetry.TraceTag{Name: name, Source: telemetry.TagEnvironment, Value: tag.GetEnvironment().GetName(),
				Default: tag.GetEnvironment().GetDefaultValue()})
		case tag.GetHeader() != nil:
			m.Tags = append(m.Tags, telemetry.TraceTag{Name: name, Source: telemetry.TagHeader, Header: call.NewName(tag.GetHeader().GetName()),
				Default: tag.GetHeader().GetDefaultValue()})
		}
	}
}

// zipkinOfProxyConfig is where spans go under enableTracing where no provider is named.
func zipkinOfProxyConfig(t *meshapi.Tracing) *telemetry.TraceProvider {
	p := &telemetry.TraceProvider{Name: "zipkin", Kind: telemetry.Zipkin, Host: "zipkin.istio-system", Port: 9411, Path: zipkinPath, Formats: telemetry.B3Fields}
	if host, port, err := call.SplitAuthority(t.GetZipkin().GetAddress()); err == nil {
		if p.Host = host; port != 0 {
			p.Port = port
		}
	}
	return p
}

const (
	zipkinPath = "/api/v2/spans"
	otlpPath   = "/v1/traces"
)

// traceProvider finds a provider by name. d names it at the path, nil where MeshConfig does.
func (c *compiler) traceProvider(name string, d *document, at []any) *telemetry.TraceProvider {
	problem := "is not in the mesh's settings"
	for _, e := range c.mesh.GetExtensionProviders() {
		if e.GetName() != name {
			continue
		}
		if p := traceProviderOf(e); p != nil {
			if c.own.Collectors || d == nil {
				return p
			}
			c.add(d.finding(Warning, codeUnbuilt, false, at, "without effect: spans go to the program's own TracerProvider, if it has one",
				"give the program mesh.WithTraceCollectors(export.Opener{…}.Open, os.LookupEnv)"))
			return nil
		}
		problem = "takes no spans"
	}
	if d != nil {
		c.add(d.finding(Warning, "IST0157", false, at, "provider "+quoted(name)+" "+problem+": spans go nowhere by it",
			"write it under extensionProviders of MeshConfig, as opentelemetry or zipkin"))
	}
	return nil
}

// traceProviderOf reads a collector, nil for what is none.
func traceProviderOf(e *extensionProvider) *telemetry.TraceProvider {
	p := &telemetry.TraceProvider{Name: e.GetName()}
	service, port := "", uint32(0)
	var headers []*meshapi.MeshConfig_ExtensionProvider_HttpHeader
	switch o, z := e.GetOpentelemetry(), e.GetZipkin(); {
	case o != nil:
		service, port, p.MaxTag = o.GetService(), o.GetPort(), int(o.GetMaxTagLength())
		headers, p.Timeout = o.GetGrpc().GetInitialMetadata(), o.GetGrpc().GetTimeout().AsDuration()
		if h := o.GetHttp(); h != nil {
			p.Kind, p.Path, headers, p.Timeout = telemetry.OTLPHTTP, orPath(h.GetPath(), otlpPath), h.GetHeaders(), h.GetTimeout().AsDuration()
		}
	case z != nil:
		service, port, p.MaxTag = z.GetService(), z.GetPort(), int(z.GetMaxTagLength())
		p.Kind, p.Path, headers, p.Timeout = telemetry.Zipkin, orPath(z.GetPath(), zipkinPath), z.GetHeaders(), z.GetTimeout().AsDuration()
		if p.Formats = telemetry.B3Fields; z.GetTraceContextOption() == meshapi.MeshConfig_ExtensionProvider_ZipkinTracingProvider_USE_B3_WITH_W3C_PROPAGATION {
			p.Formats |= telemetry.W3C
		}
	default:
		return nil
	}
	namespace, host := serviceOf(service)
	if namespace != "" && !strings.Contains(host, ".") {
		host = resolveHost(host, namespace)
	}
	p.Host, p.Port = host, uint16(port)
	for _, h := range headers {
		to := &p.Headers
		value := h.GetValue()
		if h.GetEnvName() != "" {
			to, value = &p.Variables, h.GetEnvName()
		}
		if *to == nil {
			*to = make(map[string]string)
		}
		(*to)[h.GetName()] = value
	}
	return p
}

func orPath(path, otherwise string) string {
	if path == "" {
		return otherwise
	}
	return path
}

// collector checks a provider that takes spans.
func (v *validation) collector(p fieldPath, e *extensionProvider) {
	if z := e.GetZipkin(); z != nil {
		v.asked(p, z.GetService(), z.GetPort(), "", z.GetTimeout())
		v.exports(p, z.GetPath(), "headers", z.GetHeaders())
		return
	}
	o := e.GetOpentelemetry()
	v.asked(p, o.GetService(), o.GetPort(), "", nil)
	if h := o.GetHttp(); h != nil {
		v.duration(p.at("http", "timeout"), h.GetTimeout())
		v.exports(p.at("http"), h.GetPath(), "headers", h.GetHeaders())
	}
	v.duration(p.at("grpc", "timeout"), o.GetGrpc().GetTimeout())
	v.exports(p.at("grpc"), "", "initialMetadata", o.GetGrpc().GetInitialMetadata())
	if o.GetResourceDetectors().GetDynatrace() != nil {
		v.unenforced(p.at("resourceDetectors", "dynatrace"), "of resources those of the environment are told")
	}
	if o.GetServiceAttributeEnrichment() != 0 {
		v.unenforced(p.at("serviceAttributeEnrichment"), "service.name is the canonical service and its namespace, or OTEL_SERVICE_NAME")
	}
	if o.GetDynatraceSampler() != nil {
		v.unenforced(p.at("dynatraceSampler"), "randomSamplingPercentage samples")
	}
}

func (v *validation) exports(p fieldPath, path, field string, list []*meshapi.MeshConfig_ExtensionProvider_HttpHeader) {
	if path != "" && !strings.HasPrefix(path, "/") {
		v.refuseValue(p.at("path"), "is no path", `write one that begins with "/"`)
	}
	for i, h := range list {
		if !isToken(h.GetName()) || h.GetName() == "" {
			v.refuse(p.at(field, i), "the header has no name that there can be", "write name: with letters, digits and dashes")
		}
		if strings.ContainsFunc(h.GetValue(), isControl) {
			v.refuseValue(p.at(field, i, "value"), "has a control character", "a header's value is one line of text")
		}
	}
}

// proxyTracing checks MeshConfig.defaultConfig.tracing.
func (v *validation) proxyTracing(p fieldPath, t *meshapi.Tracing) {
	if s := t.GetSampling(); !(s >= 0 && s <= 100) {
		v.refuseValue(p.at("sampling"), "is no percentage", "write a number from 0 to 100")
	}
	for _, name := range slices.Sorted(maps.Keys(t.GetCustomTags())) {
		tag, at := t.GetCustomTags()[name], p.at("customTags", name)
		if h := tag.GetHeader(); h != nil && (h.GetName() == "" || !isToken(h.GetName())) {
			v.refuse(at.at("header"), "the header has no name that there can be", "write name: with letters, digits and dashes")
		}
	}
	if t.GetTracer() != nil && t.GetZipkin() == nil {
		v.unenforced(p, "of tracers zipkin is built here; others are extensionProviders")
	}
	if z := t.GetZipkin(); z != nil {
		if _, _, err := call.SplitAuthority(z.GetAddress()); err != nil {
			v.refuseValue(p.at("zipkin", "address"), "is no address", "write host:port")
		}
	}
	if t.GetTlsSettings() != nil {
		v.unbuilt(p.at("tlsSettings"), "spans would be sent in plain text")
	}
}
