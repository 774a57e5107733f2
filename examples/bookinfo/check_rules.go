package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A share is how many percent of the requests go to a subset of reviews.
type share struct {
	subset string
	weight int
}

// virtualService gives the rules of a service. The number makes every file another one.
func virtualService(number int, host, rules string) string {
	return fmt.Sprintf(`# Written by bookinfo -check, number %d.
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: %s
  annotations:
    number: "%[1]d"
spec:
  hosts:
  - %[2]s
  http:
%s`, number, host, rules)
}

// everybody is the rule without a condition.
func everybody(shares ...share) string {
	var b strings.Builder
	b.WriteString("  - name: everybody\n    route:\n")
	for _, s := range shares {
		fmt.Fprintf(&b, "    - destination:\n        host: reviews\n        subset: %s\n      weight: %d\n", s.subset, s.weight)
	}
	return b.String()
}

const jasonRule = `  - name: jason
    match:
    - headers:
        end-user:
          exact: jason
    route:
    - destination:
        host: reviews
        subset: v2
`

// reviewsRules gives a file of rules for reviews.
func (c *check) reviewsRules(rules string) string {
	c.writes++
	return virtualService(c.writes, "reviews", rules)
}

// saveRules puts a file into the watched directory in one step, and gives the moment when it was there.
func (c *check) saveRules(name, text string) (time.Time, error) {
	saved := time.Now()
	return saved, replaceFile(filepath.Join(c.app.dir, name), []byte(text))
}

// apply saves a file and returns when every instance has it.
func (c *check) apply(ctx context.Context, name, text string) error {
	return c.change(ctx, name, func() error { _, err := c.saveRules(name, text); return err })
}

// withdraw removes a file and returns when no instance has it any more.
func (c *check) withdraw(ctx context.Context, name string) error {
	path := filepath.Join(c.app.dir, name)
	if _, err := os.Stat(path); err != nil {
		return nil //nolint:nilerr // it is not there
	}
	return c.change(ctx, name, func() error { return os.Remove(path) })
}

// change does something to a file and returns when every instance that runs serves another configuration.
func (c *check) change(ctx context.Context, name string, do func() error) error {
	before := make(map[string]string)
	for _, i := range c.app.list() {
		if i.app == 0 {
			continue
		}
		s, err := c.status(ctx, i.name)
		if err != nil {
			return err
		}
		before[i.name] = s.Version
	}
	if err := do(); err != nil {
		return err
	}
	began := time.Now()
	for instance, version := range before {
		err := until(ctx, func() error {
			s, err := c.status(ctx, instance)
			if err == nil && s.Version == version {
				err = fmt.Errorf("%s still serves configuration %s: expected another one after %s was changed; refused: %v", instance, version, name, s.findings())
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	c.notes.detail("the change of %s is live everywhere after %s", name, short(time.Since(began)))
	return nil
}

// route applies rules for reviews that send everybody to the shares.
func (c *check) route(ctx context.Context, shares ...share) error {
	return c.apply(ctx, reviewsFile, c.reviewsRules(everybody(shares...)))
}

// A meshStatus is what /config_dump says, as far as it matters here.
type meshStatus struct {
	Version string
	Refused *struct{ Findings []configFinding }
}

type configFinding struct {
	File    string
	Line    int
	Message string
	Hint    string
}

func (f configFinding) String() string {
	return fmt.Sprintf("%s:%d: %s (%s)", filepath.Base(f.File), f.Line, f.Message, f.Hint)
}

// findings lists why the newest configuration was refused.
func (s meshStatus) findings() []configFinding {
	if s.Refused == nil {
		return nil
	}
	return s.Refused.Findings
}

// status reads an instance's admin page.
func (c *check) status(ctx context.Context, instance string) (meshStatus, error) {
	var s meshStatus
	return s, c.admin(ctx, instance, "/config_dump", &s)
}

// admin reads an admin page in JSON.
func (c *check) admin(ctx context.Context, instance, page string, into any) error {
	browser := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	code, body, err := fetchPage(ctx, browser, c.app.adminURL(instance)+page)
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("status %d", code)
	}
	if err == nil {
		err = json.Unmarshal(body, into)
	}
	if err != nil {
		return fmt.Errorf("%s of %s: %w", page, instance, err)
	}
	return nil
}
