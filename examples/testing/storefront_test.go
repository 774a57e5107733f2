package storefront_test

import (
	"encoding/json"
	"net/http"
	"testing"
	"time"

	storefront "github.com/heddlemesh/mesh/examples/testing"
	"github.com/heddlemesh/mesh/meshtest"
)

var (
	v1 = map[string]string{"version": "v1"}
	v2 = map[string]string{"version": "v2"}
)

// TestDeadInstance: one of two instances is dead, and no visitor notices.
func TestDeadInstance(t *testing.T) {
	meshtest.Run(t, meshtest.Dir("mesh.d"), func(t *testing.T, e *meshtest.Env) {
		e.HTTP("reviews", v1, answer("good"))
		e.HTTP("reviews", v2, answer("good"))
		e.HTTP("ratings", nil, answer(5))
		dead := e.HTTP("ratings", nil, nil)
		dead.Inject(meshtest.RefuseConn())

		shop := storefront.Storefront{Client: e.Client()}
		for range 100 {
			page, err := shop.Page(t.Context(), "1", "lisa")
			if err != nil || page.Stars != 5 {
				t.Fatalf("got %+v, %v", page, err)
			}
		}
	})
}

// TestJasonSeesV2 asks the configuration first, without a call, and then the program.
func TestJasonSeesV2(t *testing.T) {
	meshtest.Run(t, meshtest.Dir("mesh.d"), func(t *testing.T, e *meshtest.Env) {
		e.WantRoute("GET", "http://reviews:9080/reviews/1", "reviews/v2", "end-user: jason")
		e.WantRoute("GET", "http://reviews:9080/reviews/1", "reviews/v1 80%, reviews/v2 20%", "end-user: lisa")

		e.HTTP("reviews", v1, answer("old"))
		e.HTTP("reviews", v2, answer("new"))
		e.HTTP("ratings", nil, answer(5))
		shop := storefront.Storefront{Client: e.Client()}
		page, err := shop.Page(t.Context(), "1", "jason")
		if err != nil || page.Review != "new" {
			t.Errorf("jason got %+v, %v", page, err)
		}
	})
}

// TestCanary: of everybody else, one in five sees v2. The seed is fixed: two runs give the same counts.
func TestCanary(t *testing.T) {
	meshtest.Run(t, meshtest.Dir("mesh.d"), func(t *testing.T, e *meshtest.Env) {
		e.HTTP("reviews", v1, answer("old"))
		e.HTTP("reviews", v2, answer("new"))
		e.Distribution(1000, "http://reviews:9080/reviews/1", map[string]float64{"v1": 0.8, "v2": 0.2}, 0.03)
	})
}

// TestSlowRatings: ratings take half a minute, the page does not. The 30 s are fake time: the test takes
// milliseconds, and that it waited exactly half a second can be asserted.
func TestSlowRatings(t *testing.T) {
	meshtest.Run(t, meshtest.Dir("mesh.d"), func(t *testing.T, e *meshtest.Env) {
		e.HTTP("reviews", v1, answer("good"))
		e.HTTP("reviews", v2, answer("good"))
		ratings := e.HTTP("ratings", nil, answer(5))
		restore := ratings.Inject(meshtest.Delay(30 * time.Second))

		shop := storefront.Storefront{Client: e.Client()}
		began := time.Now()
		page, err := shop.Page(t.Context(), "1", "lisa")
		if err != nil || page.Review != "good" || page.Stars != 0 {
			t.Errorf("got %+v, %v", page, err)
		}
		if took := time.Since(began); took != 500*time.Millisecond {
			t.Errorf("the visitor waited %v", took)
		}

		restore()
		if page, err := shop.Page(t.Context(), "1", "lisa"); err != nil || page.Stars != 5 {
			t.Errorf("with ratings back, got %+v, %v", page, err)
		}
	})
}

// answer is a service that answers everything with one JSON value.
func answer(v any) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(v)
	})
}
