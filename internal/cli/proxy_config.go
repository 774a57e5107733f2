package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/heddlemesh/mesh/identity"
)

func proxyConfigCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "proxy-config COMMAND",
		Short: "Show what a running heddle proxy has",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return usageError("no command given: secrets") },
	}
	cmd.AddCommand(secretsCommand())
	return cmd
}

func secretsCommand() *cobra.Command {
	output := choice{"text", []string{"text", "json"}}
	admin := ""
	cmd := &cobra.Command{
		Use:     "secrets [--admin ADDRESS]",
		Aliases: []string{"secret"},
		Short:   "Show the certificates of a running heddle proxy, never a key",
		Long: `secrets asks a running heddle proxy for its page /certs, and prints the chain that proves its identity and the
authorities that it believes, with serial numbers and when they end.`,
		Example: `  heddle proxy-config secrets
  heddle proxy-config secrets --admin 127.0.0.1:15010 -o json`,
		DisableFlagsInUseLine: true,
		Args:                  cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			if err := checkAddress(admin); err != nil {
				return usageError("--admin %s: %w", admin, err)
			}
			var held identity.Secrets
			if err := adminPage(cmd.Context(), admin, "/certs", &held); err != nil {
				return err
			}
			text, err := secretsTable(held)
			if output.value == "json" {
				text, err = toJSON(held)
			}
			return errors.Join(err, emit(cmd, text))
		}),
	}
	f := cmd.Flags()
	f.StringVar(&admin, "admin", "127.0.0.1:15000", "`address` of its admin pages")
	f.VarP(&output, "output", "o", "`format`: text or json")
	return cmd
}

// adminPage reads an admin page of JSON.
func adminPage(ctx context.Context, admin, page string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+page, http.NoBody)
	if err != nil {
		return err
	}
	through := &http.Transport{DisableKeepAlives: true} // and no proxy: it is a page of this machine
	resp, err := through.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("ask heddle proxy at %s: %w", admin, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return fmt.Errorf("ask heddle proxy at %s: %w", admin, err)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ask heddle proxy at %s: %s: %s", admin, resp.Status, strings.TrimSpace(string(body)))
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("ask heddle proxy at %s: %s: %w", admin, page, err)
	}
	return nil
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
