package workload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/heddlemesh/mesh/identity"
)

// API is a Workload API as an identity.Source. Its fields must not change while it runs.
type API struct {
	// Address is where the API is, as the variable SPIFFE_ENDPOINT_SOCKET has it (SPIFFE Workload Endpoint §4): a Unix
	// socket, "unix:///run/spire/sockets/agent.sock", or "tcp://127.0.0.1:8000", whose host must be an IP address.
	Address string
	// Hint chooses among several SVIDs the first with this hint. Default: the first (Workload API §5.3).
	Hint string
}

// String says where it looks.
func (a API) String() string {
	if a.Hint != "" {
		return fmt.Sprintf("the SPIFFE Workload API at %s, hint %q", a.Address, a.Hint)
	}
	return "the SPIFFE Workload API at " + a.Address
}

// What fails is tried again after these waits, doubling, of which up to a half is left out by chance.
const (
	minRetry = 100 * time.Millisecond
	maxRetry = 15 * time.Second
)

// maxResponse bounds what one message can have: a bundle for each of many trust domains is large, but not larger.
const maxResponse = 16 << 20

// Run implements identity.Source. It returns when ctx ends, and at once for an address that is none; there is no other
// error after which it does not try again: an agent that knows no identity for the workload may know one later.
func (a API) Run(ctx context.Context, to *identity.Identity) error {
	network, address, err := splitAddress(a.Address)
	if err != nil {
		return err
	}
	// grpc's own back-off for connections grows to two minutes: an agent that comes back would be found late.
	connect := grpc.ConnectParams{MinConnectTimeout: 5 * time.Second,
		Backoff: backoff.Config{BaseDelay: minRetry, Multiplier: 2, Jitter: 0.2, MaxDelay: maxRetry}}
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	conn, err := grpc.NewClient("passthrough:///localhost", grpc.WithContextDialer(dial), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(), grpc.WithDisableServiceConfig(), grpc.WithConnectParams(connect), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponse)))
	if err != nil {
		return fmt.Errorf("%s: %w", a, err)
	}
	defer conn.Close()
	client := workload.NewSpiffeWorkloadAPIClient(conn)
	for wait := minRetry; ; wait = min(2*wait, maxRetry) {
		heard, err := a.listen(ctx, client, to)
		if ctx.Err() != nil {
			return nil
		}
		to.Failed(fmt.Errorf("%s: %w", a, err))
		if heard {
			wait = minRetry
		}
		t := time.NewTimer(wait/2 + rand.N(wait/2))
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
	}
}

// listen takes what one stream brings until that breaks. heard says that something sound came.
func (a API) listen(ctx context.Context, client workload.SpiffeWorkloadAPIClient, to *identity.Identity) (heard bool, err error) {
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(ctx, securityHeader, "true"))
	defer cancel()
	stream, err := client.FetchX509SVID(ctx, &workload.X509SVIDRequest{})
	if err != nil {
		return false, ofServer(err)
	}
	for {
		answer, err := stream.Recv()
		if err != nil {
			return heard, ofServer(err)
		}
		m, err := a.material(answer)
		if err != nil {
			to.Failed(fmt.Errorf("%s: %w", a, err))
			continue
		}
		heard = to.Take(m) == nil || heard
	}
}

// securityHeader tells the API that nobody was talked into the request by a URL (SPIFFE Workload Endpoint §6).
const securityHeader = "workload.spiffe.io"

// ofServer gives what the server said, without grpc's frame.
func ofServer(err error) error {
	if errors.Is(err, io.EOF) {
		return errors.New("the server ended the stream")
	}
	if s, ok := status.FromError(err); ok {
		return fmt.Errorf("%s: %s", s.Code(), s.Message())
	}
	return err
}
