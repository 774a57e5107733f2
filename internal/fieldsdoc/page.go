package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/heddlemesh/mesh/config"
)

const head = `# Fields

What becomes of every field of every kind. The page is written by ` + "`go run ./internal/fieldsdoc > docs/fields.md`" + ` from the
descriptors of Istio's API and the register that validation is tested against; it is not edited by hand.

| Outcome | Means |
|---|---|
| honoured | does what Istio's documents say |
| no effect | accepted: there is nothing in it for a caller, or for what this version has |
| warned about | accepted and not carried out, and a finding says so; ` + "`WithStrictConfig`" + ` refuses it |
| **refused** | the set is not taken: without the field a request would go elsewhere, in another form, or where it must not |

What stands within a field that is warned about or refused fares as the field does. A field that is not on this page is refused,
with the nearest name that exists. ` + "`apiVersion`, `kind` and `metadata`" + ` are read of every document, ` + "`status`" + ` of none.

`

var outcomes = []config.Outcome{config.Honoured, config.Idle, config.Warned, config.Refused}

// page writes the whole page.
func page(kinds []config.KindInfo) string {
	p := printer{at: make(map[string]string)}
	for _, k := range kinds {
		if len(k.Objects) > 0 {
			p.at[k.Objects[0].Name] = anchor(k.Kind)
		}
	}
	p.printf("%s", head)
	p.totals(kinds)
	for _, k := range kinds {
		if k.Outcome == config.Honoured {
			p.kind(&k)
		}
	}
	p.printf("## Kinds that are not served\n\n| Kind | Versions | Outcome |\n|---|---|---|\n")
	for _, k := range kinds {
		if k.Outcome != config.Honoured {
			p.printf("| %s | %s | %s |\n", k.Kind, code(k.Versions), outcome(k.Outcome))
		}
	}
	p.printf("\nKinds that are not the mesh's are skipped with one line of information.\n")
	return p.String()
}

type printer struct {
	strings.Builder
	at map[string]string // anchors of the objects that have been written
}

func (p *printer) printf(format string, args ...any) { fmt.Fprintf(p, format, args...) }

// totals counts the fields of each kind; one that several kinds share counts in each.
func (p *printer) totals(kinds []config.KindInfo) {
	p.printf("| Kind | honoured | no effect | warned about | refused |\n|---|---|---|---|---|\n")
	for _, k := range kinds {
		if k.Outcome != config.Honoured {
			continue
		}
		p.printf("| [%s](#%s) |", k.Kind, anchor(k.Kind))
		counts := count(&k)
		for _, o := range outcomes {
			p.printf(" %d |", counts[o])
		}
		p.printf("\n")
	}
	p.printf("\n")
}

// count counts the fields of a kind by what becomes of them; values of enumerations are no fields.
func count(k *config.KindInfo) map[config.Outcome]int {
	counts := make(map[config.Outcome]int)
	for _, o := range k.Objects {
		for _, f := range o.Fields {
			if f.Value == "" {
				counts[f.Outcome]++
			}
		}
	}
	return counts
}

// kind writes its own object, and those within it that no kind before it has and that are no kinds themselves.
func (p *printer) kind(k *config.KindInfo) {
	p.printf("## %s\n\n%s\n\n", k.Kind, code(k.Versions))
	var inner []*config.ObjectInfo
	for i := range k.Objects[1:] {
		if o := &k.Objects[1+i]; p.at[o.Name] == "" {
			p.at[o.Name] = anchor(o.Name)
			inner = append(inner, o)
		}
	}
	p.object(&k.Objects[0])
	for _, o := range inner {
		places, more := o.Places, ""
		if n := len(places) - mostPlaces; n > 0 {
			places, more = places[:mostPlaces], fmt.Sprintf(" and %d more", n)
		}
		p.printf("### %s\n\n%s%s\n\n", o.Name, code(places), more)
		p.object(o)
	}
}

// mostPlaces is how many places of an object are listed.
const mostPlaces = 4

func (p *printer) object(o *config.ObjectInfo) {
	p.printf("| Field | Type | Outcome | |\n|---|---|---|---|\n")
	for _, f := range o.Fields {
		name := f.Name
		if name == "*" {
			name = "everything else"
		} else {
			name = "`" + name + "`"
		}
		if f.Value != "" {
			name = "`" + f.Name + ": " + f.Value + "`"
		}
		said := outcome(f.Outcome)
		if f.Code != "" {
			said += ", " + f.Code
		}
		p.printf("| %s | %s | %s | %s |\n", name, p.typeOf(&f), said, escape(f.Why))
	}
	p.printf("\n")
}

// typeOf links to what the field holds.
func (p *printer) typeOf(f *config.FieldInfo) string {
	if f.Value != "" {
		return ""
	}
	if at := p.at[f.Of]; at != "" && f.Of != "" {
		return strings.Replace(f.Type, f.Of, "["+f.Of+"](#"+at+")", 1)
	}
	return f.Type
}

func outcome(o config.Outcome) string {
	if o == config.Refused {
		return "**" + o.String() + "**"
	}
	return o.String()
}

func code(list []string) string {
	list = slices.Clone(list)
	for i := range list {
		list[i] = "`" + list[i] + "`"
	}
	return strings.Join(list, ", ")
}

// anchor is the name that a heading has on the page.
func anchor(heading string) string {
	return strings.ToLower(strings.NewReplacer(".", "", " ", "-").Replace(heading))
}

// escape keeps text within its cell.
func escape(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;").Replace(s)
}
