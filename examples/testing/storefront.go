package storefront

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// A Storefront makes product pages out of two services. It knows nothing of the mesh but the names
// "reviews" and "ratings": its Client does, which is mesh.Mesh.Client in production and
// meshtest.Env.Client in tests.
type Storefront struct {
	Client *http.Client
}

// A Page is what one visitor sees of a product.
type Page struct {
	Review string
	Stars  int // 0 where ratings did not answer in time
}

// patience is how long a page waits for its stars: a page without them is better than a late one.
const patience = 500 * time.Millisecond

// Page makes the page of a product for a visitor. Without reviews there is no page; ratings may be missing.
func (s *Storefront) Page(ctx context.Context, product, visitor string) (Page, error) {
	var page Page
	if err := s.get(ctx, "http://reviews:9080/reviews/"+product, visitor, &page.Review); err != nil {
		return Page{}, fmt.Errorf("make page of %s: %w", product, err)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := s.get(ctx, "http://ratings:9080/ratings/"+product, visitor, &page.Stars)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return Page{}, fmt.Errorf("make page of %s: %w", product, err)
	}
	return page, nil
}

// get fetches a JSON document on behalf of the visitor.
func (s *Storefront) get(ctx context.Context, url, visitor string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("end-user", visitor)
	resp, err := s.Client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("get %s: %s", url, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}
