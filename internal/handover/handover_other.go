//go:build !linux

package handover

import (
	"context"
	"net"
)

// A Taken is nothing here.
type Taken struct{}

// Take fails: see ErrUnsupported.
func Take(context.Context, string) (*Taken, error) { return nil, ErrUnsupported }

// Listener gives none.
func (*Taken) Listener(string) net.Listener { return nil }

// PacketConn gives none.
func (*Taken) PacketConn(string) net.PacketConn { return nil }

// Ready does nothing.
func (*Taken) Ready(context.Context) error { return nil }

// Close does nothing.
func (*Taken) Close() {}

// An Offer is nothing here.
type Offer struct{}

// Serve fails: see ErrUnsupported.
func Serve(string, func() []Socket, func(), func(error)) (*Offer, error) { return nil, ErrUnsupported }

// Close does nothing.
func (*Offer) Close() {}
