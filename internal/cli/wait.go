package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"time"

	"github.com/spf13/cobra"
)

// A waiting is what heddle wait was asked for.
type waiting struct {
	url      string
	timeout  time.Duration
	interval time.Duration
	request  time.Duration
}

func waitCommand() *cobra.Command {
	o := &waiting{}
	cmd := &cobra.Command{
		Use:   "wait [flags] [-- command args...]",
		Short: "Wait until a sidecar is ready, and then run a command",
		Long: `wait asks a sidecar's health listener until that says that it is ready: with a status from 200 to 299. A command after "--"
takes wait's place then, as its process where the system can do that; what it is not ready for is not begun.

Exit codes: 0 it is ready, 1 it was not in time, 64 wrong usage, 130 interrupted; 127 where there is no such command, 126 where it cannot be run, and
else the command's.`,
		Example: `  heddle wait
  heddle wait --url http://localhost:15021/healthz/ready --timeout 30s -- node ratings.js 9080`,
		DisableFlagsInUseLine: true,
		RunE:                  action(o.main),
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.url, "url", "http://localhost:15021/healthz/ready", "`URL` that answers when the sidecar is ready")
	f.DurationVar(&o.timeout, "timeout", time.Minute, "how `long` to wait in all")
	f.DurationVar(&o.interval, "interval", 500*time.Millisecond, "how `long` to pause between two questions")
	f.DurationVar(&o.request, "request-timeout", 500*time.Millisecond, "how `long` one question may take")
	return cmd
}

func (o *waiting) main(cmd *cobra.Command, args []string) error {
	if dash := cmd.ArgsLenAtDash(); len(args) > 0 && dash != 0 {
		return usageError("unexpected argument %q; a command follows after --", args[0])
	}
	at, err := url.Parse(o.url)
	switch {
	case err != nil || at.Scheme != "http" || at.Host == "":
		return usageError("--url %s: expected an http URL", o.url)
	case o.timeout <= 0:
		return usageError("--timeout is nothing or negative")
	case o.interval <= 0:
		return usageError("--interval is nothing or negative")
	case o.request <= 0:
		return usageError("--request-timeout is nothing or negative")
	case len(args) > 0 && args[0] == "":
		return usageError("the command is empty")
	}
	path := ""
	if len(args) > 0 { // what cannot be run needs no waiting for
		if path, err = exec.LookPath(args[0]); err != nil {
			return &failure{notStarted(err), fmt.Errorf("start command: %w", err)}
		}
	}
	if err := o.wait(cmd.Context()); err != nil {
		return err
	}
	if path == "" {
		return nil
	}
	return replaceWith(cmd, path, args)
}

var errNotReady = errors.New("not ready")

// wait asks until the sidecar is ready.
func (o *waiting) wait(ctx context.Context) error {
	within, cancel := context.WithTimeoutCause(ctx, o.timeout, errNotReady)
	defer cancel()
	// No proxy: it is a page of this machine. Nor is a redirect followed: it is no answer of a sidecar's.
	through := &http.Transport{DisableKeepAlives: true, DialContext: (&net.Dialer{Timeout: o.request}).DialContext}
	client := &http.Client{Transport: through, Timeout: o.request,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	pause := time.NewTicker(o.interval)
	defer pause.Stop()
	var last error
	for {
		err := ready(within, client, o.url)
		if err == nil {
			return nil
		}
		if last == nil || within.Err() == nil { // what the end of the waiting has cut off says nothing
			last = err
		}
		select {
		case <-pause.C:
		case <-within.Done():
			if errors.Is(context.Cause(within), errNotReady) {
				return fmt.Errorf("wait for %s: not ready within %s: %w", o.url, o.timeout, last)
			}
			return ctx.Err()
		}
	}
}

func ready(ctx context.Context, client *http.Client, page string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, page, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	_, _ = io.CopyN(io.Discard, resp.Body, 1<<10)
	_ = resp.Body.Close()
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return errors.New(resp.Status)
	}
	return nil
}
