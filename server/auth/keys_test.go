package auth

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/golang-jwt/jwt/v5"

	"gannet/codec"
)

// material is one key of each kind, made once: RSA keys take long.
type material struct {
	secret []byte
	ed     ed25519.PrivateKey
	rsa    *rsa.PrivateKey
	ec     *ecdsa.PrivateKey
}

var testMaterial = sync.OnceValue(newMaterial)

func newMaterial() material {
	var m material
	var err error
	m.secret = make([]byte, 32)
	_, _ = rand.Read(m.secret)
	m.secret[0] = 0xff // never valid UTF-8, so a raw file is never taken for text
	if _, m.ed, err = ed25519.GenerateKey(rand.Reader); err != nil {
		panic(err)
	}
	if m.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		panic(err)
	}
	if m.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		panic(err)
	}
	return m
}

func publicPEM(t testing.TB, pub crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func writeFile(t testing.TB, dir, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func sign(t testing.TB, method jwt.SigningMethod, header map[string]any, c jwt.MapClaims, key any) []byte {
	t.Helper()
	token := jwt.NewWithClaims(method, c)
	for k, v := range header {
		token.Header[k] = v
	}
	s, err := token.SignedString(key)
	if err != nil {
		t.Fatal(err)
	}
	return []byte(s)
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// jwkOf is the public JWK of a key, or the secret one of a []byte.
func jwkOf(t testing.TB, kid string, key any) map[string]any {
	t.Helper()
	j := map[string]any{}
	if kid != "" {
		j["kid"] = kid
	}
	switch k := key.(type) {
	case []byte:
		j["kty"], j["k"] = "oct", b64(k)
	case ed25519.PublicKey:
		j["kty"], j["crv"], j["x"] = "OKP", "Ed25519", b64(k)
	case *rsa.PublicKey:
		j["kty"], j["n"], j["e"] = "RSA", b64(k.N.Bytes()), b64(big.NewInt(int64(k.E)).Bytes())
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		j["kty"], j["crv"], j["x"], j["y"] = "EC", "P-256", b64(point[1:33]), b64(point[33:])
	default:
		t.Fatalf("no JWK for %T", key)
	}
	return j
}

func jwks(t testing.TB, keys ...map[string]any) []byte {
	t.Helper()
	data, err := json.Marshal(map[string]any{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// with returns a copy of j with one member changed; nil removes it.
func with(j map[string]any, name string, value any) map[string]any {
	c := map[string]any{}
	for k, v := range j {
		c[k] = v
	}
	if c[name] = value; value == nil {
		delete(c, name)
	}
	return c
}

// accepts says whether a token is accepted, and fails when it is refused with anything but CodeUnauthorized.
func accepts(t testing.TB, j *JWT, token []byte) bool {
	t.Helper()
	_, err := j.Authenticate(context.Background(), Request{Token: token})
	if err == nil {
		return true
	}
	var refused *Error
	if !errors.As(err, &refused) || refused.Code != codec.CodeUnauthorized {
		t.Fatalf("refused with %v, want an *Error with %v", err, codec.CodeUnauthorized)
	}
	return false
}

// signers are the four algorithms with the private and the public half of the shared test keys.
func signers() []struct {
	method       jwt.SigningMethod
	private, pub any
} {
	m := testMaterial()
	return []struct {
		method       jwt.SigningMethod
		private, pub any
	}{
		{jwt.SigningMethodHS256, m.secret, m.secret},
		{jwt.SigningMethodEdDSA, m.ed, m.ed.Public()},
		{jwt.SigningMethodRS256, m.rsa, m.rsa.Public()},
		{jwt.SigningMethodES256, m.ec, m.ec.Public()},
	}
}

func keyFileFor(t testing.TB, dir, name string, pub any) string {
	t.Helper()
	if secret, ok := pub.([]byte); ok {
		return writeFile(t, dir, name+".key", secret)
	}
	return writeFile(t, dir, name+".pem", publicPEM(t, pub))
}

func TestEveryAlgorithmFromFileAndFromJWKS(t *testing.T) {
	for _, s := range signers() {
		t.Run(s.method.Alg(), func(t *testing.T) {
			dir := t.TempDir()
			token := sign(t, s.method, nil, goodClaims(), s.private)
			for _, file := range []string{
				keyFileFor(t, dir, "a", s.pub),
				writeFile(t, dir, "with-kid.json", jwks(t, jwkOf(t, "a", s.pub))),
				writeFile(t, dir, "without-kid.jwks", jwks(t, jwkOf(t, "", s.pub))),
			} {
				j := mustJWT(t, JWTConfig{KeyFiles: []string{file}})
				if !accepts(t, j, token) {
					t.Errorf("%s: a good token was refused", filepath.Base(file))
				}
				forged := append([]byte(nil), token...)
				forged[len(forged)-10] ^= 1
				if accepts(t, j, forged) {
					t.Errorf("%s: a token with a changed signature was accepted", filepath.Base(file))
				}
			}
		})
	}
}

// A public key is known to everybody. Whoever signs with it as if it were an HMAC secret must be refused, in
// whatever form the bytes of the key are used.
func TestPublicKeyIsNeverASecret(t *testing.T) {
	for _, s := range signers()[1:] {
		t.Run(s.method.Alg(), func(t *testing.T) {
			dir := t.TempDir()
			text := publicPEM(t, s.pub)
			block, _ := pem.Decode(text)
			file := writeFile(t, dir, "a.pem", text)
			set := writeFile(t, dir, "a.json", jwks(t, jwkOf(t, "b", s.pub)))
			other := make([]byte, 32) // an HMAC key is configured as well, so HS256 is a known algorithm
			other[0] = 0xff
			secret := writeFile(t, dir, "c.key", other)
			j := mustJWT(t, JWTConfig{KeyFiles: []string{file, set, secret}})
			forms := map[string][]byte{
				"PEM": text, "PEM without newline": []byte(strings.TrimSpace(string(text))), "DER": block.Bytes,
			}
			switch k := s.pub.(type) {
			case ed25519.PublicKey:
				forms["raw"] = k
			case *rsa.PublicKey:
				forms["modulus"] = k.N.Bytes()
			}
			for form, bytes := range forms {
				for _, kid := range []map[string]any{nil, {"kid": "a"}, {"kid": "b"}, {"kid": "c"}} {
					if accepts(t, j, sign(t, jwt.SigningMethodHS256, kid, goodClaims(), bytes)) {
						t.Errorf("HS256 with the %s of the public key was accepted (header %v)", form, kid)
					}
				}
				if form == "raw" || form == "modulus" { // plain bytes: nothing tells them from a secret
					continue
				}
				if _, err := NewJWT(JWTConfig{KeyFiles: []string{writeFile(t, dir, "public.key", bytes)}}); err == nil {
					t.Errorf("the %s of a public key was accepted as a .key file", form)
				}
			}
			if !accepts(t, j, sign(t, s.method, nil, goodClaims(), s.private)) {
				t.Error("the real key was refused")
			}
		})
	}
}

// The library would refuse a key of the wrong type as well; the set does not even offer it.
func TestKeysAreBoundToTheirAlgorithm(t *testing.T) {
	dir := t.TempDir()
	var files []string
	for _, s := range signers() {
		files = append(files, keyFileFor(t, dir, s.method.Alg(), s.pub))
	}
	set, err := loadKeys(files)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range signers() {
		got, err := set.keysFor(&jwt.Token{Method: s.method, Header: map[string]any{}})
		if err != nil {
			t.Fatal(err)
		}
		keys := got.(jwt.VerificationKeySet).Keys
		if len(keys) != 1 || fmt.Sprintf("%T", keys[0]) != fmt.Sprintf("%T", s.pub) {
			t.Errorf("%s: keys of types %T", s.method.Alg(), keys)
		}
	}
}

// A JWK without kid may be the one that a kid means.
func TestKeyWithoutIDIsTriedForEveryKeyID(t *testing.T) {
	m := testMaterial()
	j := mustJWT(t, JWTConfig{KeyFiles: []string{writeFile(t, t.TempDir(), "a.json", jwks(t, jwkOf(t, "", m.ed.Public())))}})
	if !accepts(t, j, sign(t, jwt.SigningMethodEdDSA, map[string]any{"kid": "x"}, goodClaims(), m.ed)) {
		t.Error("refused")
	}
}

func TestKeyIDSelects(t *testing.T) {
	dir := t.TempDir()
	one, two := newMaterial().ed, newMaterial().ed
	j := mustJWT(t, JWTConfig{KeyFiles: []string{
		writeFile(t, dir, "one.pub", publicPEM(t, one.Public())),
		writeFile(t, dir, "two.pub", publicPEM(t, two.Public())),
	}})
	for _, c := range []struct {
		name string
		kid  any
		key  ed25519.PrivateKey
		want bool
	}{
		{"no kid, first key", nil, one, true},
		{"no kid, second key", nil, two, true},
		{"no kid, unknown key", nil, newMaterial().ed, false},
		{"kid of the key", "two", two, true},
		{"kid of the other key", "one", two, false},
		{"unknown kid", "three", one, false},
		{"kid is no string", 1, one, false},
		{"kid looks like a path", "../one", one, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			header := map[string]any{}
			if c.kid != nil {
				header["kid"] = c.kid
			}
			if got := accepts(t, j, sign(t, jwt.SigningMethodEdDSA, header, goodClaims(), c.key)); got != c.want {
				t.Errorf("accepted %v, want %v", got, c.want)
			}
		})
	}
	if got, want := fmt.Sprint(j.Keys()), "[EdDSA one EdDSA two]"; got != want {
		t.Errorf("Keys() = %s, want %s", got, want)
	}
}

func TestRotation(t *testing.T) {
	dir := t.TempDir()
	older, newer := newMaterial(), newMaterial()
	oldToken := sign(t, jwt.SigningMethodHS256, nil, goodClaims(), older.secret)
	newToken := sign(t, jwt.SigningMethodEdDSA, nil, goodClaims(), newer.ed)
	set := func(keys ...any) []byte {
		var list []map[string]any
		for i, k := range keys {
			list = append(list, jwkOf(t, fmt.Sprint("k", i), k))
		}
		return jwks(t, list...)
	}
	file := writeFile(t, dir, "keys.json", set(older.secret))
	j := mustJWT(t, JWTConfig{KeyFiles: []string{file}})
	steps := []struct {
		name     string
		content  []byte
		fails    bool
		old, new bool
	}{
		{"first key", set(older.secret), false, true, false},
		{"both", set(older.secret, newer.ed.Public()), false, true, true},
		{"broken file keeps both", []byte("{"), true, true, true},
		{"empty file keeps both", nil, true, true, true},
		{"second key", set(newer.ed.Public()), false, false, true},
	}
	for _, s := range steps {
		writeFile(t, dir, "keys.json", s.content)
		err := j.Reload()
		if (err != nil) != s.fails {
			t.Fatalf("%s: Reload: %v", s.name, err)
		}
		if err != nil && !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %q does not name the file", s.name, err)
		}
		if got := accepts(t, j, oldToken); got != s.old {
			t.Errorf("%s: old token accepted: %v, want %v", s.name, got, s.old)
		}
		if got := accepts(t, j, newToken); got != s.new {
			t.Errorf("%s: new token accepted: %v, want %v", s.name, got, s.new)
		}
	}
}

func TestReloadDuringChecks(t *testing.T) {
	m := testMaterial()
	j := mustJWT(t, JWTConfig{KeyFiles: []string{writeFile(t, t.TempDir(), "a.key", m.secret)}})
	token := sign(t, jwt.SigningMethodHS256, nil, goodClaims(), m.secret)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 50 {
				if !accepts(t, j, token) {
					t.Error("refused during Reload")
				}
				if err := j.Reload(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestSecretFileForms(t *testing.T) {
	secret := testMaterial().secret
	std := base64.StdEncoding.EncodeToString(secret)
	passphrase := strings.Repeat("pässword ", 4) + "!"
	for _, c := range []struct {
		name, content string
		want          string // empty: refused
	}{
		{"raw", string(secret), string(secret)},
		{"raw with a newline at the end", string(secret) + "\n", string(secret) + "\n"},
		{"hex", "hex:" + hex.EncodeToString(secret), string(secret)},
		{"hex, upper case, newline", "hex:" + strings.ToUpper(hex.EncodeToString(secret)) + "\n", string(secret)},
		{"base64", "base64:" + std + "\n", string(secret)},
		{"base64url without padding", "base64:" + b64(secret) + "\r\n", string(secret)},
		{"text", "text:" + passphrase + "\n", passphrase},
		{"hex without prefix", hex.EncodeToString(secret), ""},
		{"base64 without prefix", std + "\n", ""},
		{"words", passphrase, ""},
		{"hex with rubbish", "hex:" + strings.Repeat("zz", 32), ""},
		{"base64 with rubbish", "base64:" + strings.Repeat("?", 44), ""},
		{"base64 with bits left over", "base64:" + strings.Repeat("A", 42) + "B", ""},
		{"31 bytes raw", string(secret[:31]), ""},
		{"31 bytes of hex", "hex:" + hex.EncodeToString(secret[:31]), ""},
		{"31 bytes of text", "text:" + strings.Repeat("a", 31), ""},
		{"empty", "", ""},
		{"a public key in base64", "base64:" + derBase64(t), ""},
		{"SSH key", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8+2kyK user", ""},
		{"JSON", `{"keys":[{"kty":"oct","k":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}]}`, ""},
		{"too long", strings.Repeat("\xff", maxKeyFile+1), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := writeFile(t, t.TempDir(), "a.key", []byte(c.content))
			got, err := ReadSecret(file)
			if c.want == "" {
				if err == nil {
					t.Fatalf("accepted as %d bytes", len(got))
				}
				if got != nil || !strings.Contains(err.Error(), file) {
					t.Errorf("ReadSecret = %d bytes, %q: want none and the name of the file", len(got), err)
				}
				return
			}
			if err != nil || string(got) != c.want {
				t.Errorf("ReadSecret = %q, %v, want %q", got, err, c.want)
			}
		})
	}
}

func TestDERIsNoSecret(t *testing.T) {
	m := testMaterial()
	must := func(der []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	for form, der := range map[string][]byte{
		"PKIX Ed25519":   must(x509.MarshalPKIXPublicKey(m.ed.Public())),
		"PKCS1 public":   x509.MarshalPKCS1PublicKey(&m.rsa.PublicKey),
		"certificate":    must(x509.CreateCertificate(rand.Reader, template, template, m.ed.Public(), m.ed)),
		"PKCS8 private":  must(x509.MarshalPKCS8PrivateKey(m.ed)),
		"PKCS1 private":  x509.MarshalPKCS1PrivateKey(m.rsa),
		"SEC 1 private":  must(x509.MarshalECPrivateKey(m.ec)),
		"PKIX in base64": []byte("base64:" + base64.StdEncoding.EncodeToString(must(x509.MarshalPKIXPublicKey(m.ec.Public())))),
	} {
		if _, err := ReadSecret(writeFile(t, t.TempDir(), "a.key", der)); err == nil || !strings.Contains(err.Error(), "DER") {
			t.Errorf("%s: %v", form, err)
		}
	}
	// A secret that begins like DER is a secret all the same.
	if _, err := ReadSecret(writeFile(t, t.TempDir(), "a.key", append([]byte{0x30, 0x82}, m.secret...))); err != nil {
		t.Error(err)
	}
}

func derBase64(t *testing.T) string {
	block, _ := pem.Decode(publicPEM(t, testMaterial().ec.Public()))
	return base64.StdEncoding.EncodeToString(block.Bytes)
}
