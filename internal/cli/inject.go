package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/heddlemesh/mesh/config"
	"github.com/heddlemesh/mesh/internal/inject"
)

type injectFlags struct {
	files   []string
	output  choice
	native  bool
	options inject.Options
}

func injectCommand() *cobra.Command {
	o := &injectFlags{output: choice{"yaml", []string{"yaml", "json"}}}
	cmd := &cobra.Command{
		Use:   "inject -f FILE... [flags]",
		Short: "Put the sidecar into Kubernetes workloads",
		Long: `inject reads Deployments, StatefulSets, DaemonSets, ReplicaSets, Jobs, CronJobs, Pods and Lists of them, and writes them
with the sidecar, and a container that installs the rules by which connections go to it. Other documents, comments and fields stay
as they are. What has a sidecar already stays as it is, too. "-" is standard input.

Istio's labels and annotations of pods have the effect that they have there; those that have none here are named on stderr, and so is
why a workload is refused. Where one is, nothing is written.

Exit codes: 0 written, 79 a workload is refused, 65 a file cannot be read or is no YAML, 64 wrong usage.`,
		Example: `  heddle inject -f app.yaml | kubectl apply -f -
  kubectl get deployment ratings-v1 -o yaml | heddle inject -f - --identity-csi csi.spiffe.io`,
		DisableFlagsInUseLine: true,
		Args:                  cobra.NoArgs,
		RunE:                  action(func(cmd *cobra.Command, _ []string) error { return o.run(cmd) }),
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringArrayVarP(&o.files, "filename", "f", nil, "`file` of Kubernetes documents, - for standard input (repeatable)")
	f.VarP(&o.output, "output", "o", "`format` of the result: yaml or json")
	f.StringVar(&o.options.ConfigMap, "config-map", inject.DefaultConfigMap, "`name` of the ConfigMap with the mesh's documents")
	f.StringVar(&o.options.Image, "image", inject.DefaultImage, "`image` of the sidecar")
	f.StringVar(&o.options.CaptureImage, "capture-image", inject.DefaultCaptureImage, "`image` of what installs the rules, which has nft too")
	f.BoolVar(&o.native, "native", true, "have the sidecar stay among the init containers (Kubernetes 1.29); false: among the containers")
	f.BoolVar(&o.options.DNS, "dns", false, "have the sidecar answer the program's DNS queries too")
	f.StringVar(&o.options.IdentitySecret, "identity-secret", "", "`name` of the Secret with tls.crt, tls.key and ca.crt; {account} in it is the service account; default: none")
	f.StringVar(&o.options.IdentityCSI, "identity-csi", "", "`driver` that mounts the SPIFFE Workload API, csi.spiffe.io; default: none")
	return cmd
}

func (o *injectFlags) run(cmd *cobra.Command) error {
	switch {
	case len(o.files) == 0:
		return usageError("no file given: -f app.yaml, or -f - for standard input")
	case slices.Contains(o.files, ""):
		return usageError("a path is empty")
	}
	o.options.InContainers = !o.native
	var all bytes.Buffer
	refused := 0
	for i, name := range o.files {
		text, shown, err := readWorkloads(cmd.Context(), name, cmd.InOrStdin())
		if err != nil {
			return err
		}
		out, findings, err := inject.YAML(text, o.options)
		if _, wrong := errors.AsType[*inject.OptionError](err); wrong {
			return usageError("%w", err)
		}
		if err != nil {
			return &failure{exitInput, fmt.Errorf("%s: %w", shown, err)}
		}
		for _, f := range findings {
			if f.Level == inject.Error {
				refused++
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s (%s %s:%d:%d) %s\n", f.Level, f.Object, shown, f.Line, f.Column, f.Message)
		}
		if i > 0 && !bytes.HasPrefix(out, []byte("---")) {
			all.WriteString("---\n")
		}
		all.Write(out)
		if len(out) > 0 && out[len(out)-1] != '\n' {
			all.WriteByte('\n')
		}
	}
	if refused > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: nothing is written\n", count(refused, "error"))
		return &failure{code: exitFindings}
	}
	result := all.Bytes()
	if o.output.value == "json" {
		var err error
		if result, err = inject.JSON(result); err != nil {
			return err
		}
	}
	return emit(cmd, result)
}

// readWorkloads reads a file, or standard input, and gives the name by which findings have it.
func readWorkloads(ctx context.Context, name string, stdin io.Reader) (text []byte, shown string, err error) {
	if name == stdinName {
		shown = stdinFile
		text, err = readInput(ctx, stdin)
	} else {
		shown = name
		text, err = readWorkloadFile(name)
	}
	if err == nil && len(text) > config.MaxFileBytes {
		err = &failure{exitInput, fmt.Errorf("read %s: more than %d bytes", shown, config.MaxFileBytes)}
	}
	return text, shown, err
}

func readWorkloadFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, &failure{exitInput, err}
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, config.MaxFileBytes+1))
	if err != nil {
		return nil, &failure{exitInput, err}
	}
	return text, nil
}
