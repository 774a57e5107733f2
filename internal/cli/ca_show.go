package cli

import (
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/identity/ca"
)

// A shownCA is an authority for people: nothing of a key.
type shownCA struct {
	TrustDomain string                 `json:"trustDomain"`
	Life        string                 `json:"life"` // of SVIDs
	Issuing     identity.Certificate   `json:"issuing"`
	Roots       []identity.Certificate `json:"roots"` // that are believed; the newest signs
}

func caShowCommand() *cobra.Command {
	output := choice{"text", []string{"text", "json", "pem"}}
	cmd := &cobra.Command{
		Use:   "show DIR [-o text|json|pem]",
		Short: "Show an authority: trust domain, certificates and when they end, never a key",
		Example: `  heddle ca show ca.d
  heddle ca show ca.d -o pem > bundle.pem`,
		DisableFlagsInUseLine: true,
		Args:                  oneDir,
		RunE: action(func(cmd *cobra.Command, args []string) error {
			a, err := ca.OpenShared(args[0], ca.Options{})
			if err != nil {
				return readable(err)
			}
			var text []byte
			switch output.value {
			case "pem":
				text = ca.EncodeCertificates(a.Bundle()...)
			case "json":
				text, err = toJSON(showCA(a))
			default:
				text, err = showCA(a).text()
			}
			return errors.Join(err, emit(cmd, text))
		}),
	}
	cmd.Flags().VarP(&output, "output", "o", "`format`: text, json, or pem for the bundle alone")
	return cmd
}

func showCA(a *ca.Authority) shownCA {
	s := shownCA{TrustDomain: a.TrustDomain(), Life: a.Life().String(), Issuing: identity.Show(a.Issuing(), time.Now())}
	for _, c := range a.Bundle() {
		s.Roots = append(s.Roots, identity.Show(c, time.Now()))
	}
	return s
}

func (s shownCA) text() ([]byte, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "trust domain %s, SVIDs last %s\n\n", s.TrustDomain, s.Life)
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "CERTIFICATE\tSERIAL\tSTATE\tFROM\tUNTIL")
	row := func(what string, c identity.Certificate) {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", what, c.Serial, c.State, c.NotBefore.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339))
	}
	row("issuing", s.Issuing)
	for i, c := range s.Roots {
		what := "root"
		if i < len(s.Roots)-1 {
			what = "root, believed only"
		}
		row(what, c)
	}
	err := w.Flush()
	return []byte(b.String()), err
}
