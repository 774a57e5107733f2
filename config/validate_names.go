package config

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	longestName  = 253 // of a DNS name, without the dot at its end
	longestLabel = 63
)

// isWildcard reports a host that stands for every name with its ending: "*.shop.com", "*-eu.shop.com", "*".
func isWildcard(host string) bool { return strings.HasPrefix(host, "*") }

// isLabel reports one part of a DNS name, in either case as istiod takes it (RFC 1123).
func isLabel(s string) bool {
	if s == "" || len(s) > longestLabel || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlphanumeric(c) && c != '-' {
			return false
		}
	}
	return true
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

// checkHost says what keeps a host from being a DNS name, a short name or a wildcard, in words that follow
// the host; an empty problem is none. "*" is a host, an IP address is not. A wildcard is leftmost: a whole
// label or the beginning of one.
func checkHost(host string) (problem, hint string) {
	const form = `write a DNS name, a short name, or a wildcard as in "*.shop.com"`
	name := strings.TrimSuffix(host, ".")
	rest, wildcard := strings.CutPrefix(name, "*")
	switch {
	case host == "":
		return "is empty", form
	case host == "*":
		return "", ""
	case isIP(strings.Trim(host, "[]")):
		return "is an IP address", form
	case strings.Contains(host, "://"):
		return "is a URL", "write its host alone"
	case strings.Contains(host, ":"):
		return "names a port", "write the host alone: ports have fields of their own"
	case strings.Contains(rest, "*"):
		return `has a "*" that is not at its start`, form
	case len(name) > longestName:
		return fmt.Sprintf("has %d characters", len(name)), fmt.Sprintf("a DNS name has at most %d", longestName)
	case wildcard && rest == "":
		return "is no host", form
	}
	if wildcard {
		if rest[0] == '.' {
			rest = rest[1:]
		} else {
			rest = strings.TrimPrefix(rest, "-")
		}
	}
	return checkLabels(rest)
}

// checkLabels looks at the parts of a DNS name between the dots.
func checkLabels(name string) (problem, hint string) {
	last := ""
	for label := range strings.SplitSeq(name, ".") {
		switch {
		case label == "":
			return "has an empty label", "put one dot between the labels of a DNS name"
		case len(label) > longestLabel:
			return fmt.Sprintf("has a label of %d characters", len(label)),
				fmt.Sprintf("a label has at most %d", longestLabel)
		case !isLabel(label):
			return "has the label " + quoted(label),
				"a label is letters, digits and '-', and begins and ends with a letter or digit"
		}
		last = label
	}
	if strings.Trim(last, "0123456789") == "" {
		return "ends in a number", "the last label of a DNS name has a letter"
	}
	return "", ""
}

// host refuses what is no host.
func (v *validation) host(p fieldPath, host string) bool {
	problem, hint := checkHost(host)
	if problem != "" {
		v.refuseValue(p, problem, hint)
	}
	return problem == ""
}

// checkExportTo refuses lists that contradict themselves. "." and the document's own namespace are the same.
func (v *validation) checkExportTo(p fieldPath, list []string) {
	exportToProblems(list, v.d.key.Namespace, func(i int, problem, hint string) { v.refuseValue(p.at(i), problem, hint) })
}

// exportToProblems tells what is wrong with which entry of a list, wherever it is written.
func exportToProblems(list []string, own string, tell func(i int, problem, hint string)) {
	seen := make(map[string]int, len(list))
	for i, entry := range list {
		namespace := entry
		switch entry {
		case "*", "~":
			if len(list) > 1 {
				tell(i, "is not the only entry", `"*" is everyone and "~" no one: write it alone`)
			}
		case ".":
			namespace = own
		default:
			if problem, hint := checkNamespace(entry); problem != "" {
				tell(i, problem, hint)
			}
		}
		if first, again := seen[namespace]; again {
			tell(i, fmt.Sprintf("repeats entry %d, %s", first, quoted(list[first])), "keep one of them")
		} else {
			seen[namespace] = i
		}
	}
}

func checkNamespace(name string) (problem, hint string) {
	if len(name) > longestLabel || !dnsLabel.MatchString(name) {
		return "is no namespace", "write lower case letters, digits and '-'"
	}
	return "", ""
}

func (v *validation) namespace(p fieldPath, name string) {
	if problem, hint := checkNamespace(name); problem != "" {
		v.refuseValue(p, problem, hint)
	}
}

// gateways checks the names of gateways, of which mesh stands for every sidecar.
func (v *validation) gateways(p fieldPath, list []string) {
	const form = `write "namespace/name", "./name", a name of the same namespace, or mesh`
	for i, entry := range list {
		namespace, name, slash := strings.Cut(entry, "/")
		switch {
		case entry == "":
			v.refuseValue(p.at(i), "is no gateway", form)
		case slash && (namespace != "." && !isLabel(namespace) || !isLabel(name)):
			v.refuseValue(p.at(i), "is no gateway", form)
		case slash || isLabel(entry):
		default:
			problem, hint := checkHost(entry)
			if isWildcard(entry) {
				problem, hint = "is no gateway", form
			}
			if problem != "" {
				v.refuseValue(p.at(i), problem, hint)
				continue
			}
			labels := strings.SplitN(entry, ".", 3)
			v.doubt(p.at(i), quoted(entry)+" is the old way to name a gateway",
				"write "+strconv.Quote(labels[1]+"/"+labels[0]))
		}
	}
}

// labels checks the keys and values of labels as Kubernetes does.
func (v *validation) labels(p fieldPath, labels map[string]string) {
	for _, key := range sortedKeys(labels) {
		prefix, name, prefixed := strings.Cut(key, "/")
		if !prefixed {
			prefix, name = "", key
		}
		if !isQualified(name) || prefixed && (len(prefix) > longestName || !subdomain.MatchString(prefix)) {
			v.refuseKey(p.at(key), "is no key of a label",
				"write letters, digits, '-', '_' and '.', at most 63, after a DNS name and '/' if need be")
		}
		if value := labels[key]; value != "" && !isQualified(value) {
			v.refuseValue(p.at(key), "is no value of a label",
				"write at most 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit")
		}
	}
}

// isQualified reports the name part of a label's key, or its value.
func isQualified(s string) bool {
	if s == "" || len(s) > longestLabel || !isAlphanumeric(s[0]) || !isAlphanumeric(s[len(s)-1]) {
		return false
	}
	for i := range len(s) {
		if c := s[i]; !isAlphanumeric(c) && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

// isToken reports what can be the name of a header or a cookie (RFC 9110 §5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		if c := s[i]; !isAlphanumeric(c) && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}

// labelName checks the name of a subset or a port.
func (v *validation) labelName(p fieldPath, name, what string) {
	switch {
	case name == "":
		v.refuse(p, "the "+what+" is missing", "")
	case !isLabel(name):
		v.refuseValue(p, "is no "+what, "write at most 63 letters, digits and '-', beginning and ending with a letter or digit")
	}
}
