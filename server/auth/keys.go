package auth

import (
	"crypto"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// Bounds of a key set. A token without kid is tried with every key of its algorithm, so their number bounds
// what one login can cost.
const (
	maxKeys    = 16       // of one algorithm
	maxFiles   = 64       // together
	maxKeyFile = 64 << 10 // bytes
)

// key is one verification key. It is bound to one algorithm when it is read, by what it is and never by
// what a token says: so a public key cannot be taken for the secret of an HMAC.
type key struct {
	id    string // kid; empty for a JWK without one
	alg   string
	value crypto.PublicKey // []byte, ed25519.PublicKey, *rsa.PublicKey or *ecdsa.PublicKey
	file  string
}

// keySet is immutable.
type keySet struct {
	byAlg map[string][]key
}

// loadKeys reads all files or fails with the first that is not good.
//
// The extension says what a file is:
//
//	.key            an HMAC secret for HS256, in the form that ReadSecret describes
//	.pem, .pub      one PEM public key: Ed25519 for EdDSA, RSA for RS256, ECDSA P-256 for ES256
//	.json, .jwks    a JWK set (RFC 7517)
//
// The id of a key is its file's name without the extension, or the kid of the JWK.
func loadKeys(files []string) (*keySet, error) {
	if len(files) == 0 {
		return nil, errors.New("auth: no key file: give at least one, or make one with `gannet token --new-key dev.key`")
	}
	if len(files) > maxFiles {
		return nil, fmt.Errorf("auth: %d key files, at most %d are allowed: remove the old ones", len(files), maxFiles)
	}
	set := &keySet{byAlg: make(map[string][]key, len(algorithms))}
	for _, file := range files {
		keys, err := readKeyFile(file)
		if err != nil {
			return nil, fmt.Errorf("auth: key file %s: %w", file, err)
		}
		for _, k := range keys {
			k.file = file
			if err := set.add(k); err != nil {
				return nil, fmt.Errorf("auth: key file %s: %w", file, err)
			}
		}
	}
	return set, nil
}

func (s *keySet) add(k key) error {
	have := s.byAlg[k.alg]
	if len(have) == maxKeys {
		return fmt.Errorf("more than %d keys for %s: remove the old ones", maxKeys, k.alg)
	}
	if k.id != "" {
		if i := slices.IndexFunc(have, func(h key) bool { return h.id == k.id }); i >= 0 {
			return fmt.Errorf("a second %s key with id %q, the first is in %s: rename the file or change the kid", k.alg, k.id, have[i].file)
		}
	}
	s.byAlg[k.alg] = append(have, k)
	return nil
}

// keysFor is the jwt.Keyfunc: the keys that may have signed t. With a kid these are the key of that id and
// those that have no id; without, all keys of the algorithm.
func (s *keySet) keysFor(t *jwt.Token) (any, error) {
	if _, ok := t.Header["crit"]; ok {
		return nil, refuse("the token needs an extension (crit) that is not supported", nil)
	}
	kid, err := keyID(t)
	if err != nil {
		return nil, err
	}
	alg := t.Method.Alg()
	all := s.byAlg[alg]
	if len(all) == 0 {
		return nil, refuse("the token is signed with "+alg+", for which there is no key", nil)
	}
	set := jwt.VerificationKeySet{Keys: make([]jwt.VerificationKey, 0, len(all))}
	for _, k := range all {
		if kid == "" || k.id == "" || k.id == kid {
			set.Keys = append(set.Keys, k.value)
		}
	}
	if len(set.Keys) == 0 {
		return nil, refuse("the token names a key (kid) that is not known", nil)
	}
	return set, nil
}

func keyID(t *jwt.Token) (string, error) {
	v, ok := t.Header["kid"]
	if !ok {
		return "", nil
	}
	kid, ok := v.(string)
	if !ok {
		return "", refuse("the token's key id (kid) is not a string", nil)
	}
	return kid, nil
}

func (s *keySet) names() []string {
	var names []string
	for _, alg := range algorithms {
		for _, k := range s.byAlg[alg] {
			names = append(names, strings.TrimSpace(alg+" "+k.id))
		}
	}
	return names
}

func readKeyFile(file string) ([]key, error) {
	data, err := readBounded(file)
	if err != nil {
		return nil, err
	}
	base := filepath.Base(file)
	ext := filepath.Ext(base)
	id := strings.TrimSuffix(base, ext)
	switch strings.ToLower(ext) {
	case ".key":
		secret, err := parseSecret(data)
		if err != nil {
			return nil, err
		}
		return []key{{id: id, alg: algHS256, value: secret}}, nil
	case ".pem", ".pub":
		alg, pub, err := parsePEM(data)
		if err != nil {
			return nil, err
		}
		return []key{{id: id, alg: alg, value: pub}}, nil
	case ".json", ".jwks":
		return parseJWKS(data)
	}
	return nil, fmt.Errorf("unknown extension %q: name it .key (HMAC secret), .pem or .pub (public key), .json or .jwks (JWK set)", ext)
}

func readBounded(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxKeyFile {
		return nil, fmt.Errorf("longer than %d bytes: is this the right file?", maxKeyFile)
	}
	return data, nil
}
