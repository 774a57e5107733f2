package meshtest

import "github.com/heddlemesh/mesh"

// An Option changes how a test's mesh is made. They are applied in order; the last one counts.
type Option interface {
	apply(*settings)
}

type settings struct {
	workload mesh.Workload
	seed     uint64
	mesh     []mesh.Option

	identities bool
	accounts   map[string]string // of instances, by host
}

type option func(*settings)

func (f option) apply(s *settings) { f(s) }

func newSettings(opts []Option) settings {
	s := settings{seed: 1}
	for _, o := range opts {
		if o != nil {
			o.apply(&s)
		}
	}
	if s.workload.Namespace == "" {
		s.workload.Namespace = defaultNamespace
	}
	return s
}

// defaultNamespace is where workloads and documents belong that name none.
const defaultNamespace = "default"

// WithWorkload says who the caller is: which rules it sees and what short names mean to it. Default:
// namespace and service account "default", no labels. [Env.As] gives further callers.
func WithWorkload(w mesh.Workload) Option {
	return option(func(s *settings) { s.workload = w })
}

// WithSeed gives the seed that random choices follow from: weighted splits, balancing, back-off and
// [Percent]. Default: 1.
func WithSeed(seed uint64) Option {
	return option(func(s *settings) { s.seed = seed })
}

// WithMesh gives every mesh of the test further options, mesh.WithStrictConfig or mesh.WithIgnoredKinds
// for example. What meshtest sets itself — configuration, workload, dialer, pass-through, seed, logger —
// it keeps. Default: none.
func WithMesh(opts ...mesh.Option) Option {
	return option(func(s *settings) { s.mesh = append(s.mesh, opts...) })
}
