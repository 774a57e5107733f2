package inject

import (
	"cmp"
	"fmt"
	"regexp"
	"strings"
)

// Options say what is put into workloads. The annotations of a workload count before them.
type Options struct {
	// Image is the sidecar's, with the binary at /heddle. Default: DefaultImage.
	Image string
	// CaptureImage is that of the container which installs the rules, with nft beside the binary. Default: DefaultCaptureImage.
	CaptureImage string
	// ConfigMap has the mesh's documents. Default: DefaultConfigMap.
	ConfigMap string
	// InContainers puts the sidecar among the containers. Default: it is an init container that stays (Kubernetes 1.29), which is there
	// before those of the program, and after them, and does not keep a Job from ending.
	InContainers bool
	// DNS has the sidecar answer the program's DNS queries (docs/transparent.md). Default: it does not, as in Istio.
	DNS bool
	// IdentitySecret is the Secret with the workload's identity, tls.crt, tls.key and ca.crt; "{account}" in it stands for the
	// service account. Default: none.
	IdentitySecret string
	// IdentityCSI is the CSI driver that mounts the SPIFFE Workload API, csi.spiffe.io. Default: none.
	IdentityCSI string
}

// The defaults of Options.
const (
	DefaultImage        = "heddlemesh/heddle"
	DefaultCaptureImage = "heddlemesh/heddle-capture"
	DefaultConfigMap    = "heddle-mesh"
)

var (
	// dnsName is what Kubernetes takes as the name of an object (DNS-1123 subdomain).
	dnsName  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	imageRef = regexp.MustCompile(`^[A-Za-z0-9][-A-Za-z0-9._/:@]*$`)
)

// An OptionError says what is wrong with Options.
type OptionError struct{ err error }

// Error implements error.
func (e *OptionError) Error() string { return e.err.Error() }

func optionError(format string, args ...any) error { return &OptionError{fmt.Errorf(format, args...)} }

// complete gives the options with their defaults, or says what is wrong with them.
func (o Options) complete() (Options, error) {
	o.Image = cmp.Or(o.Image, DefaultImage)
	o.CaptureImage = cmp.Or(o.CaptureImage, DefaultCaptureImage)
	o.ConfigMap = cmp.Or(o.ConfigMap, DefaultConfigMap)
	for _, image := range []string{o.Image, o.CaptureImage} {
		if !imageRef.MatchString(image) {
			return o, optionError("%q is no reference of an image", image)
		}
	}
	for _, name := range []string{o.ConfigMap, strings.ReplaceAll(o.IdentitySecret, "{account}", "x"), o.IdentityCSI} {
		if name != "" && !dnsName.MatchString(name) {
			return o, optionError("%q is no name of Kubernetes", name)
		}
	}
	if o.IdentitySecret != "" && o.IdentityCSI != "" {
		return o, optionError("the Secret %s and the driver %s are two identities: give one", o.IdentitySecret, o.IdentityCSI)
	}
	return o, nil
}
