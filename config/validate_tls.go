package config

import (
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/heddlemesh/mesh/call"
)

// clientTLS checks how connections are secured. The files are not looked at: where the documents are checked they need
// not be. A connection that they are missing for fails, and says so.
func (v *validation) clientTLS(p fieldPath, t *networking.ClientTLSSettings) {
	files := t.GetClientCertificate() != "" || t.GetPrivateKey() != "" || t.GetCaCertificates() != "" || t.GetCaCrl() != ""
	switch t.GetMode() {
	case networking.ClientTLSSettings_DISABLE:
		return
	case networking.ClientTLSSettings_ISTIO_MUTUAL:
		others := slices.DeleteFunc(setFields(t), func(name string) bool { return name == "mode" })
		if len(others) > 0 {
			v.refuse(p, "ISTIO_MUTUAL takes everything from the mesh, but these are set: "+listed(others), "remove them, or write MUTUAL")
		}
		return
	case networking.ClientTLSSettings_MUTUAL:
		if t.GetCredentialName() == "" && (t.GetClientCertificate() == "" || t.GetPrivateKey() == "") {
			v.refuse(p, "MUTUAL has no certificate of its own", "give clientCertificate and privateKey")
		}
	case networking.ClientTLSSettings_SIMPLE:
		if t.GetClientCertificate() != "" || t.GetPrivateKey() != "" {
			v.doubt(p, "SIMPLE shows no certificate: clientCertificate and privateKey have no effect", "write mode: MUTUAL, or remove them")
		}
	}
	if t.GetCredentialName() != "" {
		if files {
			v.refuse(p.at("credentialName"), "credentialName and files of certificates exclude each other", "keep one of them")
		}
		v.unbuilt(p.at("credentialName"), "connections would be made without it; mount the Secret and name its files in "+
			"clientCertificate, privateKey and caCertificates")
	}
	if t.GetInsecureSkipVerify().GetValue() && (t.GetCaCertificates() != "" || t.GetCaCrl() != "" || len(t.GetSubjectAltNames()) > 0) {
		v.refuse(p.at("insecureSkipVerify"), "insecureSkipVerify makes caCertificates, caCrl and subjectAltNames void",
			"remove it, or remove them")
	}
	for _, f := range []struct{ name, file string }{
		{"clientCertificate", t.GetClientCertificate()}, {"privateKey", t.GetPrivateKey()},
		{"caCertificates", t.GetCaCertificates()}, {"caCrl", t.GetCaCrl()},
	} {
		if f.file != call.Printable(f.file) {
			v.refuseValue(p.at(f.name), "has a control character", "write the path of a file")
		}
	}
	v.certificateNames(p.at("subjectAltNames"), t.GetSubjectAltNames())
	if sni := t.GetSni(); sni != "" {
		if problem, _ := checkHost(sni); problem != "" || isWildcard(sni) {
			v.refuseValue(p.at("sni"), "is no name of a server", "write one DNS name")
		}
	}
}

// certificateNames checks what certificates may be for. A name is compared as it stands.
func (v *validation) certificateNames(p fieldPath, names []string) {
	for i, name := range names {
		switch {
		case name == "":
			v.refuseValue(p.at(i), "is no name", "write a DNS name, an address or a URI as in the certificate")
		case strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }):
			v.refuseValue(p.at(i), "has a space or a control character", "write a DNS name, an address or a URI as in the certificate")
		case strings.HasPrefix(name, "*"):
			v.doubt(p.at(i), quoted(name)+" is compared as it stands: it takes certificates that have this very wildcard", "name the hosts")
		}
	}
}
