package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/heddlemesh/mesh/config"
)

type analyzeFlags struct {
	output      choice
	fail        level
	show        level
	strict      bool
	ignore      []string
	suppress    suppressions
	workload    workload
	labels      labels
	authorizers []string
}

func analyzeCommand() *cobra.Command {
	o := &analyzeFlags{
		output:   choice{"log", []string{"log", "json"}},
		fail:     level{config.Error},
		show:     level{config.Info},
		workload: workload{namespace: "default"},
		labels:   labels{},
	}
	cmd := &cobra.Command{
		Use:   "analyze PATH...",
		Short: "Check configuration and list everything wrong or doubtful",
		Long: `analyze reads files and directories as a mesh would and prints what it finds, one finding a line:

  Level [CODE] (Kind namespace/name file:line:column) field: message; hint

Of a directory it takes .yaml, .yml and .json, subdirectories too; "-" is standard input.
All paths are one set: what one document names may stand in another.

Exit codes: 0 no finding at the failure threshold, and a mesh accepts the set; 79 findings at the
threshold, or some that refuse the set; 65 a path cannot be read or is no YAML; 64 wrong usage.`,
		Example: `  heddle analyze mesh.d
  heddle analyze --failure-threshold Warning -S 'IST0174=DestinationRule default/legacy' mesh.d
  heddle analyze --ignore-kind Sidecar --workload shop/web --labels app=web,version=v2 mesh.d
  kubectl get vs,dr,se -o yaml | heddle analyze -o json -`,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) == 0:
				return usageError("no path given; for the directory you are in: heddle analyze .")
			case slices.Contains(args, ""):
				return usageError("a path is empty")
			}
			return nil
		},
		RunE: action(func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) }),
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.VarP(&o.output, "output", "o", "`format` of the findings: log or json")
	f.Var(&o.fail, "failure-threshold", "`level` from which findings make the exit code 79: Error, Warning or Info")
	f.Var(&o.show, "output-threshold", "`level` from which findings are printed: Info, Warning or Error")
	f.BoolVar(&o.strict, "strict", false, "judge as a mesh with WithStrictConfig does: every warning, and every\nreference to what is not there, refuses the set")
	f.StringArrayVar(&o.ignore, "ignore-kind", nil, "leave documents of this `kind` out, as WithIgnoredKinds does (repeatable)")
	f.VarP(&o.suppress, "suppress", "S", "neither print nor count findings with this `code`, or CODE=Kind ns/name for one\ndocument, * standing for anything (repeatable). What refuses the set is shown anyway")
	f.StringArrayVar(&o.authorizers, "authorizer", nil, authorizerUsage)
	f.BoolP("recursive", "R", true, "read subdirectories, which is always done: for istioctl's sake")
	f.Var(&o.workload, "workload", "`namespace[/name]` of the program that the set is compiled for")
	f.Var(&o.labels, "labels", "its labels, `k=v,...`")
	return cmd
}

const authorizerUsage = "the program has an authorizer of this `name`, by WithAuthorizer (repeatable)"

func (o *analyzeFlags) run(cmd *cobra.Command, args []string) error {
	sources, err := sourcesOf(cmd.Context(), args, cmd.InOrStdin())
	if err != nil {
		return err
	}
	a, err := analyze(cmd.Context(), config.Options{Workload: o.workload.with(o.labels), IgnoredKinds: o.ignore, Authorizers: o.authorizers, GRPCAuthorizers: true, Collectors: true}, sources...)
	if err != nil {
		return err
	}
	found, suppressed, insisted := o.sift(a)
	shown := slices.DeleteFunc(slices.Clone(found), func(f config.Finding) bool {
		return f.Level < o.show.Level && !f.Refused
	})
	text, err := render(shown, o.output.value)
	if err != nil {
		return err
	}
	if err := emit(cmd, text); err != nil {
		return err
	}
	w := cmd.ErrOrStderr()
	fmt.Fprintln(w, a.summary(found, suppressed))
	if insisted > 0 {
		fmt.Fprintf(w, "%s not suppressed: what refuses the set is always shown\n", count(insisted, "finding"))
	}
	switch {
	case !a.compiled:
		fmt.Fprintln(w, "the set is refused, and so references between its documents were not checked")
	case slices.ContainsFunc(found, func(f config.Finding) bool { return f.Refused }):
		fmt.Fprintln(w, "a mesh with WithStrictConfig refuses the set")
	}
	if code := exitCode(found, o.fail.Level); code != exitOK {
		return &failure{code: code}
	}
	return nil
}

// sift takes out what the user suppresses, be it here or in the documents. Strictness is applied here and not in
// config, which would leave the references unchecked for the first warning.
func (o *analyzeFlags) sift(a *analysis) (found []config.Finding, suppressed, insisted int) {
	for _, f := range a.findings {
		f.Refused = f.Refused || o.strict && f.Level >= config.Warning
		if o.suppress.covers(f) || a.silences(f) {
			if !f.Refused {
				suppressed++
				continue
			}
			insisted++
		}
		found = append(found, f)
	}
	return found, suppressed, insisted
}

// sourcesOf makes sources of paths in their order, standard input last.
func sourcesOf(ctx context.Context, paths []string, stdin io.Reader) ([]config.Source, error) {
	var sources []config.Source
	files, input := splitPaths(paths)
	if len(files) > 0 {
		sources = append(sources, config.FromPaths(files...))
	}
	if input {
		text, err := readInput(ctx, stdin)
		if err != nil {
			return nil, err
		}
		sources = append(sources, config.FromFS(text, stdinFile))
	}
	return sources, nil
}

// render gives findings one a line, or as a JSON array.
func render(findings []config.Finding, format string) ([]byte, error) {
	if format == "json" {
		return toJSON(append([]config.Finding{}, findings...)) // none is [] and not null
	}
	var b strings.Builder
	for _, f := range findings {
		b.WriteString(f.String())
		b.WriteByte('\n')
	}
	return []byte(b.String()), nil
}

// summary counts: "12 documents in 3 files: 1 error, 2 warnings, 1 information".
func (a *analysis) summary(found []config.Finding, suppressed int) string {
	var n [config.Error + 1]int
	for _, f := range found {
		n[f.Level]++
	}
	var parts []string
	for _, c := range []struct {
		n    int
		text string
	}{
		{n[config.Error], count(n[config.Error], "error")},
		{n[config.Warning], count(n[config.Warning], "warning")},
		{n[config.Info], fmt.Sprintf("%d information", n[config.Info])},
	} {
		if c.n > 0 {
			parts = append(parts, c.text)
		}
	}
	if len(parts) == 0 {
		parts = []string{"no findings"}
	}
	if suppressed > 0 {
		parts = append(parts, fmt.Sprintf("%d suppressed", suppressed))
	}
	return count(a.documents, "document") + " in " + count(a.files, "file") + ": " + strings.Join(parts, ", ")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
