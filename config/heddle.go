package config

import (
	"time"

	"go.yaml.in/yaml/v3"
	networking "istio.io/api/networking/v1alpha3"
)

// The mesh's own kinds, for what Istio has in hand-written EnvoyFilters only.

// A rateLimit is a heddle.dev/v1alpha1 RateLimit.
type rateLimit struct {
	APIVersion opaque        `json:"apiVersion"`
	Kind       opaque        `json:"kind"`
	Metadata   opaque        `json:"metadata"`
	Spec       rateLimitSpec `json:"spec"`
}

type rateLimitSpec struct {
	WorkloadSelector *workloadSelector `json:"workloadSelector"`
	Direction        string            `json:"direction"`
	Hosts            []string          `json:"hosts"`
	Limits           []limitSpec       `json:"limits"`
	RateLimitHeaders bool              `json:"rateLimitHeaders"`
	// As in Envoy's local rate limit filter.
	ResourceExhausted bool `json:"rateLimitedAsResourceExhausted"`
}

type limitSpec struct {
	Name     string                         `json:"name"`
	Match    []*networking.HTTPMatchRequest `json:"match"`
	Routes   []string                       `json:"routes"`
	By       []limitKey                     `json:"by"`
	Requests *int32                         `json:"requests"`
	Unit     string                         `json:"unit"`
	Burst    *int32                         `json:"burst"`
	MaxKeys  *int32                         `json:"maxKeys"`
}

// A limitKey is one of these.
type limitKey struct {
	Header        string `json:"header"`
	SourceAddress bool   `json:"sourceAddress"`
	Route         bool   `json:"route"`
	JWTClaim      string `json:"jwtClaim"`
	PeerIdentity  bool   `json:"peerIdentity"`
}

// A resiliencePolicy is a heddle.dev/v1alpha1 ResiliencePolicy.
type resiliencePolicy struct {
	APIVersion opaque               `json:"apiVersion"`
	Kind       opaque               `json:"kind"`
	Metadata   opaque               `json:"metadata"`
	Spec       resiliencePolicySpec `json:"spec"`
}

type resiliencePolicySpec struct {
	WorkloadSelector *workloadSelector `json:"workloadSelector"`
	Hosts            []string          `json:"hosts"`
	CircuitBreaker   *circuitBreaker   `json:"circuitBreaker"`
}

type circuitBreaker struct {
	ConsecutiveFailures *int32 `json:"consecutiveFailures"`
	FailurePercent      *int32 `json:"failurePercent"`
	MinimumRequests     *int32 `json:"minimumRequests"`
	Interval            *span  `json:"interval"`
	OpenFor             *span  `json:"openFor"`
	HalfOpenRequests    *int32 `json:"halfOpenRequests"`
}

// A workloadSelector says whose calls a policy is about; without one those of all workloads of its namespace.
type workloadSelector struct {
	Labels map[string]string `json:"labels"`
}

func (s *workloadSelector) labels() map[string]string {
	if s == nil {
		return nil
	}
	return s.Labels
}

// A span is a duration.
type span time.Duration

func (s *span) read(n *yaml.Node) complaint {
	d, bad := durationValue(n)
	*s = span(d)
	return bad
}

// orElse gives what a pointer holds, or what is taken where nothing is written.
func orElse[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}
