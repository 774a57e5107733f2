package meshtest_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/heddlemesh/mesh"
	"github.com/heddlemesh/mesh/meshtest"
)

// TestProduction: one of three instances hangs, and no document says anything of that. Readers wait for it at most four
// seconds, and as often as the threshold of ejection has it; then they do not meet it for half a minute. It is said where
// all this comes from.
func TestProduction(t *testing.T) {
	meshtest.Run(t, meshtest.YAML(""), func(t *testing.T, e *meshtest.Env) {
		bad := e.HTTP("reviews:9080", nil, says("fine"))
		e.HTTP("reviews:9080", nil, says("fine"))
		e.HTTP("reviews:9080", nil, says("fine"))
		bad.Inject(meshtest.Hang())
		late := 0
		for range 100 {
			began := time.Now()
			if a := e.Get(reviews); a.Status != http.StatusOK {
				t.Fatalf("status %d", a.Status)
			}
			took := time.Since(began)
			if took >= 4*time.Second {
				late++
			}
			if took > 5*time.Second {
				t.Errorf("a reader waited %v", took)
			}
		}
		if late != 5 {
			t.Errorf("%d readers waited, want the five that the threshold takes", late)
		}
		story := e.Story()
		for _, want := range []string{
			"time-out of 15s over all tries\n", "time-out of 4s of each try, up to its answer's head\n",
			"preset production: timeout 15s, perTryTimeout 4s, retryOn reset\n",
			"outlier detection: out for 30s after 5 times 5xx or no answer in a row; 50 % of the endpoints at most\n",
			"retry budget: 20 % of the requests under way at most, 3 in any case\n",
			"preset production: outlierDetection, retryBudget\n",
		} {
			if !strings.Contains(story, want) {
				t.Errorf("nothing of %q in\n%s", want, story)
			}
		}
		status := e.Mesh().Status()
		if status.Preset != mesh.Production {
			t.Errorf("the status has preset %v", status.Preset)
		}
		for _, c := range status.Clusters {
			if c.Outlier == "" || c.Budget == "" || c.Preset == "" {
				t.Errorf("the status has %+v", c)
			}
		}
	}, meshtest.WithMesh(mesh.WithPreset(mesh.Production)))
}
