package mesh

import (
	"context"
	"io"
	"log/slog"
	"maps"

	"github.com/heddlemesh/mesh/internal/runtime"
	"github.com/heddlemesh/mesh/telemetry"
	"github.com/heddlemesh/mesh/telemetry/accesslog"
)

// An AccessLogger hears of every call that is made and every request that is received, at its end.
type AccessLogger = accesslog.Logger

// An AccessLogEntry is such a call or request. It is valid while Log runs.
type AccessLogEntry = accesslog.Entry

// WithAccessLog tells l of every call and every request when it has ended, whatever documents say of access logs: MeshConfig's
// accessLogFile and Telemetry's accessLogging are about files. l is called concurrently and must not wait. Default: nobody is
// told.
func WithAccessLog(l AccessLogger) Option {
	return option(func(o *runtime.Options) { o.AccessLog = l })
}

// WithAccessLogFile writes the access log into a file, in Istio's text format, or in its JSON where asJSON is true.
// It stands for MeshConfig's accessLogFile and accessLogEncoding, and before
// them: accessLogFormat, and what Telemetry says, are heeded. Default: what MeshConfig says, and that is no log.
func WithAccessLogFile(path string, asJSON bool) Option {
	return option(func(o *runtime.Options) { o.Config.AccessLog.File, o.Config.AccessLog.JSON = path, asJSON })
}

// WithAccessLogStream has what the configuration logs to the file of that name written to w in its place: a program that writes
// access logs to its standard output names it by
//
//	mesh.WithAccessLogStream("/dev/stdout", os.Stdout)
//
// Otherwise /dev/stdout is opened as any file is, which not every system allows. One goroutine at a time writes to w, several
// lines at once, and nobody closes it. Default: the file.
func WithAccessLogStream(path string, w io.Writer) Option {
	return option(func(o *runtime.Options) {
		o.LogStreams = maps.Clone(o.LogStreams)
		if o.LogStreams == nil {
			o.LogStreams = make(map[string]io.Writer)
		}
		o.LogStreams[path] = w
	})
}

// SlogAccessLog gives an AccessLogger that writes each entry to l, at level Info, and at Warn where its status is 5xx. What l
// does with it is done while the request waits: a handler that waits delays requests.
func SlogAccessLog(l *slog.Logger) AccessLogger { return slogAccess{l} }

type slogAccess struct{ log *slog.Logger }

// Log implements AccessLogger.
func (s slogAccess) Log(e *AccessLogEntry) {
	level := slog.LevelInfo
	if e.Code >= 500 {
		level = slog.LevelWarn
	}
	ctx := context.Background()
	if !s.log.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 16)
	text := func(key, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(key, value))
		}
	}
	attrs = append(attrs, slog.String("reporter", e.Reporter.String()))
	text("method", e.Method)
	text("authority", e.Authority)
	text("path", e.Path)
	text("protocol", e.Protocol)
	attrs = append(attrs, slog.Int("response_code", int(e.Code)), slog.String("response_flags", e.Flags.String()))
	text("grpc_status", telemetry.GRPCStatusName(e.GRPC))
	text("response_code_details", e.Details)
	attrs = append(attrs, slog.Uint64("bytes_received", e.RequestBytes), slog.Uint64("bytes_sent", e.ResponseBytes),
		slog.Duration("duration", e.Duration), slog.Int("attempts", e.Attempts))
	text("upstream_host", e.Endpoint)
	text("upstream_cluster", e.Cluster)
	text("route_name", e.Route)
	text("peer", e.Peer)
	if e.Remote.IsValid() {
		text("downstream_remote_address", e.Remote.String())
	}
	if e.Err != nil {
		text("error", e.Err.Error())
	}
	s.log.LogAttrs(ctx, level, "request", attrs...)
}
