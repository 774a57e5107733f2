package export

import (
	"errors"
	"fmt"
	"iter"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"

	"github.com/heddlemesh/mesh/telemetry"
)

// variables give the value of the first variable that has one.
type variables func(names ...string) string

func (o Opener) variables() variables {
	return func(names ...string) string {
		for _, n := range names {
			if o.Environment == nil {
				break
			}
			if v, ok := o.Environment(n); ok && v != "" {
				return v
			}
		}
		return ""
	}
}

const serviceName = "service.name"

// resource says who exports: OTEL_SERVICE_NAME goes before service.name of OTEL_RESOURCE_ATTRIBUTES, and that before service.
func (get variables) resource(service string) []attribute.KeyValue {
	list := []attribute.KeyValue{attribute.String(serviceName, service), attribute.String("telemetry.sdk.language", "go"), attribute.String("telemetry.sdk.name", "heddle")}
	for name, value := range pairs(get("OTEL_RESOURCE_ATTRIBUTES")) {
		if name != "" {
			list = append(list, attribute.String(name, strings.ToValidUTF8(value, "\uFFFD")))
		}
	}
	if name := get("OTEL_SERVICE_NAME"); name != "" {
		list = append(list, attribute.String(serviceName, name))
	}
	return lastOf(list)
}

// batch reads OTEL_BSP_…; times are milliseconds.
func (get variables) batch() (o BatchOptions, err error) {
	var delay, export int
	for _, v := range []struct {
		name string
		to   *int
	}{
		{"OTEL_BSP_MAX_QUEUE_SIZE", &o.Queue}, {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE", &o.Batch},
		{"OTEL_BSP_SCHEDULE_DELAY", &delay}, {"OTEL_BSP_EXPORT_TIMEOUT", &export},
	} {
		text := get(v.name)
		if text == "" {
			continue
		}
		n, err := strconv.ParseUint(text, 10, 24)
		if err != nil {
			return o, fmt.Errorf("%s: expected a number up to 16777215, found %q", v.name, text)
		}
		*v.to = int(n)
	}
	o.Delay, o.Export = time.Duration(delay)*time.Millisecond, time.Duration(export)*time.Millisecond
	return o, nil
}

// pairs reads name=value, separated by commas, values percent-encoded (W3C Baggage). The name of what is no pair is "".
func pairs(list string) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for pair := range strings.SplitSeq(list, ",") {
			if pair = strings.TrimSpace(pair); pair == "" {
				continue
			}
			name, value, ok := strings.Cut(pair, "=")
			if name = strings.TrimSpace(name); !ok {
				name = ""
			}
			value = strings.TrimSpace(value)
			if v, err := url.PathUnescape(value); err == nil {
				value = v
			}
			if !yield(name, value) {
				return
			}
		}
	}
}

// A target is a collector that the environment names.
type target struct {
	kind    telemetry.TraceKind
	url     *url.URL
	headers map[string]string
	timeout time.Duration
}

// FromEnvironment makes the collector that the variables of OpenTelemetry's specification name, nil where they name none:
// OTEL_TRACES_EXPORTER (otlp, zipkin, none), OTEL_EXPORTER_OTLP_ENDPOINT, _PROTOCOL (grpc, http/protobuf), _HEADERS and _TIMEOUT
// with those of _TRACES_ before them, OTEL_EXPORTER_ZIPKIN_ENDPOINT and _TIMEOUT, OTEL_SDK_DISABLED. Nothing is exported unless an
// exporter or an endpoint is named. Collectors of documents heed OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES and OTEL_BSP_… as well.
// It fails for a value that it cannot read.
func (o Opener) FromEnvironment() (*Provider, error) {
	t, err := targetOf(o.variables())
	if err != nil || t == nil {
		return nil, err
	}
	return o.dial(t)
}

// Sampling gives the share of new traces that OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG ask for, in percent; nil where they say
// nothing. Whoever is called by others does as they say, whatever the sampler.
func (o Opener) Sampling() (*float64, error) {
	get := o.variables()
	return samplingOf(get("OTEL_TRACES_SAMPLER"), get("OTEL_TRACES_SAMPLER_ARG"))
}

