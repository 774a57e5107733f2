package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
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
func (s *Inline) Run(ctx context.Context, apply func(Update) []Verdict) error {
	defer close(s.ended)
	apply(inlineUpdate(s.first))
	s.first = nil
	for {
		select {
		case r := <-s.requests:
			r.reply <- apply(inlineUpdate(r.docs))
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

func inlineUpdate(docs [][]byte) Update {
	texts := make([]namedText, len(docs))
	for i, d := range docs {
		texts[i] = namedText{fmt.Sprintf("<inline %d>", i+1), d}
	}
	return updateFrom(texts...)
}
