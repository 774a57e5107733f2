package keep

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/heddlemesh/mesh/config"
)

// The file begins with a line of three words: what it is, which schema it has, and the SHA-256 of the rest, in hexadecimal. The
// rest is JSON.
const (
	magic  = "heddle-snapshot"
	schema = "1"
)

type content struct {
	Written time.Time `json:"written"`
	Texts   []text    `json:"texts"`
}

// A text is what one document, or the items of one List, were read from.
type text struct {
	File     string       `json:"file"`
	Document int          `json:"document"`
	Line     int          `json:"line"`
	Keys     []config.Key `json:"keys"`
	Text     string       `json:"text"`
}

func encode(documents []config.Resource, now time.Time) []byte {
	c := content{Written: now.UTC(), Texts: []text{}}
	for i := range documents {
		d := &documents[i]
		if n := len(c.Texts); n > 0 {
			if last := &c.Texts[n-1]; last.File == d.Origin.File && last.Document == d.Origin.Document && last.Line == d.Origin.Line && last.Text == string(d.Body) {
				last.Keys = append(last.Keys, d.Key)
				continue
			}
		}
		c.Texts = append(c.Texts, text{d.Origin.File, d.Origin.Document, d.Origin.Line, []config.Key{d.Key}, string(d.Body)})
	}
	rest, err := json.Marshal(c)
	if err != nil {
		panic(err) // strings, numbers and a time of this century
	}
	return append([]byte(magic+" "+schema+" "+sum(rest)+"\n"), rest...)
}

func sum(rest []byte) string {
	h := sha256.Sum256(rest)
	return hex.EncodeToString(h[:])
}

func decode(whole []byte) ([]config.Resource, time.Time, error) {
	head, rest, ok := bytes.Cut(whole, []byte("\n"))
	words := bytes.Split(head, []byte(" "))
	switch {
	case !ok || len(words) != 3 || string(words[0]) != magic:
		return nil, time.Time{}, errors.New("read kept configuration: it is no such file, or cut short")
	case string(words[1]) != schema:
		return nil, time.Time{}, fmt.Errorf("read kept configuration: schema %.20q, this version knows %s", words[1], schema)
	case string(words[2]) != sum(rest):
		return nil, time.Time{}, errors.New("read kept configuration: the checksum is wrong: it was damaged or cut short")
	}
	var c content
	if err := json.Unmarshal(rest, &c); err != nil {
		return nil, time.Time{}, fmt.Errorf("read kept configuration: %w", err)
	}
	var all []config.Resource
	for _, t := range c.Texts {
		documents, err := t.documents()
		if err != nil {
			return nil, time.Time{}, fmt.Errorf("read kept configuration: %w", err)
		}
		all = append(all, documents...)
	}
	return all, c.Written, nil
}

// documents gives the resources of a text. A lone one is parsed where it stood by whoever takes it.
func (t *text) documents() ([]config.Resource, error) {
	if len(t.Keys) == 1 {
		return []config.Resource{{Key: t.Keys[0], Origin: config.Origin{File: t.File, Document: t.Document, Line: t.Line}, Body: []byte(t.Text)}}, nil
	}
	made, findings := config.Parse(t.File, []byte(strings.Repeat("\n", max(t.Line-1, 0))+t.Text)) // so that positions are what they were
	for _, f := range findings {
		if f.Refused {
			return nil, errors.New(f.String())
		}
	}
	if len(made) != len(t.Keys) {
		return nil, fmt.Errorf("%s: %d documents where there were %d", t.File, len(made), len(t.Keys))
	}
	return made, nil
}
