package runtime

import (
	"context"
	"log/slog"

	"github.com/heddlemesh/mesh/config"
)

// A reporter says in the log what became of each configuration, whoever brought it. It is called by one
// goroutine at a time (config.Options.Report).
type reporter struct {
	log     *slog.Logger
	version string // that serves
	refused bool   // what came last
	known   map[config.Finding]bool
}

// report logs one transaction. A first configuration that is refused is New's own error.
func (r *reporter) report(s config.Status) {
	switch {
	case s.Refused != nil && s.Version == "":
	case s.Refused != nil:
		r.log.Error("mesh configuration refused, the last good one keeps serving", "version", s.Version, "error", s.Refused)
	case s.Version != r.version || r.refused:
		r.log.Info("mesh configuration live", "version", s.Version, "documents", s.Documents)
	}
	r.version, r.refused = s.Version, s.Refused != nil
	if s.Refused == nil {
		r.findings(s.Findings)
	}
}

// findings logs those that the configuration before did not have.
func (r *reporter) findings(list []config.Finding) {
	const most = 20
	known := make(map[config.Finding]bool, len(list))
	news := 0
	for _, f := range list {
		known[f] = true
		if r.known[f] {
			continue
		}
		if news++; news > most {
			continue
		}
		level := slog.LevelInfo
		if f.Level >= config.Warning {
			level = slog.LevelWarn
		}
		r.log.Log(context.Background(), level, "mesh configuration finding", "finding", f.String())
	}
	if news > most {
		r.log.Warn("mesh configuration has further findings; Status lists all", "count", news-most)
	}
	r.known = known
}
