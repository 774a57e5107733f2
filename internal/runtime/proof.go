package runtime

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/heddlemesh/mesh/identity"
)

// identityWait is how long a mesh that starts waits for its first SVID.
const identityWait = 30 * time.Second

// A proof is the identity of a mesh, fed by its source until close.
type proof struct {
	identity *identity.Identity
	stop     context.CancelFunc
	done     chan struct{}
}

// newProof waits for the first SVID, and says what it waited for where none comes.
func newProof(ctx context.Context, s identity.Source, log *slog.Logger) (*proof, error) {
	running, stop := context.WithCancel(context.Background())
	p := &proof{identity: identity.New(identity.Options{Report: func(e identity.Event) { tellIdentity(log, e) }}),
		stop: stop, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		err := p.identity.Run(running, s)
		if err != nil {
			log.Error("mesh identity source ended", "source", s.String(), "error", err)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, identityWait)
	defer cancel()
	if err := p.identity.WaitReady(ctx); err != nil {
		p.close()
		return nil, fmt.Errorf("wait for the first SVID from %s: %w", s, err)
	}
	return p, nil
}

// of gives the identity, nil where there is none.
func (p *proof) of() *identity.Identity {
	if p == nil {
		return nil
	}
	return p.identity
}

// close ends the source and waits for it.
func (p *proof) close() {
	if p != nil {
		p.stop()
		<-p.done
	}
}

func tellIdentity(log *slog.Logger, e identity.Event) {
	switch e.Kind {
	case identity.EventTaken:
		log.Info("mesh identity taken", "id", e.ID.String(), "expires", e.Expires)
	case identity.EventRefused:
		log.Error("mesh identity refused, the last good one is kept", "id", e.ID.String(), "error", e.Err)
	case identity.EventAging:
		level := slog.LevelInfo
		switch {
		case e.Percent >= 95:
			level = slog.LevelError
		case e.Percent >= 80:
			level = slog.LevelWarn
		}
		log.Log(context.Background(), level, "mesh identity is not renewed", "id", e.ID.String(), "life", e.Percent, "expires", e.Expires)
	case identity.EventExpired:
		log.Error("mesh identity expired: every handshake is refused", "id", e.ID.String(), "expires", e.Expires)
	}
}
