package jwt

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

const (
	maxKeySet    = 1 << 20
	maxKeys      = 256
	leastRSABits = 2048
	mostRSABits  = 8192 // larger ones burn processor time for nothing
)

// A KeySet is the public keys of an issuer (RFC 7517). It is immutable.
type KeySet struct {
	keys []key
	text []byte // that it was made of
}

type key struct {
	id         string
	algorithms []string // that it may be used with
	public     crypto.PublicKey
}

// jwk is the members of a JSON Web Key that matter (RFC 7517 §4, RFC 7518 §6, RFC 8037 §2).
type jwk struct {
	Kty string  `json:"kty"`
	Kid *string `json:"kid"`
	Use string  `json:"use"`
	Alg string  `json:"alg"`
	Crv string  `json:"crv"`
	N   string  `json:"n"`
	E   string  `json:"e"`
	X   string  `json:"x"`
	Y   string  `json:"y"`
	D   any     `json:"d"` // private, as are the next five
	P   any     `json:"p"`
	Q   any     `json:"q"`
	DP  any     `json:"dp"`
	DQ  any     `json:"dq"`
	QI  any     `json:"qi"`
	K   any     `json:"k"` // symmetric
}

// ParseKeySet reads a JWKS. Keys for encryption and of unknown kinds are passed over. It refuses a set without a key that
// is left, with a private or symmetric key, with a faulty one, and with two of one kid; errors show no part of a key.
func ParseKeySet(text []byte) (*KeySet, error) {
	return parseKeySet(text, func(err error) error { return err })
}

// parseFetched reads a JWKS that an issuer gives: keys that ParseKeySet refuses are passed over, as Envoy does it, so that one
// that is of no use here does not put out the others. Two of one kid are alternatives.
func parseFetched(text []byte) (*KeySet, error) {
	return parseKeySet(text, func(error) error { return nil })
}

// parseKeySet reads a JWKS. faulty hears what is wrong with a key, which is passed over unless it gives an error.
func parseKeySet(text []byte, faulty func(error) error) (*KeySet, error) {
	if len(text) > maxKeySet {
		return nil, fmt.Errorf("the JWKS is larger than %d bytes", maxKeySet)
	}
	if _, err := parseObject(text); err != nil {
		return nil, fmt.Errorf("the JWKS is no JSON object: %w", err)
	}
	var raw struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, errors.New("the JWKS is no object with a list of keys")
	}
	if len(raw.Keys) > maxKeys {
		return nil, fmt.Errorf("the JWKS has more than %d keys", maxKeys)
	}
	s := &KeySet{text: bytes.Clone(text)}
	for i, one := range raw.Keys {
		k, err := parseKey(one)
		if err == nil && k != nil && k.id != "" && slices.ContainsFunc(s.keys, func(o key) bool { return o.id == k.id }) {
			if err = faulty(fmt.Errorf("keys[%d]: its kid is another key's too", i)); err != nil {
				return nil, err
			}
		}
		if err != nil {
			if err = faulty(fmt.Errorf("keys[%d]: %w", i, err)); err != nil {
				return nil, err
			}
			continue
		}
		if k != nil {
			s.keys = append(s.keys, *k)
		}
	}
	if len(s.keys) == 0 {
		return nil, errors.New("the JWKS has no key for signatures")
	}
	return s, nil
}

// Len says how many keys there are.
func (s *KeySet) Len() int { return len(s.keys) }

func parseKey(text []byte) (*key, error) {
	var j jwk
	if err := json.Unmarshal(text, &j); err != nil {
		return nil, errors.New("is no JSON Web Key")
	}
	return j.key()
}

