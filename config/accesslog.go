package config

import (
	"slices"
	"strings"

	meshapi "istio.io/api/mesh/v1alpha1"

	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/telemetry/accesslog"
)

// telemetryLogging is one of Telemetry's accessLogging[].
type telemetryLogging struct {
	Match struct {
		Mode string `json:"mode"`
	} `json:"match"`
	Providers []telemetryProvider `json:"providers"`
	Disabled  *bool               `json:"disabled"`
	Filter    *loggingFilter      `json:"filter"`
}

type loggingFilter struct {
	Expression string `json:"expression"`
}

// envoyProvider is the provider that there is without being declared: Istio's, with MeshConfig's format.
const envoyProvider = "envoy"

// standardLog is where a provider writes that does not say where.
const standardLog = "/dev/stdout"

func (v *validation) telemetryLogging(p fieldPath, l *telemetryLogging) {
	v.enum(p.at("match", "mode"), l.Match.Mode, sortedKeys(workloadModes)...)
	for i, r := range l.Providers {
		if r.Name == "" {
			v.refuse(p.at("providers", i, "name"), "the provider has no name", "write "+envoyProvider+", or that of one of MeshConfig's extensionProviders")
		}
	}
	if l.Filter == nil {
		return
	}
	at := p.at("filter", "expression")
	if strings.TrimSpace(l.Filter.Expression) == "" {
		v.refuse(p.at("filter"), "the filter has no expression", "write one such as \"response.code >= 400\", or remove it")
		return
	}
	if _, err := accesslog.ParseFilter(l.Filter.Expression); err != nil {
		v.refuse(at, err.Error(), accesslog.Supported())
	}
}

// fileLog checks a provider of files.
func (v *validation) fileLog(p fieldPath, f *meshapi.MeshConfig_ExtensionProvider_EnvoyFileAccessLogProvider) {
	v.logPath(p.at("path"), f.GetPath())
	if f.GetLogFormat() == nil {
		return
	}
	if _, err := providerFormat(f); err != nil {
		at := p.at("logFormat", "text")
		if f.GetLogFormat().GetLabels() != nil {
			at = p.at("logFormat", "labels")
		}
		v.refuse(at, err.Error(), "")
	}
}

func (v *validation) logPath(p fieldPath, path string) {
	if strings.ContainsFunc(path, isControl) {
		v.refuseValue(p, "is no name of a file", "write one such as "+standardLog)
	}
}

// meshLog checks the mesh's own access log.
func (v *validation) meshLog(p fieldPath, m *meshapi.MeshConfig) {
	v.logPath(p.at("accessLogFile"), m.GetAccessLogFile())
	if _, err := meshFormat(m, nil); err != nil {
		v.refuse(p.at("accessLogFormat"), err.Error(), "")
	}
}

// providerFormat reads what a provider writes, Istio's text where it does not say.
func providerFormat(f *meshapi.MeshConfig_ExtensionProvider_EnvoyFileAccessLogProvider) (*accesslog.Format, error) {
	format, err := formatOf(f)
	if err == nil && f.GetOmitEmptyValues() {
		format = format.WithoutEmpty()
	}
	return format, err
}

func formatOf(f *meshapi.MeshConfig_ExtensionProvider_EnvoyFileAccessLogProvider) (*accesslog.Format, error) {
	switch l := f.GetLogFormat(); {
	case l.GetLabels() != nil:
		return accesslog.ObjectFormat(l.GetLabels().AsMap())
	case l.GetText() != "":
		return accesslog.ParseText(l.GetText())
	}
	return accesslog.ParseText(accesslog.DefaultText)
}

// meshFormat reads MeshConfig's accessLogFormat and accessLogEncoding; own is the program's, for what that does not say.
func meshFormat(m *meshapi.MeshConfig, own *LogSettings) (*accesslog.Format, error) {
	format, asJSON := m.GetAccessLogFormat(), m.GetAccessLogEncoding() == meshapi.MeshConfig_JSON
	if own != nil && own.JSON {
		asJSON = true
	}
	switch {
	case asJSON && format == "":
		return accesslog.ParseJSON(accesslog.DefaultJSON)
	case asJSON:
		return accesslog.ParseJSON(format)
	case format == "":
		return accesslog.ParseText(accesslog.DefaultText)
	}
	return accesslog.ParseText(format)
}

// accessLog is what Telemetry and MeshConfig say of access logs (istio.io, pilot/pkg/model Telemetries.AccessLogging): nil where
// nothing is logged.
func (c *compiler) accessLog(levels [3]*document) *accesslog.Plan {
	var plan accesslog.Plan
	for side := range plan {
		for _, l := range c.loggers(levels, telemetry.Reporter(side)) {
			if o, ok := c.output(l); ok {
				plan[side] = append(plan[side], o)
			}
		}
	}
	if len(plan[telemetry.Source])+len(plan[telemetry.Destination]) == 0 {
		return nil
	}
	return &plan
}

