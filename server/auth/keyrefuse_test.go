package auth

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
)

func TestKeyFilesRefused(t *testing.T) {
	m := testMaterial()
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(m.ed)
	if err != nil {
		t.Fatal(err)
	}
	ed := publicPEM(t, m.ed.Public())
	weak := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 1023, 1), E: 65537}
	for _, c := range []struct {
		name, file string
		content    []byte
		says       string // a part of the error
	}{
		{"unknown extension", "a.txt", ed, "unknown extension"},
		{"no extension", "a", ed, "unknown extension"},
		{"private key", "a.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), "-pubout"},
		{"private key behind a public one", "a.pem", append(ed[:len(ed):len(ed)], pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY"})...), "-pubout"},
		{"two public keys", "a.pem", append(ed[:len(ed):len(ed)], ed...), "file of its own"},
		{"certificate", "a.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte{1}}), "openssl x509"},
		{"other PEM", "a.pem", pem.EncodeToMemory(&pem.Block{Type: "OTHER", Bytes: []byte{1}}), "OTHER"},
		{"no PEM", "a.pub", []byte("ssh-ed25519 AAAA"), "no PEM block"},
		{"broken PEM", "a.pub", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte{1, 2}}), "read public key"},
		{"P-384", "a.pem", publicPEM(t, p384.Public()), "use P-256"},
		{"RSA of 1024 bits", "a.pem", publicPEM(t, weak), "1024 bits"},
		{"public key as a secret", "a.key", ed, "name the public key .pem"},
		{"not a JWK set", "a.json", []byte(`[]`), "read JWK set"},
		{"a single JWK", "a.json", []byte(`{"kty":"oct"}`), `{"keys":[…]}`},
	} {
		t.Run(c.name, func(t *testing.T) { refusesFile(t, c.file, c.content, c.says) })
	}
}

func TestJWKSRefused(t *testing.T) {
	m := testMaterial()
	oct, okp := jwkOf(t, "a", m.secret), jwkOf(t, "a", m.ed.Public())
	rsaKey, ec := jwkOf(t, "a", m.rsa.Public()), jwkOf(t, "a", m.ec.Public())
	for _, c := range []struct {
		name string
		key  map[string]any
		says string
	}{
		{"short secret", jwkOf(t, "a", m.secret[:31]), "31 bytes"},
		{"no secret", with(oct, "k", nil), "k is missing"},
		{"secret in standard base64", with(oct, "k", strings.Repeat("+", 43)+"="), "base64url"},
		{"private OKP", with(okp, "d", "AAAA"), "private"},
		{"private RSA", with(rsaKey, "d", "AAAA"), "private"},
		{"private EC", with(ec, "d", "AAAA"), "private"},
		{"short Ed25519", with(okp, "x", b64(make([]byte, 31))), "31 bytes"},
		{"OKP without x", with(okp, "x", nil), "x is missing"},
		{"RSA of 1024 bits", with(rsaKey, "n", b64(new(big.Int).SetBit(big.NewInt(1), 1023, 1).Bytes())), "1024 bits"},
		{"RSA of 16384 bits", with(rsaKey, "n", b64(new(big.Int).SetBit(big.NewInt(1), 16383, 1).Bytes())), "16384 bits"},
		{"RSA without n", with(rsaKey, "n", nil), "n is missing"},
		{"RSA without e", with(rsaKey, "e", nil), "e is missing"},
		{"RSA with exponent 1", with(rsaKey, "e", b64([]byte{1})), "exponent 1"},
		{"RSA with an even exponent", with(rsaKey, "e", b64([]byte{4})), "exponent 4"},
		{"RSA with a huge exponent", with(rsaKey, "e", b64(bytes.Repeat([]byte{0xff}, 9))), "exponent is too large"},
		{"EC without y", with(ec, "y", nil), "y is missing"},
		{"EC with a short x", with(ec, "x", b64(make([]byte, 31))), "31 and 32 bytes"},
		{"EC not on the curve", with(ec, "x", b64(make([]byte, 32))), "read point"},
		{"wrong type of member", with(oct, "kid", 1), "key 1 of the JWK set"},
		{"for encryption only", with(okp, "use", "enc"), "none of its 1 keys"},
		{"for signing only", with(okp, "key_ops", []string{"sign"}), "none of its 1 keys"},
		{"another algorithm", with(rsaKey, "alg", "RS512"), "none of its 1 keys"},
		{"alg of another type", with(rsaKey, "alg", "HS256"), "none of its 1 keys"},
		{"another curve", with(ec, "crv", "P-384"), "none of its 1 keys"},
		{"another type", with(ec, "kty", "AKP"), "none of its 1 keys"},
	} {
		t.Run(c.name, func(t *testing.T) { refusesFile(t, "a.json", jwks(t, c.key), c.says) })
	}
}

func refusesFile(t *testing.T, name string, content []byte, says string) {
	t.Helper()
	file := writeFile(t, t.TempDir(), name, content)
	j, err := NewJWT(JWTConfig{KeyFiles: []string{file}})
	if err == nil || j != nil {
		t.Fatal("accepted")
	}
	if !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), says) {
		t.Errorf("error %q names not both %q and %q", err, filepath.Base(file), says)
	}
}

// What a set holds for others is no reason to refuse what it holds for us.
func TestJWKSSkipsWhatIsForOthers(t *testing.T) {
	m := testMaterial()
	okp := jwkOf(t, "ours", m.ed.Public())
	set := jwks(t,
		map[string]any{"kty": "AKP", "kid": "future"},
		with(with(okp, "kid", "theirs"), "use", "enc"),
		with(with(with(okp, "use", "sig"), "alg", "EdDSA"), "key_ops", []string{"verify"}),
	)
	j := mustJWT(t, JWTConfig{KeyFiles: []string{writeFile(t, t.TempDir(), "a.jwks", set)}})
	if got := fmt.Sprint(j.Keys()); got != "[EdDSA ours]" {
		t.Errorf("Keys() = %s", got)
	}
}

func TestKeySetBounds(t *testing.T) {
	dir := t.TempDir()
	file := func(name string, secret ...byte) string {
		return writeFile(t, dir, name, append(make([]byte, 31), secret...))
	}
	many := func(n int) (files []string) {
		for i := range n {
			files = append(files, file(fmt.Sprintf("%d.key", i), 0xff))
		}
		return files
	}
	if _, err := NewJWT(JWTConfig{KeyFiles: many(maxKeys)}); err != nil {
		t.Errorf("%d keys: %v", maxKeys, err)
	}
	sub := filepath.Join(t.TempDir(), "missing.key")
	for _, c := range []struct {
		name  string
		files []string
		says  string
	}{
		{"no file", nil, "no key file"},
		{"missing file", []string{sub}, sub},
		{"one key too many", many(maxKeys + 1), "more than 16 keys"},
		{"too many files", many(maxFiles + 1), "65 key files"},
		{"same id twice", []string{file("a.key", 0xff), file("a.KEY", 0xff)}, `a second HS256 key with id "a"`},
	} {
		if _, err := NewJWT(JWTConfig{KeyFiles: c.files}); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v, want one that says %q", c.name, err, c.says)
		}
	}
	// The same id for two algorithms is no conflict: the algorithm of the token decides.
	pub := writeFile(t, dir, "a.pub", publicPEM(t, ed25519.PublicKey(testMaterial().ed.Public().(ed25519.PublicKey))))
	if _, err := NewJWT(JWTConfig{KeyFiles: []string{file("a.key", 0xff), pub}}); err != nil {
		t.Errorf("same id, two algorithms: %v", err)
	}
}
