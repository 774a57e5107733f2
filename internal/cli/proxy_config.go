package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/heddlemesh/mesh/identity"
)

func proxyConfigCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "proxy-config COMMAND",
		Aliases: []string{"pc"},
		Short:   "Show what a running heddle proxy has",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return usageError("no command given: clusters, listeners, routes, endpoints, secrets or all")
		},
	}
	cmd.AddCommand(clustersCommand(), listenersCommand(), routesCommand(), endpointsCommand(), secretsCommand(), allCommand())
	return cmd
}

func secretsCommand() *cobra.Command {
	cmd, _ := inspection("secrets", []string{"secret", "s"}, "certificates, never a key",
		`secrets asks a running heddle proxy for its page /certs, and prints the chain that proves its identity and the
authorities that it believes, with serial numbers and when they end.`,
		func(ctx context.Context, admin string) (shown, error) {
			var held identity.Secrets
			if err := adminPage(ctx, admin, "/certs", &held); err != nil {
				return shown{}, err
			}
			text, err := secretsTable(held)
			return shown{value: held, text: string(text)}, err
		})
	return cmd
}

// adminPage reads an admin page of JSON.
func adminPage(ctx context.Context, admin, page string, into any) error {
	body, err := adminText(ctx, admin, page)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("ask heddle proxy at %s: %s: %w", admin, page, err)
	}
	return nil
}

// adminText reads an admin page.
func adminText(ctx context.Context, admin, page string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	through := &http.Transport{DisableKeepAlives: true} // and no proxy: it is a page of this machine
	host := admin
	if path, ok := strings.CutPrefix(admin, "unix://"); ok {
		host = "localhost"
		through.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+page, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := through.RoundTrip(req)
	if err != nil {
		return nil, fmt.Errorf("ask heddle proxy at %s: %w", admin, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return nil, fmt.Errorf("ask heddle proxy at %s: %w", admin, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask heddle proxy at %s: %s: %s", admin, resp.Status, strings.TrimSpace(string(body)))
	}
	return body, nil
}

// secretsTable is istioctl's, by its columns.
func secretsTable(held identity.Secrets) ([]byte, error) {
	var b strings.Builder
	if len(held.Certificates) == 0 {
		b.WriteString("no identity\n")
	}
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	if len(held.Certificates) > 0 {
		fmt.Fprintln(w, "NAME\tTYPE\tSTATUS\tSERIAL NUMBER\tNOT AFTER\tNOT BEFORE")
	}
	row := func(kind, name string, c identity.Certificate) {
		for _, n := range c.Names {
			if n.URI != "" {
				name = n.URI
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", name, kind, c.State, c.Serial, c.NotAfter.Format(time.RFC3339), c.NotBefore.Format(time.RFC3339))
	}
	for _, s := range held.Certificates {
		for _, c := range s.CertChain {
			row("Cert Chain", s.TrustDomain, c)
		}
		for _, c := range s.CACert {
			row("CA", s.TrustDomain, c)
		}
	}
	err := w.Flush()
	if held.Failure != "" {
		fmt.Fprintf(&b, "\nnewer material was not taken: %s\n", held.Failure)
	}
	return []byte(b.String()), err
}
