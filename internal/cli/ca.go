package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/heddlemesh/mesh/identity"
	"github.com/heddlemesh/mesh/identity/ca"
)

func caCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ca COMMAND",
		Short: "Run a development CA: SPIFFE identities for the programs of one machine",
		Long: `ca makes an authority in a directory, and issues X.509-SVIDs by it: to whoever can open a workload's socket, to
whoever has its token, or into files. It is for development and tests; its keys lie in files of mode 0600.

  heddle ca init ca.d
  heddle ca serve ca.d --workload default/reviews --workload default/ratings
  SPIFFE_ENDPOINT_SOCKET=unix://$PWD/ca.d/sockets/ratings.sock heddle proxy --config mesh.d …`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return usageError("no command given: init, serve, sign or show") },
	}
	cmd.AddCommand(caInitCommand(), caServeCommand(), caSignCommand(), caShowCommand())
	return cmd
}

// lives are the flags for how long certificates last.
func lives(cmd *cobra.Command, o *ca.Options) {
	f := cmd.Flags()
	f.DurationVar(&o.RootLife, "root-life", ca.DefaultRootLife, "how `long` a root lasts; at half of it another one comes")
	f.DurationVar(&o.IssuingLife, "issuing-life", ca.DefaultIssuingLife, "how `long` an issuing authority lasts; at half of it another one comes")
	f.DurationVar(&o.Life, "life", ca.DefaultLife, "how `long` an SVID lasts")
}

func checkLives(o ca.Options) error {
	switch {
	case o.Life <= 0 || o.IssuingLife <= 0 || o.RootLife <= 0:
		return usageError("--life, --issuing-life and --root-life are more than nothing")
	case o.IssuingLife < 4*o.Life || o.RootLife < 4*o.IssuingLife:
		return usageError("a root needs four times the life of an issuing authority, and that four times the life of an SVID: " +
			"they are replaced with overlap")
	}
	return nil
}

func caInitCommand() *cobra.Command {
	var o ca.Options
	domain := ""
	cmd := &cobra.Command{
		Use:   "init DIR [--trust-domain NAME]",
		Short: "Make an authority in a directory that is new or empty",
		Long: `init makes a root and an issuing authority below it, and writes them into a directory of mode 0700:

  root-1.pem      the root and its key, mode 0600; the newest signs, and all are believed
  issuing-1.pem   the authority that signs SVIDs, and its key, mode 0600
  bundle.pem      the roots, for who needs them as a file
  settings.json   trust domain and lives
  issued.jsonl    a line for everything that was ever signed

An authority that is there already is never replaced.`,
		Example: `  heddle ca init ca.d
  heddle ca init ca.d --trust-domain dev.example.com --life 10m`,
		DisableFlagsInUseLine: true,
		Args:                  oneDir,
		RunE: action(func(cmd *cobra.Command, args []string) error {
			if err := errors.Join(checkLives(o), checkTrustDomain(domain)); err != nil {
				return err
			}
			a, err := ca.Init(args[0], domain, o)
			if err != nil {
				return err
			}
			if err := a.Close(); err != nil {
				return err
			}
			return emit(cmd, fmt.Appendf(nil, "trust domain %s, root until %s, in %s\n", a.TrustDomain(), a.Bundle()[0].NotAfter.Format(time.RFC3339), args[0]))
		}),
	}
	cmd.Flags().StringVar(&domain, "trust-domain", "cluster.local", "`name` of the trust domain; Istio's default is cluster.local")
	lives(cmd, &o)
	return cmd
}

func checkTrustDomain(name string) error {
	if err := identity.CheckTrustDomain(name); err != nil {
		return usageError("--trust-domain %q %w", name, err)
	}
	return nil
}

// oneDir is for commands whose argument is the authority's directory.
func oneDir(_ *cobra.Command, args []string) error {
	if len(args) == 0 || args[0] == "" {
		return errors.New("no directory of an authority given")
	}
	if len(args) > 1 {
		return fmt.Errorf("unexpected argument %q", args[1])
	}
	return nil
}

// openCA takes up an authority to sign by it: alone, with the rotation that is due, or beside the server that has it.
func openCA(dir string, o ca.Options) (*ca.Authority, error) {
	a, err := ca.Open(dir, o)
	if errors.Is(err, ca.ErrInUse) {
		a, err = ca.OpenShared(dir, o)
		return a, readable(err)
	}
	if err != nil {
		return nil, readable(err)
	}
	if err := a.Rotate(); err != nil {
		return nil, errors.Join(err, a.Close())
	}
	return a, nil
}

