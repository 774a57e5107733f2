package jwt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
)

const (
	maxRedirects = 3
	maxDiscovery = 64 << 10 // bytes of an issuer's description
	maxHeader    = 64 << 10 // bytes of an answer's header
)

// fetch gets the keys of a source.
func fetch(ctx context.Context, client *http.Client, s Source) (*KeySet, error) {
	timeout := s.Timeout
	if timeout <= 0 {
		timeout = DefaultFetchTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	uri := s.URI
	if uri == "" {
		text, err := get(ctx, client, s.String(), maxDiscovery)
		if err != nil {
			return nil, fmt.Errorf("ask the issuer: %w", err)
		}
		if uri, err = discovered(text, s); err != nil {
			return nil, fmt.Errorf("ask the issuer: %w", err)
		}
	}
	text, err := get(ctx, client, uri, maxKeySet)
	if err != nil {
		return nil, err
	}
	return parseFetched(text)
}

// discovered reads an issuer's description of itself and gives the URL of its keys (OpenID Connect Discovery 1.0 §3). The
// description has to be of the issuer that was asked (§4.3), and one that came by TLS does not lead to where there is none.
func discovered(text []byte, s Source) (string, error) {
	d, err := parseObject(text)
	if err != nil {
		return "", fmt.Errorf("the description is no JSON object: %w", err)
	}
	if issuer, _ := d["issuer"].(string); issuer != s.Issuer {
		return "", errors.New("the description is of another issuer")
	}
	uri, ok := d["jwks_uri"].(string)
	if !ok {
		return "", errors.New("the description has no jwks_uri")
	}
	keys := Source{URI: uri}
	if err := keys.Check(); err != nil {
		return "", fmt.Errorf("jwks_uri %w", err)
	}
	if keys.Plain() && !s.Plain() {
		return "", errors.New("jwks_uri leads from https to http")
	}
	return uri, nil
}

// get gives the body of an answer, of 200 and of so many bytes at most.
func get(ctx context.Context, client *http.Client, uri string, most int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return nil, errors.New("is no URL")
	}
	req.Header.Set("Accept", "application/json, application/jwk-set+json")
	resp, err := client.Do(req)
	if err != nil {
		return nil, reason(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("answered with status %d", resp.StatusCode)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, most+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the answer: %w", err)
	case int64(len(text)) > most:
		return nil, fmt.Errorf("the answer is larger than %d bytes", most)
	}
	return text, nil
}

// reason leaves the URL out of an error of http.Client: a redirect's may be long, and anybody's.
func reason(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// redirect is http.Client.CheckRedirect: every hop is held to the rules of the first, TLS is not left, and addresses are looked
// at when they are dialled.
func redirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("redirected more than %d times", maxRedirects)
	}
	if err := checkURL(req.URL); err != nil {
		return fmt.Errorf("the redirect %w", err)
	}
	if req.URL.Scheme == "http" && via[len(via)-1].URL.Scheme == "https" {
		return errors.New("the redirect leads from https to http")
	}
	return nil
}
