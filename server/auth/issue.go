package auth

import (
	"crypto/ed25519"
	"fmt"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"gannet/codec"
)

// Grant is what a token says. It is the issuing side, for tools and tests; the server only checks.
type Grant struct {
	User     string    // becomes sub
	Rights   *Rights   // nil: the server's default
	Audience []string  // may be empty
	Issued   time.Time // zero: left out
	Expires  time.Time // zero: left out
	KeyID    string    // becomes kid; empty: left out
}

// Sign returns the token, signed by key: a []byte of at least 32 bytes for HS256 or an ed25519.PrivateKey
// for EdDSA. It refuses what no server would accept.
func (g Grant) Sign(key any) (string, error) {
	if !codec.ValidID([]byte(g.User)) {
		return "", fmt.Errorf("sign token: user %q is not 1 to %d bytes of UTF-8 without control characters", g.User, codec.MaxID)
	}
	if g.Rights != nil {
		if err := g.Rights.Validate(); err != nil {
			return "", fmt.Errorf("sign token: rights: %w", err)
		}
	}
	var method jwt.SigningMethod
	switch k := key.(type) {
	case []byte:
		if len(k) < minSecret {
			return "", fmt.Errorf("sign token: the secret has %d bytes, at least %d are needed", len(k), minSecret)
		}
		method = jwt.SigningMethodHS256
	case ed25519.PrivateKey:
		method = jwt.SigningMethodEdDSA
	default:
		return "", fmt.Errorf("sign token: a key of type %T: give a []byte or an ed25519.PrivateKey", key)
	}
	c := claims{Rights: g.Rights}
	c.Subject, c.Audience = g.User, g.Audience
	if !g.Issued.IsZero() {
		c.IssuedAt = jwt.NewNumericDate(g.Issued)
	}
	if !g.Expires.IsZero() {
		c.ExpiresAt = jwt.NewNumericDate(g.Expires)
	}
	t := jwt.NewWithClaims(method, c)
	if g.KeyID != "" {
		t.Header["kid"] = g.KeyID
	}
	s, err := t.SignedString(key)
	if err != nil {
		return "", fmt.Errorf("sign token: %w", err)
	}
	if len(s) > MaxToken {
		return "", fmt.Errorf("sign token: it has %d bytes, at most %d are accepted: use fewer topic patterns", len(s), MaxToken)
	}
	return s, nil
}
