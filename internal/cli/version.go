package cli

import (
	"errors"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// A buildVersion is what the linker knows of the binary.
type buildVersion struct {
	Module   string `json:"module"`
	Version  string `json:"version"` // "(devel)" for a build of a working copy
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Revision string `json:"revision,omitempty"`
	Time     string `json:"time,omitempty"`
	Modified bool   `json:"modified,omitempty"` // the working copy had changes of its own
}

func versionCommand() *cobra.Command {
	output := choice{"text", []string{"text", "json"}}
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version of heddle",
		Example: `  heddle version
  heddle version -o json`,
		Args: cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			info, ok := debug.ReadBuildInfo()
			if !ok {
				return errors.New("the binary was built without module information")
			}
			v := versionOf(info)
			if output.value == "text" {
				return emit(cmd, []byte(v.String()))
			}
			text, err := toJSON(v)
			if err != nil {
				return err
			}
			return emit(cmd, text)
		}),
	}
	cmd.Flags().VarP(&output, "output", "o", "`format`: text or json")
	return cmd
}

func versionOf(info *debug.BuildInfo) buildVersion {
	v := buildVersion{Module: info.Main.Path, Version: info.Main.Version, Go: info.GoVersion,
		Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if v.Version == "" {
		v.Version = "(devel)"
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.time":
			v.Time = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

// String tells it in a line or two.
func (v buildVersion) String() string {
	var b strings.Builder
	b.WriteString("heddle " + v.Version + " (" + v.Module + ") " + v.Go + " " + v.Platform + "\n")
	if v.Revision != "" {
		b.WriteString("revision " + v.Revision)
		if v.Time != "" {
			b.WriteString(" of " + v.Time)
		}
		if v.Modified {
			b.WriteString(", modified")
		}
		b.WriteByte('\n')
	}
	return b.String()
}