// readable makes what cannot be read a failure of input.
func readable(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return &failure{exitInput, err}
	}
	return err
}

type signFlags struct {
	csr     string
	out     string
	replace bool
	life    time.Duration
}

func caSignCommand() *cobra.Command {
	o := &signFlags{}
	cmd := &cobra.Command{
		Use:   "sign DIR NAMESPACE/ACCOUNT [--out DIR] [--csr FILE]",
		Short: "Issue an SVID into files",
		Long: `sign issues an SVID of the service account and writes svid.pem, key.pem (mode 0600) and bundle.pem into the
directory that --out names: what heddle proxy takes as --svid, --svid-key and --svid-bundle. With --csr the key is
not ours: of the request nothing but the key is signed, and without --out the chain goes to stdout.

Files are not renewed by themselves: see heddle ca serve.`,
		Example: `  heddle ca sign ca.d default/ratings --out id
  heddle ca sign ca.d default/ratings --csr request.pem > svid.pem`,
		DisableFlagsInUseLine: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 2 {
				return errors.New("expected the directory of an authority and namespace/account")
			}
			return nil
		},
		RunE: action(o.main),
	}
	f := cmd.Flags()
	f.StringVar(&o.out, "out", "", "`directory` to write to, made where it is not there")
	f.StringVar(&o.csr, "csr", "", "`file` of a certificate request, PEM, whose key is signed")
	f.BoolVar(&o.replace, "replace", false, "replace files that are there")
	f.DurationVar(&o.life, "life", 0, "how `long` the SVID lasts; default and most: what the authority was made with")
	return cmd
}

func (o *signFlags) main(cmd *cobra.Command, args []string) error {
	switch {
	case o.life < 0:
		return usageError("--life is negative")
	case o.out == "" && o.csr == "":
		return usageError("no --out given: where should the key go?")
	}
	a, err := openCA(args[0], ca.Options{})
	if err != nil {
		return err
	}
	defer a.Close()
	w, err := ca.ParseWorkload(a.TrustDomain(), args[1])
	if err != nil {
		return usageError("%w", err)
	}
	if o.life > a.Life() {
		return usageError("--life %s: the authority was made to sign for %s at the most", o.life, a.Life())
	}
	if err := o.vacant(); err != nil {
		return err
	}
	var files []outFile
	if o.csr == "" {
		files, err = signNew(a, w.ID, o.life)
	} else {
		files, err = o.signCSR(a, w.ID)
	}
	if err != nil {
		return err
	}
	if o.out == "" {
		return emit(cmd, files[0].text)
	}
	return o.write(append(files, outFile{"bundle.pem", ca.EncodeCertificates(a.Bundle()...)}))
}

type outFile struct {
	name string
	text []byte
}

func signNew(a *ca.Authority, id identity.ID, life time.Duration) ([]outFile, error) {
	chain, key, err := a.SignNew(id, life, "heddle ca sign")
	if err != nil {
		return nil, err
	}
	text, err := ca.EncodeKey(key)
	return []outFile{{"svid.pem", ca.EncodeCertificates(chain...)}, {"key.pem", text}}, err
}

func (o *signFlags) signCSR(a *ca.Authority, id identity.ID) ([]outFile, error) {
	text, err := identity.ReadFile(o.csr)
	if err != nil {
		return nil, &failure{exitInput, err}
	}
	request, err := ca.ParseCSR(text)
	if err != nil {
		return nil, &failure{exitInput, fmt.Errorf("%s: %w", o.csr, err)}
	}
	chain, err := a.Sign(id, request.PublicKey, o.life, "heddle ca sign")
	return []outFile{{"svid.pem", ca.EncodeCertificates(chain...)}}, err
}

// vacant refuses to write where a file is already, unless that is meant.
func (o *signFlags) vacant() error {
	if o.out == "" || o.replace {
		return nil
	}
	for _, name := range []string{"svid.pem", "key.pem", "bundle.pem"} {
		if _, err := os.Lstat(filepath.Join(o.out, name)); err == nil {
			return fmt.Errorf("%s is there already; --replace replaces it", filepath.Join(o.out, name))
		}
	}
	return nil
}

func (o *signFlags) write(files []outFile) error {
	if err := os.MkdirAll(o.out, 0o700); err != nil {
		return err
	}
	for _, f := range files {
		if err := ca.WriteFile(filepath.Join(o.out, f.name), f.text); err != nil {
			return err
		}
	}
	return nil
}
