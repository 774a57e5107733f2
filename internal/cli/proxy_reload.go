package cli

import (
	"context"
	"log/slog"
	"sync"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/config"
	"github.com/heddlemesh/mesh/internal/keep"
)

// source gives the configuration's source, with a snapshot behind it where one is kept.
func (o *proxyFlags) source(watch *config.PathWatch, log *slog.Logger) config.Source {
	if o.snapshots == "" {
		return leanSource{watch}
	}
	return leanSource{keep.Open(o.snapshots, func(e keep.Event) {
		if e.Written.IsZero() {
			log.Warn("mesh configuration snapshot", "file", e.Path, "error", e.Why)
			return
		}
		log.Warn("mesh configuration is away or refused: the snapshot serves until that is mended", "file", e.Path, "written", e.Written, "error", e.Why)
	}).Behind(watch)}
}

// A reloader has files read anew, when it is asked to. The access log needs no telling: it finds out by itself that its files were renamed.
type reloader struct {
	watch    *config.PathWatch
	mesh     *mesh.Mesh
	identity chan<- struct{}
	log      *slog.Logger

	running sync.WaitGroup
	turn    sync.Mutex // held by who reads
}

// reload begins to read and says what came of it in the log.
func (r *reloader) reload() {
	r.running.Go(func() {
		r.turn.Lock()
		defer r.turn.Unlock()
		select {
		case r.identity <- struct{}{}:
		default: // it is about to
		}
		_ = r.watch.Reload(context.Background()) // it ends with the mesh
		status := r.mesh.Status()
		attrs := []any{"version", status.Version, "documents", status.Documents}
		if status.Refused != nil {
			r.log.Error("SIGHUP: files were read anew, and the configuration is refused", append(attrs, "error", status.Refused)...)
			return
		}
		r.log.Info("SIGHUP: files were read anew", attrs...)
	})
}

// close waits for who still reads. The mesh is closed by then.
func (r *reloader) close() { r.running.Wait() }
