package auth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	minSecret  = 32   // bytes, the size of the hash (RFC 7518, section 3.2)
	minRSABits = 2048 // RFC 7518, section 3.3
	maxRSABits = 8192 // checking a signature by a longer key would be a way to keep a server busy
)

// ReadSecret reads an HMAC secret for HS256, at least 32 bytes, from a file whose name should end in .key:
//
//   - A file that begins with "hex:", "base64:" or "text:" is text: white space at its end is dropped and the rest
//     is decoded, base64 in either alphabet with or without padding, text as it stands.
//   - Any other file that is readable text is refused, because nothing says whether the characters or what they
//     encode is the secret.
//   - Every other file is the secret itself, to the last byte.
//
// Private and public keys, certificates and JSON are refused in every form: a file that others may know must
// never become a secret.
func ReadSecret(file string) ([]byte, error) {
	data, err := readBounded(file)
	if err != nil {
		return nil, fmt.Errorf("auth: key file %s: %w", file, err)
	}
	secret, err := parseSecret(data)
	if err != nil {
		return nil, fmt.Errorf("auth: key file %s: %w", file, err)
	}
	return secret, nil
}

func parseSecret(data []byte) ([]byte, error) {
	// The file itself is looked at as well: PEM is text, and would be refused with a reason that leads astray.
	if err := notAKey(data); err != nil {
		return nil, err
	}
	secret, err := decodeSecret(data)
	if err != nil {
		return nil, err
	}
	return secret, checkSecret(secret)
}

func checkSecret(secret []byte) error {
	if len(secret) < minSecret {
		return fmt.Errorf("the secret has %d bytes, at least %d are needed: make one with `gannet token --new-key FILE`", len(secret), minSecret)
	}
	return notAKey(secret)
}

func decodeSecret(data []byte) ([]byte, error) {
	encoding, rest, found := strings.Cut(string(data), ":")
	rest = strings.TrimRight(rest, " \t\r\n")
	switch {
	case found && encoding == "hex":
		secret, err := hex.DecodeString(rest)
		if err != nil {
			return nil, fmt.Errorf("what follows \"hex:\" is not hexadecimal: %w", err)
		}
		return secret, nil
	case found && encoding == "base64":
		secret, err := decodeBase64(rest)
		if err != nil {
			return nil, fmt.Errorf("what follows \"base64:\" is not base64: %w", err)
		}
		return secret, nil
	case found && encoding == "text":
		return []byte(rest), nil
	case isText(data):
		return nil, errors.New("is text that does not say how it is to be read: put hex:, base64: or text: in front of it")
	}
	return data, nil
}

// decodeBase64 takes both alphabets, with and without padding.
func decodeBase64(s string) ([]byte, error) {
	s = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(s, "="))
	return base64.RawStdEncoding.Strict().DecodeString(s)
}

func isText(data []byte) bool {
	control := func(r rune) bool { return r < 0x20 && r != '\t' && r != '\r' && r != '\n' || r == 0x7f }
	return utf8.Valid(data) && bytes.IndexFunc(data, control) < 0
}

// notAKey refuses what is certainly no secret: other kinds of keys and JSON.
func notAKey(data []byte) error {
	trimmed := bytes.TrimSpace(data)
	switch {
	case bytes.Contains(data, []byte("-----BEGIN ")):
		return errors.New("holds PEM, which is no HMAC secret: name the public key .pem or .pub")
	case bytes.HasPrefix(trimmed, []byte("ssh-")), bytes.HasPrefix(trimmed, []byte("ecdsa-sha2-")):
		return errors.New("holds an SSH key, which is no HMAC secret: convert it with `ssh-keygen -e -m PKCS8` and name it .pem")
	case len(trimmed) > 0 && trimmed[0] == '{' && json.Valid(trimmed):
		return errors.New("holds JSON, which is no HMAC secret: name a JWK set .json or .jwks")
	case isDER(data):
		return errors.New("holds a key or certificate in DER, which is no HMAC secret: convert the public key to PEM and name it .pem")
	}
	return nil
}

func isDER(data []byte) bool {
	if len(data) == 0 || data[0] != 0x30 { // every one of these is a SEQUENCE
		return false
	}
	for _, parse := range []func([]byte) error{
		func(b []byte) error { _, err := x509.ParsePKIXPublicKey(b); return err },
		func(b []byte) error { _, err := x509.ParsePKCS1PublicKey(b); return err },
		func(b []byte) error { _, err := x509.ParseCertificate(b); return err },
		func(b []byte) error { _, err := x509.ParsePKCS8PrivateKey(b); return err },
		func(b []byte) error { _, err := x509.ParsePKCS1PrivateKey(b); return err },
		func(b []byte) error { _, err := x509.ParseECPrivateKey(b); return err },
	} {
		if parse(data) == nil {
			return true
		}
	}
	return false
}

// parsePEM reads the one public key of a PEM file and says which algorithm it is for.
func parsePEM(data []byte) (alg string, pub crypto.PublicKey, err error) {
	var blocks []*pem.Block
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return "", nil, errors.New("holds a private key, the server needs only the public one: `openssl pkey -in PRIVATE -pubout -out NAME.pub`")
		}
		blocks = append(blocks, block)
	}
	switch {
	case len(blocks) == 0:
		return "", nil, errors.New("holds no PEM block: export the public key as PEM, it begins with -----BEGIN PUBLIC KEY-----")
	case len(blocks) > 1:
		return "", nil, errors.New("holds more than one PEM block: put each public key into a file of its own")
	}
	switch blocks[0].Type {
	case "PUBLIC KEY":
		pub, err = x509.ParsePKIXPublicKey(blocks[0].Bytes)
	case "RSA PUBLIC KEY":
		pub, err = x509.ParsePKCS1PublicKey(blocks[0].Bytes)
	case "CERTIFICATE":
		return "", nil, errors.New("holds a certificate: extract its public key with `openssl x509 -pubkey -noout`")
	default:
		return "", nil, fmt.Errorf("holds a %q: export the public key as PEM, it begins with -----BEGIN PUBLIC KEY-----", blocks[0].Type)
	}
	if err != nil {
		return "", nil, fmt.Errorf("read public key: %w", err)
	}
	alg, err = algorithmOf(pub)
	return alg, pub, err
}

// algorithmOf binds a public key to the one algorithm that it may check.
func algorithmOf(pub crypto.PublicKey) (string, error) {
	switch k := pub.(type) {
	case ed25519.PublicKey:
		return algEdDSA, nil
	case *rsa.PublicKey:
		if n := k.N.BitLen(); n < minRSABits || n > maxRSABits {
			return "", fmt.Errorf("an RSA key of %d bits: use one of %d to %d bits", n, minRSABits, maxRSABits)
		}
		if k.E < 3 || k.E&1 == 0 {
			return "", fmt.Errorf("an RSA key with exponent %d: use a key with exponent 65537", k.E)
		}
		return algRS256, nil
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			return "", fmt.Errorf("an ECDSA key on curve %s: use P-256", k.Curve.Params().Name)
		}
		return algES256, nil
	}
	return "", fmt.Errorf("a key of type %T: use Ed25519, RSA or ECDSA P-256", pub)
}