func targetOf(get variables) (*target, error) {
	endpoint := get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
	zipkin := get("OTEL_EXPORTER_ZIPKIN_ENDPOINT")
	exporter := get("OTEL_TRACES_EXPORTER")
	if exporter == "" {
		switch {
		case endpoint != "":
			exporter = "otlp"
		case zipkin != "":
			exporter = "zipkin"
		}
	}
	if strings.EqualFold(get("OTEL_SDK_DISABLED"), "true") {
		exporter = "none"
	}
	switch exporter {
	case "", "none":
		return nil, nil //nolint:nilnil // there is none
	case "otlp":
		return otlpTarget(get, endpoint)
	case "zipkin":
		if zipkin == "" {
			zipkin = "http://localhost:9411/api/v2/spans"
		}
		t := &target{kind: telemetry.Zipkin}
		return t, t.read("OTEL_EXPORTER_ZIPKIN_ENDPOINT", zipkin, get("OTEL_EXPORTER_ZIPKIN_TIMEOUT"))
	}
	return nil, fmt.Errorf("OTEL_TRACES_EXPORTER %q: expected otlp, zipkin or none", exporter)
}

func otlpTarget(get variables, endpoint string) (*target, error) {
	t := &target{kind: telemetry.OTLPHTTP}
	protocol := get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
	switch protocol {
	case "", "http/protobuf":
		if endpoint == "" {
			endpoint = "http://localhost:4318"
		}
	case "grpc":
		t.kind = telemetry.OTLPGRPC
		if endpoint == "" {
			endpoint = "http://localhost:4317"
		}
	default:
		return nil, fmt.Errorf("OTEL_EXPORTER_OTLP_PROTOCOL %q: expected grpc or http/protobuf", protocol)
	}
	if err := t.read("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint, get("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT")); err != nil {
		return nil, err
	}
	if t.kind == telemetry.OTLPHTTP && get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") == "" { // that one is taken as it is
		t.url.Path = strings.TrimSuffix(t.url.Path, "/") + "/v1/traces"
	}
	for name, value := range pairs(get("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS")) {
		if !isToken(name) || strings.ContainsAny(value, "\r\n\x00") {
			return nil, errors.New("OTEL_EXPORTER_OTLP_HEADERS: expected name=value, separated by commas")
		}
		if t.headers == nil {
			t.headers = make(map[string]string)
		}
		t.headers[name] = value
	}
	return t, nil
}

// read takes an endpoint and a time in milliseconds.
func (t *target) read(variable, endpoint, timeout string) error {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return fmt.Errorf("%s: expected a URL, http://host:port", variable)
	}
	t.url = u
	if timeout == "" {
		return nil
	}
	n, err := strconv.ParseUint(timeout, 10, 31)
	if err != nil {
		return fmt.Errorf("%s: expected milliseconds, found %q", strings.Replace(variable, "ENDPOINT", "TIMEOUT", 1), timeout)
	}
	t.timeout = time.Duration(n) * time.Millisecond
	return nil
}

// samplingOf reads a sampler as the share of traces that begin here.
func samplingOf(sampler, arg string) (*float64, error) {
	share := 100.0
	switch strings.TrimPrefix(sampler, "parentbased_") {
	case "":
		return nil, nil //nolint:nilnil // nothing is said
	case "always_on":
	case "always_off":
		share = 0
	case "traceidratio":
		if arg != "" {
			ratio, err := strconv.ParseFloat(arg, 64)
			if err != nil || !(ratio >= 0 && ratio <= 1) {
				return nil, fmt.Errorf("OTEL_TRACES_SAMPLER_ARG %q: expected a number from 0 to 1", arg)
			}
			share = 100 * ratio
		}
	default:
		return nil, fmt.Errorf("OTEL_TRACES_SAMPLER %q: expected always_on, always_off, traceidratio, or one of them after parentbased_", sampler)
	}
	return &share, nil
}

// isToken reports a name of a header.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(c rune) bool {
		return c != '-' && c != '_' && c != '.' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
	})
}
