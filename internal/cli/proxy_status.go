package cli

import (
	"cmp"
	"encoding/json"

	"github.com/spf13/cobra"
)

// A processStatus is one process as proxy-status shows it.
type processStatus struct {
	Name      string          `json:"name"` // workload.namespace
	Admin     string          `json:"admin"`
	Version   string          `json:"version,omitempty"`
	State     string          `json:"state"`  // LIVE, DRAINING, or UNREACHABLE
	Config    string          `json:"config"` // SYNCED, or ERROR where a newer configuration was refused
	Serves    string          `json:"configVersion,omitempty"`
	Documents int             `json:"documents"`
	Refused   json.RawMessage `json:"refused,omitempty"`
	Error     string          `json:"error,omitempty"` // why it could not be asked
}

func proxyStatusCommand() *cobra.Command {
	o := &inspected{output: choice{"table", []string{"table", "text", "json", "yaml"}}}
	cmd := &cobra.Command{
		Use:     "proxy-status [--admin ADDRESS]...",
		Aliases: []string{"ps"},
		Short:   "Show which configuration running heddle proxies serve by",
		Long: `proxy-status asks running heddle proxies who they are and which configuration they serve by: SYNCED, or ERROR where a
newer one was refused and an older one goes on. It fails where a process cannot be asked.` + adminHelp,
		Example: `  heddle proxy-status
  heddle proxy-status --admin 127.0.0.1:15000,127.0.0.1:15010 -o json`,
		DisableFlagsInUseLine: true,
		Args:                  cobra.NoArgs,
		RunE:                  action(func(cmd *cobra.Command, _ []string) error { return o.status(cmd) }),
	}
	o.flags(cmd)
	return cmd
}

func (o *inspected) status(cmd *cobra.Command) error {
	processes, err := o.processes()
	if err != nil {
		return err
	}
	rows := [][]string{{"NAME", "ADMIN", "STATE", "CONFIG", "SERVES", "VERSION"}}
	all := make([]processStatus, len(processes))
	missing := false
	for i, admin := range processes {
		s := &all[i]
		*s = processStatus{Admin: admin, State: "UNREACHABLE", Config: "-", Name: "-"}
		if err := s.ask(cmd, admin); err != nil {
			s.Error, missing = err.Error(), true
		}
		rows = append(rows, []string{s.Name, s.Admin, s.State, s.Config, dash(s.Serves), dash(s.Version)})
	}
	if err := o.print(cmd, all, table(rows...)); err != nil {
		return err
	}
	if missing {
		for _, s := range all {
			if s.Error != "" {
				cmd.PrintErrln("heddle: " + s.Error)
			}
		}
		return &failure{code: exitFailed}
	}
	return nil
}

// ask fills in what the process says.
func (s *processStatus) ask(cmd *cobra.Command, admin string) error {
	var info struct {
		Version, State string
		Node           struct{ Name, Namespace string }
	}
	var dump struct {
		Version   string
		Documents int
		Refused   json.RawMessage
	}
	if err := adminPage(cmd.Context(), admin, "/server_info", &info); err != nil {
		return err
	}
	if err := adminPage(cmd.Context(), admin, "/config_dump", &dump); err != nil {
		return err
	}
	s.Name, s.Version, s.State = cmp.Or(info.Node.Name, "-")+"."+info.Node.Namespace, info.Version, info.State
	s.Serves, s.Documents, s.Refused, s.Config = dump.Version, dump.Documents, dump.Refused, "SYNCED"
	if len(dump.Refused) > 0 && string(dump.Refused) != "null" {
		s.Config = "ERROR"
	}
	return nil
}
