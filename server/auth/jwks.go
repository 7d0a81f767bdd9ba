package auth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
)

// jwk is one entry of a JWK set (RFC 7517, RFC 7518 section 6, RFC 8037). Numbers are base64url without
// padding, big-endian.
type jwk struct {
	Type   string   `json:"kty"` // oct, OKP, RSA, EC
	ID     string   `json:"kid"`
	Alg    string   `json:"alg"`
	Use    string   `json:"use"`
	Ops    []string `json:"key_ops"`
	Curve  string   `json:"crv"` // Ed25519, P-256
	X      string   `json:"x"`
	Y      string   `json:"y"`
	N      string   `json:"n"` // RSA modulus
	E      string   `json:"e"` // RSA exponent
	Secret string   `json:"k"` // oct
	D      string   `json:"d"` // private part: refused
}

// parseJWKS reads the keys of a JWK set that are for checking signatures by one of our algorithms. Others are
// skipped, since a set usually serves several purposes; a key of ours that is broken or weak, or a private
// one, fails the whole file.
func parseJWKS(data []byte) ([]key, error) {
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("read JWK set: %w", err)
	}
	if set.Keys == nil {
		return nil, errors.New(`holds no JWK set: a single JWK must be wrapped as {"keys":[…]}`)
	}
	var keys []key
	for i, raw := range set.Keys {
		var j jwk
		if err := json.Unmarshal(raw, &j); err != nil {
			return nil, fmt.Errorf("key %d of the JWK set: %w", i+1, err)
		}
		alg := j.algorithm()
		if alg == "" || j.Alg != "" && j.Alg != alg || !j.verifies() {
			continue
		}
		value, err := j.value()
		if err != nil {
			return nil, fmt.Errorf("key %d of the JWK set (kid %q): %w", i+1, j.ID, err)
		}
		keys = append(keys, key{id: j.ID, alg: alg, value: value})
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("none of its %d keys is for %s", len(set.Keys), strings.Join(algorithms, ", "))
	}
	return keys, nil
}

// algorithm follows from the type of the key alone; empty when it is for none of ours.
func (j *jwk) algorithm() string {
	switch {
	case j.Type == "oct":
		return algHS256
	case j.Type == "RSA":
		return algRS256
	case j.Type == "OKP" && j.Curve == "Ed25519":
		return algEdDSA
	case j.Type == "EC" && j.Curve == "P-256":
		return algES256
	}
	return ""
}

// verifies says that nothing in the entry speaks against checking signatures with it.
func (j *jwk) verifies() bool {
	if j.Use != "" && j.Use != "sig" {
		return false
	}
	if len(j.Ops) == 0 {
		return true
	}
	for _, op := range j.Ops {
		if op == "verify" {
			return true
		}
	}
	return false
}

func (j *jwk) value() (crypto.PublicKey, error) {
	if j.D != "" {
		return nil, errors.New("is a private key, the server needs only the public part: remove d and what else is private")
	}
	switch j.Type {
	case "oct":
		secret, err := jwkBytes("k", j.Secret)
		if err != nil {
			return nil, err
		}
		return secret, checkSecret(secret)
	case "OKP":
		x, err := jwkBytes("x", j.X)
		if err != nil {
			return nil, err
		}
		if len(x) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("x has %d bytes, an Ed25519 key has %d", len(x), ed25519.PublicKeySize)
		}
		return ed25519.PublicKey(x), nil
	case "RSA":
		return j.rsaKey()
	}
	return j.ecKey()
}

func (j *jwk) rsaKey() (crypto.PublicKey, error) {
	n, err := jwkBytes("n", j.N)
	if err != nil {
		return nil, err
	}
	e, err := jwkBytes("e", j.E)
	if err != nil {
		return nil, err
	}
	exponent := new(big.Int).SetBytes(e)
	if !exponent.IsInt64() || exponent.Int64() > math.MaxInt32 {
		return nil, errors.New("the RSA exponent is too large: use a key with exponent 65537")
	}
	pub := &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())}
	_, err = algorithmOf(pub)
	return pub, err
}

func (j *jwk) ecKey() (crypto.PublicKey, error) {
	x, err := jwkBytes("x", j.X)
	if err != nil {
		return nil, err
	}
	y, err := jwkBytes("y", j.Y)
	if err != nil {
		return nil, err
	}
	const size = 32 // of a coordinate on P-256
	if len(x) != size || len(y) != size {
		return nil, fmt.Errorf("x and y have %d and %d bytes, on P-256 both have %d", len(x), len(y), size)
	}
	point := append(append([]byte{4}, x...), y...) // SEC 1, section 2.3.4: uncompressed
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return nil, fmt.Errorf("read point: %w", err)
	}
	return pub, nil
}

func jwkBytes(name, s string) ([]byte, error) {
	if s == "" {
		return nil, fmt.Errorf("%s is missing", name)
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, fmt.Errorf("%s is not base64url without padding: %w", name, err)
	}
	return b, nil
}