// A logger is one provider, what it is to write, and who says so.
type logger struct {
	name   string
	filter *loggingFilter
	doc    *document // nil for the mesh's settings
	at     fieldPath
}

// defaultLoggers are the providers of what says nothing.
func (c *compiler) defaultLoggers() []logger {
	var all []logger
	for i, name := range c.mesh.GetDefaultProviders().GetAccessLogging() {
		all = append(all, logger{name: name, doc: c.meshDoc, at: c.meshDoc.body().at("defaultProviders", "accessLogging", i)})
	}
	if len(all) == 0 && c.logFile() != "" {
		all = append(all, logger{name: envoyProvider})
	}
	return all
}

// loggers lists the providers that a reporter's requests go to: those that the last document with a word on it names, each with
// the filter that was said last.
func (c *compiler) loggers(levels [3]*document, r telemetry.Reporter) []logger {
	wanted := c.defaultLoggers()
	for _, d := range levels {
		if named := c.named(d, r); len(named) > 0 {
			wanted = named
		}
	}
	on := make(map[string]logger)
	if levels == [3]*document{} {
		for _, l := range wanted {
			on[l.name] = l
		}
	}
	parents := c.defaultLoggers()
	for _, d := range levels {
		if d == nil {
			continue
		}
		all := d.spec.(*telemetryPolicy).Spec.AccessLogging
		if len(all) == 0 {
			for _, l := range parents {
				if _, had := on[l.name]; !had {
					on[l.name] = l
				}
			}
		}
		for i := range all {
			entry := &all[i]
			mine := entryLoggers(d, i, entry)
			if len(mine) == 0 {
				mine = parents
			}
			parents = mine
			if !speaksOf(entry.Match.Mode, r) {
				continue
			}
			for _, l := range mine {
				if l.filter = entry.Filter; entry.Disabled != nil && *entry.Disabled {
					delete(on, l.name)
				} else {
					on[l.name] = l
				}
			}
		}
	}
	var out []logger
	for _, l := range wanted {
		if one, ok := on[l.name]; ok && !slices.ContainsFunc(out, func(o logger) bool { return o.name == l.name }) {
			out = append(out, one)
		}
	}
	return out
}

func (c *compiler) named(d *document, r telemetry.Reporter) (all []logger) {
	if d == nil {
		return nil
	}
	for i, entry := range d.spec.(*telemetryPolicy).Spec.AccessLogging {
		if speaksOf(entry.Match.Mode, r) {
			all = append(all, entryLoggers(d, i, &entry)...)
		}
	}
	return all
}

func entryLoggers(d *document, i int, entry *telemetryLogging) (all []logger) {
	for j, p := range entry.Providers {
		all = append(all, logger{name: p.Name, doc: d, at: fieldPath{"spec", "accessLogging", i, "providers", j, "name"}})
	}
	return all
}

func speaksOf(mode string, r telemetry.Reporter) bool {
	return slices.Contains(workloadModes[orElse(given(&mode), "CLIENT_AND_SERVER")], r)
}

// logFile is where the mesh's own log goes, "" for nowhere.
func (c *compiler) logFile() string {
	return orElse(given(&c.own.AccessLog.File), c.mesh.GetAccessLogFile())
}

// output makes a log of a provider; ok is false where that is none.
func (c *compiler) output(l logger) (o accesslog.Output, ok bool) {
	var err error
	if l.filter != nil {
		if o.Filter, err = accesslog.ParseFilter(l.filter.Expression); err != nil {
			return o, false // validation has refused it
		}
	}
	for _, e := range c.mesh.GetExtensionProviders() {
		if e.GetName() != l.name {
			continue
		}
		f := e.GetEnvoyFileAccessLog()
		if f == nil {
			c.unlogged(l, "provider "+quoted(l.name)+" is no envoyFileAccessLog, and to others the mesh writes no access log")
			return o, false
		}
		o.Path = orElse(given(&f.Path), standardLog)
		o.Format, err = providerFormat(f)
		return o, err == nil
	}
	if l.name != envoyProvider {
		c.unlogged(l, "provider "+quoted(l.name)+" is not in the mesh's settings: nothing is logged by it")
		return o, false
	}
	file := c.logFile()
	o.Path = orElse(given(&file), standardLog)
	o.Format, err = meshFormat(c.mesh, &c.own.AccessLog)
	return o, err == nil
}

// unlogged says, once, that a provider writes nothing.
func (c *compiler) unlogged(l logger, what string) {
	f := Finding{Code: "IST0157", Level: Warning, Message: what}
	if l.doc != nil {
		f = l.doc.finding(Warning, "IST0157", false, l.at, what, "name "+envoyProvider+", or write one with envoyFileAccessLog under extensionProviders of MeshConfig")
	}
	if !slices.Contains(c.findings, f) {
		c.add(f)
	}
}

// LogSettings are a program's own of the access log.
type LogSettings struct {
	File string // "" for what MeshConfig says
	JSON bool   // as accessLogEncoding JSON
}
