package jwt_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
)

// signers has a private key for each algorithm's family, made once.
var signers = sync.OnceValue(func() map[string]crypto.Signer {
	rsaKey, err1 := rsa.GenerateKey(rand.Reader, 2048)
	p256, err2 := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	p384, err3 := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	p521, err4 := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	_, ed, err5 := ed25519.GenerateKey(rand.Reader)
	for _, err := range []error{err1, err2, err3, err4, err5} {
		if err != nil {
			panic(err)
		}
	}
	return map[string]crypto.Signer{"RS": rsaKey, "PS": rsaKey, "ES256": p256, "ES384": p384, "ES512": p521, "EdDSA": ed}
})

func signerOf(alg string) crypto.Signer {
	if s := signers()[alg]; s != nil {
		return s
	}
	return signers()[alg[:2]]
}

var hashOf = map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// sign signs header and payload as they are.
func sign(t testing.TB, alg, header, payload string) string {
	t.Helper()
	input := b64([]byte(header)) + "." + b64([]byte(payload))
	return input + "." + b64(signature(t, alg, input))
}

func signature(t testing.TB, alg, input string) []byte {
	t.Helper()
	signer := signerOf(alg)
	if alg == "EdDSA" {
		return ed25519.Sign(signer.(ed25519.PrivateKey), []byte(input))
	}
	hash := hashOf[alg[2:]]
	h := hash.New()
	h.Write([]byte(input))
	digest := h.Sum(nil)
	var sig []byte
	var err error
	switch alg[:2] {
	case "RS":
		sig, err = rsa.SignPKCS1v15(nil, signer.(*rsa.PrivateKey), hash, digest)
	case "PS":
		sig, err = rsa.SignPSS(rand.Reader, signer.(*rsa.PrivateKey), hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	default:
		key := signer.(*ecdsa.PrivateKey)
		var r, s *big.Int
		r, s, err = ecdsa.Sign(rand.Reader, key, digest)
		size := (key.Params().BitSize + 7) / 8
		sig = append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
	}
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

// publicJWK writes the public half of a key, with members more.
func publicJWK(key crypto.Signer, more string) string {
	switch p := key.Public().(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf(`{"kty":"RSA","n":%q,"e":"AQAB"%s}`, b64(p.N.Bytes()), more)
	case *ecdsa.PublicKey:
		point, err := p.Bytes()
		if err != nil {
			panic(err)
		}
		half := len(point) / 2
		return fmt.Sprintf(`{"kty":"EC","crv":%q,"x":%q,"y":%q%s}`, p.Params().Name, b64(point[1:1+half]), b64(point[1+half:]), more)
	case ed25519.PublicKey:
		return fmt.Sprintf(`{"kty":"OKP","crv":"Ed25519","x":%q%s}`, b64(p), more)
	}
	panic("no key")
}

func jwks(keys ...string) string { return `{"keys":[` + strings.Join(keys, ",") + `]}` }

// claims writes a payload of the usual claims, some of them changed; a nil one is left out.
func claims(now int64, changes map[string]any) string {
	all := map[string]any{"iss": "https://issuer.example", "sub": "alice", "aud": []string{"web", "api"}, "exp": now + 600, "iat": now}
	for k, v := range changes {
		if all[k] = v; v == nil {
			delete(all, k)
		}
	}
	b, err := json.Marshal(all)
	if err != nil {
		panic(err)
	}
	return string(b)
}
