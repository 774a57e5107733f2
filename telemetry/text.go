package telemetry

import (
	"bufio"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"
)

// ContentType is that of WriteText: Prometheus's text format, version 0.0.4.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// ServeHTTP implements http.Handler: whatever is asked for, the metrics are the answer.
func (s *Store) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", ContentType)
	_ = s.WriteText(w) // an error is the client's having gone
}

// WriteText writes everything in Prometheus's text format, version 0.0.4. Its error is w's.
func (s *Store) WriteText(w io.Writer) error {
	b := bufio.NewWriterSize(w, 64<<10)
	var line []byte
	for _, f := range s.Gather() {
		line = f.appendText(line[:0], b)
	}
	return b.Flush()
}

// appendText writes a family; line is room for its lines.
func (f *Family) appendText(line []byte, b *bufio.Writer) []byte {
	line = append(line, "# HELP "...)
	line = append(line, f.Name...)
	line = append(line, ' ')
	line = append(line, escapeHelp(f.Help)...)
	line = append(line, "\n# TYPE "...)
	line = append(line, f.Name...)
	line = append(line, ' ')
	line = append(line, f.Kind.String()...)
	line = append(line, '\n')
	_, _ = b.Write(line)
	var labels []byte
	for i := range f.Samples {
		s := &f.Samples[i]
		labels = appendLabels(labels[:0], s.Labels)
		if s.Distribution == nil {
			line = appendLine(line[:0], f.Name, "", labels, "", s.Value)
			_, _ = b.Write(line)
			continue
		}
		line = s.Distribution.appendText(line, b, f.Name, labels)
	}
	return line
}

func (d *Distribution) appendText(line []byte, b *bufio.Writer, name string, labels []byte) []byte {
	var below uint64
	for i, n := range d.Buckets {
		below += n
		upper := "+Inf"
		if i < len(d.Bounds) {
			upper = strconv.FormatFloat(d.Bounds[i], 'f', -1, 64)
		}
		line = appendLine(line[:0], name, "_bucket", labels, upper, float64(below))
		_, _ = b.Write(line)
	}
	line = appendLine(line[:0], name, "_sum", labels, "", d.Sum)
	_, _ = b.Write(line)
	line = appendLine(line[:0], name, "_count", labels, "", float64(d.Count))
	_, _ = b.Write(line)
	return line
}

// appendLine makes one sample; le is the upper bound of a bucket, "" for none.
func appendLine(line []byte, name, suffix string, labels []byte, le string, value float64) []byte {
	line = append(line, name...)
	line = append(line, suffix...)
	if len(labels) > 0 || le != "" {
		line = append(line, '{')
		line = append(line, labels...)
		if le != "" {
			if len(labels) > 0 {
				line = append(line, ',')
			}
			line = append(line, `le="`...)
			line = append(line, le...)
			line = append(line, '"')
		}
		line = append(line, '}')
	}
	line = append(line, ' ')
	return append(appendValue(line, value), '\n')
}

func appendValue(line []byte, v float64) []byte {
	switch {
	case math.IsInf(v, 1):
		return append(line, "+Inf"...)
	case v == math.Trunc(v) && math.Abs(v) < 1<<53:
		return strconv.AppendInt(line, int64(v), 10)
	}
	return strconv.AppendFloat(line, v, 'g', -1, 64)
}

// appendLabels writes labels without the braces.
func appendLabels(dst []byte, labels []Label) []byte {
	for i, l := range labels {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, l.Name...)
		dst = append(dst, '=', '"')
		dst = appendEscaped(dst, l.Value)
		dst = append(dst, '"')
	}
	return dst
}

// maxLabelValue bounds a label's value, in bytes.
const maxLabelValue = 256

// appendEscaped writes the value of a label: UTF-8, with \\, \" and \n for what would end it.
func appendEscaped(dst []byte, v string) []byte {
	n := 0
	for _, r := range v { // a byte that is no UTF-8 is U+FFFD
		if n += utf8.RuneLen(r); n > maxLabelValue {
			break
		}
		switch r {
		case '\\', '"':
			dst = append(dst, '\\', byte(r))
		case '\n':
			dst = append(dst, '\\', 'n')
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return dst
}

func escapeHelp(s string) string { return helpEscapes.Replace(s) }

var helpEscapes = strings.NewReplacer(`\`, `\\`, "\n", `\n`)
