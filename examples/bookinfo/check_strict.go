package main

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/heddlemesh/mesh/identity"
)

// strict: the services take nothing but mutual TLS, each process by an identity of its own; then ratings takes reviews alone.
func strict(ctx context.Context, c *check) (string, error) {
	browser := newBrowser()
	defer browser.CloseIdleConnections()
	const pages = 20
	var measured []string
	for n, direct := range []int{http.StatusOK, http.StatusForbidden} {
		if err := c.take(ctx, "strict", n+1); err != nil {
			return "", err
		}
		views, err := judgeViews("everybody", many(c, pages, func(int) view { return c.view(ctx, browser, "") }), quickly("red"))
		if err != nil {
			return "", fmt.Errorf("step %d: %w", n+1, err)
		}
		status, body, err := fetchPage(ctx, browser, c.url("/api/v1/products/0/ratings"))
		if err == nil && status != direct {
			err = fmt.Errorf("status %d: %.100s", status, body)
		}
		if err != nil {
			return "", fmt.Errorf("step %d: expected productpage to be answered by ratings with %d, found %w", n+1, direct, err)
		}
		measured = append(measured, fmt.Sprintf("%s; productpage at ratings: %d", views, direct))
	}
	refused, err := c.plainRefused(ctx)
	if err != nil {
		return "", err
	}
	ids, err := c.identities(ctx)
	return fmt.Sprintf("%s; %d identities; plain text refused by %s", strings.Join(measured, "; "), ids, strings.Join(refused, ", ")), err
}

// plainRefused asks every instance but productpage in plain text, and gives their names: none of them says a word.
func (c *check) plainRefused(ctx context.Context) (names []string, err error) {
	browser := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for _, i := range c.app.list() {
		if i.service == "productpage" {
			continue
		}
		if status, body, err := fetchPage(ctx, browser, "http://"+i.addr+"/health"); err == nil {
			return nil, fmt.Errorf("expected %s to hang up on plain text, found %d %.100s", i.name, status, body)
		}
		names = append(names, i.name)
	}
	return names, nil
}

// identities holds every instance's certificates against its service, and counts them: no two have one.
func (c *check) identities(ctx context.Context) (int, error) {
	of := make(map[string]string)
	for _, i := range c.app.instances {
		var held identity.Secrets
		if err := c.admin(ctx, i.name, "/certs", &held); err != nil {
			return 0, err
		}
		serial, err := judgeSecrets(held, "spiffe://"+trustDomain+"/ns/default/sa/"+i.account())
		if err == nil && of[serial] != "" {
			err = fmt.Errorf("expected a certificate of its own, found that of %s", of[serial])
		}
		if err != nil {
			return 0, fmt.Errorf("/certs of %s: %w", i.name, err)
		}
		of[serial] = i.name
	}
	return len(of), nil
}

// judgeSecrets gives the serial number of a certificate that proves the ID.
func judgeSecrets(held identity.Secrets, id string) (serial string, err error) {
	if len(held.Certificates) != 1 || len(held.Certificates[0].CertChain) == 0 {
		return "", fmt.Errorf("expected a chain of one trust domain, found %+v", held)
	}
	leaf := held.Certificates[0].CertChain[0]
	if len(leaf.Names) != 1 || leaf.Names[0].URI != id || leaf.State != "valid" {
		return "", fmt.Errorf("expected %s, valid, found %+v", id, leaf)
	}
	return leaf.Serial, nil
}
