package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// shown is what one process has to say: a value for programs, and its table.
type shown struct {
	value any
	text  string
}

// inspection makes a command that asks the admin pages of one process, of a list of them, or of all sockets in a directory. It
// gives the command's flags for more.
func inspection(use string, aliases []string, what, long string, ask func(context.Context, string) (shown, error)) (*cobra.Command, *inspected) {
	o := &inspected{output: choice{"table", []string{"table", "text", "json", "yaml"}}}
	cmd := &cobra.Command{
		Use: use + " [--admin ADDRESS]...", Aliases: aliases, Short: "Show the " + what + " of a running heddle proxy",
		Long:                  long + adminHelp,
		Example:               "  heddle proxy-config " + use + "\n  heddle proxy-config " + use + " --admin 127.0.0.1:15010 -o json",
		DisableFlagsInUseLine: true,
		Args:                  cobra.NoArgs,
		RunE:                  action(func(cmd *cobra.Command, _ []string) error { return o.run(cmd, ask) }),
	}
	o.flags(cmd)
	return cmd, o
}

const adminHelp = `

--admin is host:port, a Unix socket by its path, or a directory: then every socket in it is asked. It may be repeated.`

type inspected struct {
	admin  []string
	output choice
}

func (o *inspected) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&o.admin, "admin", []string{"127.0.0.1:15000"}, "`address` of admin pages, or a directory of their sockets (repeatable)")
	f.VarP(&o.output, "output", "o", "`format`: table, json or yaml")
}

func (o *inspected) run(cmd *cobra.Command, ask func(context.Context, string) (shown, error)) error {
	processes, err := o.processes()
	if err != nil {
		return err
	}
	var text strings.Builder
	values := make(map[string]any)
	for i, admin := range processes {
		one, err := ask(cmd.Context(), admin)
		if err != nil {
			return err
		}
		values[admin] = one.value
		if len(processes) > 1 {
			if i > 0 {
				text.WriteString("\n")
			}
			text.WriteString("# " + admin + "\n")
		}
		text.WriteString(one.text)
	}
	var value any = values
	if len(processes) == 1 {
		value = values[processes[0]]
	}
	return o.print(cmd, value, text.String())
}

func (o *inspected) print(cmd *cobra.Command, value any, text string) error {
	out, err := []byte(text), error(nil)
	if o.output.value == "json" || o.output.value == "yaml" {
		out, err = toJSON(value)
	}
	if err == nil && o.output.value == "yaml" {
		out, err = yamlOf(out)
	}
	return errors.Join(err, emit(cmd, out))
}

// processes lists the addresses that are meant.
func (o *inspected) processes() ([]string, error) {
	var all []string
	for _, a := range o.admin {
		path := strings.TrimPrefix(a, "unix://")
		if path == a && !strings.Contains(a, "/") {
			if err := checkAddress(a); err != nil {
				return nil, usageError("--admin %s: %w", a, err)
			}
			all = append(all, a)
			continue
		}
		info, err := os.Stat(path)
		switch {
		case err != nil:
			return nil, readable(err)
		case !info.IsDir():
			all = append(all, "unix://"+path)
			continue
		}
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, readable(err)
		}
		n := len(all)
		for _, e := range entries {
			if e.Type()&os.ModeSocket != 0 {
				all = append(all, "unix://"+filepath.Join(path, e.Name()))
			}
		}
		if len(all) == n {
			return nil, usageError("--admin %s: the directory has no socket", a)
		}
	}
	return all, nil
}

// table lays rows out in columns.
func table(rows ...[]string) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 5, ' ', 0)
	for _, r := range rows {
		_, _ = fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	_ = w.Flush() // to memory
	return b.String()
}

// yamlOf writes JSON as YAML: blocks, and every text in quotes, which YAML reads as JSON does (YAML 1.2 §1.3).
func yamlOf(text []byte) ([]byte, error) {
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	var b strings.Builder
	writeYAML(&b, v, 0, false)
	return []byte(b.String()), nil
}

// writeYAML writes a value. inline says that something stands before it in its line.
func writeYAML(b *strings.Builder, v any, indent int, inline bool) {
	pad := strings.Repeat("  ", indent)
	switch v := v.(type) {
	case map[string]any:
		if len(v) == 0 {
			b.WriteString("{}\n")
			return
		}
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for i, k := range keys {
			if i > 0 || !inline {
				b.WriteString(pad)
			}
			b.WriteString(quotedJSON(k) + ":")
			writeBelow(b, v[k], indent+1)
		}
	case []any:
		if len(v) == 0 {
			b.WriteString("[]\n")
			return
		}
		for i, one := range v {
			if i > 0 || !inline {
				b.WriteString(pad)
			}
			b.WriteString("- ")
			writeYAML(b, one, indent+1, true)
		}
	default:
		b.WriteString(quotedJSON(v) + "\n")
	}
}

// writeBelow writes the value of a key: blocks in lines of their own.
func writeBelow(b *strings.Builder, v any, indent int) {
	switch v := v.(type) {
	case map[string]any:
		if len(v) > 0 {
			b.WriteString("\n")
			writeYAML(b, v, indent, false)
			return
		}
	case []any:
		if len(v) > 0 {
			b.WriteString("\n")
			writeYAML(b, v, indent, false)
			return
		}
	}
	b.WriteString(" ")
	writeYAML(b, v, indent, true)
}

func quotedJSON(v any) string {
	text, err := json.Marshal(v)
	return cmp.Or(string(text), fmt.Sprint(err))
}
