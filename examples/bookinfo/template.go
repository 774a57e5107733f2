package main

import (
	"html"
	"regexp"
	"strings"
)

// The pages in page/ are filled by programs in two languages, and so their language is small:
//
//	{{name}}                  a text, escaped for HTML and for quoted attributes
//	{{{name}}}                a text that is HTML: of our own only
//	{{#name}}…{{/name}}       once for each of a list, once for a value that is there, not at all for one that is not
//	{{^name}}…{{/name}}       where it is not there
//
// A name is looked for in the innermost part first. No placeholder stands in a script, a style or a URL, where
// other rules of escaping would hold.

// values are what a page is filled with: string, values or []values.
type values map[string]any

var placeholder = regexp.MustCompile(`\{\{\{(\w+)\}\}\}|\{\{(\w+)\}\}|\{\{([#^])(\w+)\}\}`)

// fill replaces the placeholders of a text. The scope's last values are the innermost.
func fill(out *strings.Builder, text string, scope ...values) {
	for {
		at := placeholder.FindStringSubmatchIndex(text)
		if at == nil {
			out.WriteString(text)
			return
		}
		out.WriteString(text[:at[0]])
		rest := text[at[1]:]
		switch {
		case at[2] >= 0:
			s, _ := lookUp(scope, text[at[2]:at[3]]).(string)
			out.WriteString(s)
		case at[4] >= 0:
			s, _ := lookUp(scope, text[at[4]:at[5]]).(string)
			out.WriteString(html.EscapeString(s))
		default:
			name := text[at[8]:at[9]]
			var inner string
			inner, rest, _ = strings.Cut(rest, "{{/"+name+"}}")
			list := section(lookUp(scope, name))
			if text[at[6]] == '^' {
				list = without(list)
			}
			for _, v := range list {
				fill(out, inner, append(scope[:len(scope):len(scope)], v)...)
			}
		}
		text = rest
	}
}

func lookUp(scope []values, name string) any {
	for i := len(scope) - 1; i >= 0; i-- {
		if v, ok := scope[i][name]; ok {
			return v
		}
	}
	return nil
}

// section gives what a section is filled with, once for each.
func section(v any) []values {
	switch v := v.(type) {
	case []values:
		return v
	case values:
		return []values{v}
	case string:
		if v != "" {
			return []values{nil}
		}
	}
	return nil
}

func without(list []values) []values {
	if len(list) == 0 {
		return []values{nil}
	}
	return nil
}
