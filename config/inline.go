package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
)

// An Inline is a Source whose documents the program itself gives and replaces.
type Inline struct {
	first    [][]byte
	requests chan inlineRequest
	ended    chan struct{}
}

type inlineRequest struct {
	docs  [][]byte
	reply chan []Verdict
}

// NewInline makes the source with its first documents; none is a legal set.
func NewInline(docs ...[]byte) *Inline {
	return &Inline{first: cloned(docs), requests: make(chan inlineRequest), ended: make(chan struct{})}
}

// Run implements Source: it gives the first documents, then whatever Replace brings, until ctx ends.
//
// Who is told of a change may make the next one: that waits for the transaction before it, and not for the telling.
func (s *Inline) Run(ctx context.Context, apply func(Update) []Verdict) error {
	var telling sync.WaitGroup
	defer telling.Wait()
	defer close(s.ended)
	known := newParsedSections()
	apply(known.inline(s.first))
	s.first = nil
	for {
		select {
		case r := <-s.requests:
			u, taken := known.inline(r.docs), make(chan struct{})
			u.taken = sync.OnceFunc(func() { close(taken) })
			telling.Go(func() {
				defer u.taken()
				r.reply <- apply(u)
			})
			<-taken
		case <-ctx.Done():
			return nil
		}
	}
}

// Replace puts the documents in place of all that the source had. It returns when they are live, or with
// the *ConfigError that refused them; what was there then stays. ctx bounds the waiting only: a change
// that has begun is finished.
func (s *Inline) Replace(ctx context.Context, docs ...[]byte) error {
	r := inlineRequest{cloned(docs), make(chan []Verdict, 1)}
	select {
	case s.requests <- r:
	case <-s.ended:
		return errors.New("the source is closed")
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case verdicts := <-r.reply:
		return setError(verdicts)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// cloned keeps what the program may change as soon as its call has returned, for its context's sake even
// before the change is made.
func cloned(docs [][]byte) [][]byte {
	own := make([][]byte, len(docs))
	for i, d := range docs {
		own[i] = bytes.Clone(d)
	}
	return own
}

// setError gives the error of an update that was refused as a whole.
func setError(verdicts []Verdict) error {
	for _, v := range verdicts {
		if v.Key == (Key{}) && !v.Accepted {
			return &ConfigError{Findings: v.Findings}
		}
	}
	return nil
}

// inline makes one Full update of the documents, of which those that stood at the same place before are not parsed again.
func (k *parsedSections) inline(docs [][]byte) Update {
	c := collection{known: k}
	for i, d := range docs {
		c.text(fmt.Sprintf("<inline %d>", i+1), d)
	}
	k.forget()
	return c.update()
}