// key makes a key of it, nil where it is none for signatures that we know.
func (j *jwk) key() (*key, error) {
	switch {
	case j.K != nil || j.Kty == "oct":
		return nil, errors.New("a symmetric key: whoever can verify with it can sign")
	case j.D != nil || j.P != nil || j.Q != nil || j.DP != nil || j.DQ != nil || j.QI != nil:
		return nil, errors.New("a private key, which is for nobody but the issuer")
	case j.Use != "" && j.Use != "sig":
		return nil, nil
	}
	k := new(key)
	if j.Kid != nil {
		k.id = *j.Kid
	}
	var err error
	switch j.Kty {
	case "RSA":
		err = k.rsa(j)
	case "EC":
		err = k.ec(j)
	case "OKP":
		if j.Crv != "Ed25519" {
			return nil, nil
		}
		x, bad := member(j.X)
		if bad != nil || len(x) != ed25519.PublicKeySize {
			err = errors.New("x is no point of Ed25519")
		}
		k.public, k.algorithms = ed25519.PublicKey(x), []string{"EdDSA"}
	default:
		return nil, nil
	}
	if err != nil || j.Alg == "" {
		return k, err
	}
	if !slices.Contains(k.algorithms, j.Alg) {
		return nil, errors.New("alg does not go with the kind of key")
	}
	k.algorithms = []string{j.Alg}
	return k, nil
}

func member(s string) ([]byte, error) { return base64.RawURLEncoding.Strict().DecodeString(s) }

func (k *key) rsa(j *jwk) error {
	n, errN := member(j.N)
	e, errE := member(j.E)
	if errN != nil || errE != nil || len(e) == 0 || len(e) > 4 {
		return errors.New("n or e is no number of RSA")
	}
	public := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
	if bits := public.N.BitLen(); bits < leastRSABits || bits > mostRSABits {
		return fmt.Errorf("has %d bits, %d to %d are taken", bits, leastRSABits, mostRSABits)
	}
	if public.E < 3 || public.E%2 == 0 || public.E > 1<<31-1 || public.N.Bit(0) == 0 {
		return errors.New("n or e is no number of RSA")
	}
	k.public, k.algorithms = public, []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}
	return nil
}

func (k *key) ec(j *jwk) error {
	var curve elliptic.Curve
	switch j.Crv {
	case "P-256":
		curve, k.algorithms = elliptic.P256(), []string{"ES256"}
	case "P-384":
		curve, k.algorithms = elliptic.P384(), []string{"ES384"}
	case "P-521":
		curve, k.algorithms = elliptic.P521(), []string{"ES512"}
	default:
		return errors.New("crv is no curve that is known")
	}
	size := (curve.Params().BitSize + 7) / 8
	x, errX := member(j.X)
	y, errY := member(j.Y)
	if errX != nil || errY != nil || len(x) != size || len(y) != size {
		return errors.New("x or y is no coordinate of the curve")
	}
	public, err := ecdsa.ParseUncompressedPublicKey(curve, slices.Concat([]byte{4}, x, y))
	if err != nil {
		return errors.New("x and y are no point of the curve")
	}
	k.public = public
	return nil
}

// Same reports whether two sets are of one text.
func (s *KeySet) Same(o *KeySet) bool { return s != nil && o != nil && bytes.Equal(s.text, o.text) }

// find gives the keys that a token of this kid and algorithm may be signed with: that of the kid, or all where it names
// none.
func (s *KeySet) find(kid string, named bool, algorithm string) []*key {
	var fit []*key
	for i := range s.keys {
		k := &s.keys[i]
		if slices.Contains(k.algorithms, algorithm) && (!named || k.id == kid || k.id == "" && len(s.keys) == 1) {
			fit = append(fit, k)
		}
	}
	return fit
}

// hashes are by the digits of an algorithm's name.
var hashes = map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}

// verify checks a signature (RFC 7518 §3).
func (k *key) verify(algorithm string, input, signature []byte) bool {
	if public, ok := k.public.(ed25519.PublicKey); ok {
		return ed25519.Verify(public, input, signature)
	}
	hash := hashes[algorithm[2:]]
	h := hash.New()
	h.Write(input)
	digest := h.Sum(nil)
	switch public := k.public.(type) {
	case *rsa.PublicKey:
		if algorithm[0] == 'P' {
			return rsa.VerifyPSS(public, hash, digest, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}) == nil
		}
		return rsa.VerifyPKCS1v15(public, hash, digest, signature) == nil
	case *ecdsa.PublicKey:
		size := (public.Curve.Params().BitSize + 7) / 8
		if len(signature) != 2*size {
			return false
		}
		return ecdsa.Verify(public, digest, new(big.Int).SetBytes(signature[:size]), new(big.Int).SetBytes(signature[size:]))
	}
	return false
}
