package auth

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"gannet/codec"
)

// MaxToken is the longest token that is looked at, in bytes.
const MaxToken = 8 << 10

// DefaultLeeway is how far the clocks of issuer and server may differ unless configured.
const DefaultLeeway = 5 * time.Second

// maxUnix is the last second of the year 9999: an exp beyond it is a mistake of the issuer and would not
// survive the arithmetic done with it later.
const maxUnix = 253402300799

// Algorithms, by their names in a token's header.
const (
	algHS256 = "HS256" // HMAC with SHA-256
	algEdDSA = "EdDSA" // Ed25519
	algRS256 = "RS256" // RSA PKCS #1 v1.5 with SHA-256
	algES256 = "ES256" // ECDSA on P-256 with SHA-256
)

var algorithms = []string{algHS256, algEdDSA, algRS256, algES256}

// JWTConfig configures NewJWT. Zero values mean the defaults; only KeyFiles is required.
type JWTConfig struct {
	KeyFiles      []string         // secrets, public keys and JWKS files; all are good at the same time
	Audience      []string         // a token must name at least one of them in aud; empty: aud is not looked at
	AllowNoExpiry bool             // accept tokens without exp, which are good for ever
	Leeway        time.Duration    // allowed difference of clocks; 0: DefaultLeeway, negative: none
	DefaultRights *Rights          // for tokens without the claim "gannet"; nil: AllTopics
	Now           func() time.Time // the clock; nil: time.Now
}

// JWT accepts signed tokens (RFC 7519). Claims: sub is the user and required; exp is required unless
// configured otherwise; nbf and aud are respected; gannet holds the rights, {"pub":[…],"sub":[…],"all":bool}.
type JWT struct {
	// Static after construction.
	files    []string
	audience []string
	rights   *Rights
	leeway   time.Duration
	expiry   bool // exp is required
	parser   *jwt.Parser

	reload sync.Mutex             // one Reload at a time, so that a later one is never overtaken
	keys   atomic.Pointer[keySet] // replaced as a whole by Reload
}

// claims is the payload of a token.
type claims struct {
	jwt.RegisteredClaims
	Rights *Rights `json:"gannet,omitempty"`
}

// NewJWT reads the key files and returns an Authenticator for tokens signed with any of these keys. Errors
// name the file or the field and say what to do.
func NewJWT(c JWTConfig) (*JWT, error) {
	j := &JWT{
		files:    slices.Clone(c.KeyFiles),
		audience: slices.Clone(c.Audience),
		rights:   c.DefaultRights,
		leeway:   c.Leeway,
		expiry:   !c.AllowNoExpiry,
	}
	if j.rights == nil {
		j.rights = AllTopics
	}
	if err := j.rights.Validate(); err != nil {
		return nil, fmt.Errorf("auth: default rights: %w", err)
	}
	if slices.Contains(j.audience, "") {
		return nil, errors.New("auth: an audience is empty: name it, or leave the list empty to accept any audience")
	}
	switch {
	case j.leeway == 0:
		j.leeway = DefaultLeeway
	case j.leeway < 0:
		j.leeway = 0
	}
	options := []jwt.ParserOption{
		jwt.WithValidMethods(algorithms), jwt.WithStrictDecoding(), jwt.WithLeeway(j.leeway),
	}
	if c.Now != nil {
		options = append(options, jwt.WithTimeFunc(c.Now))
	}
	if j.expiry {
		options = append(options, jwt.WithExpirationRequired())
	}
	if len(j.audience) > 0 {
		options = append(options, jwt.WithAudience(j.audience...))
	}
	j.parser = jwt.NewParser(options...)
	if err := j.load(); err != nil {
		return nil, err
	}
	return j, nil
}

func (j *JWT) load() error {
	set, err := loadKeys(j.files)
	if err != nil {
		return err
	}
	j.keys.Store(set)
	return nil
}

// Reload reads the key files again. Either all of them are good and replace the old keys at once, or an
// error says which is not and the old keys stay. Sessions that logged in with a key that is gone are not
// touched.
func (j *JWT) Reload() error {
	j.reload.Lock()
	defer j.reload.Unlock()
	if err := j.load(); err != nil {
		return fmt.Errorf("the keys that were loaded before stay in force: %w", err)
	}
	return nil
}

// Keys lists the keys in force as "ALG id", for the log.
func (j *JWT) Keys() []string { return j.keys.Load().names() }

// Authenticate checks r.Token. The user is the token's sub; r.User may be empty, otherwise it must be the
// same. Every refusal is an *Error: CodeExpired when the token is good but for its expiry, else
// CodeUnauthorized.
func (j *JWT) Authenticate(ctx context.Context, r Request) (Identity, error) {
	if err := ctx.Err(); err != nil {
		return Identity{}, fmt.Errorf("auth: check token: %w", err)
	}
	if len(r.Token) == 0 {
		return Identity{}, refuse("a token is required", nil)
	}
	if len(r.Token) > MaxToken {
		return Identity{}, refuse(fmt.Sprintf("the token is longer than %d bytes", MaxToken), nil)
	}
	var c claims
	token, err := j.parser.ParseWithClaims(string(r.Token), &c, j.keys.Load().keysFor)
	if err != nil {
		return Identity{}, j.refusal(token, &c, err)
	}
	return j.identity(&c, r.User)
}

// identity judges the claims of a token whose signature and times are good.
func (j *JWT) identity(c *claims, claimed string) (Identity, error) {
	id := Identity{User: c.Subject, Rights: c.Rights}
	switch {
	case id.User == "":
		return Identity{}, refuse("the token has no subject (sub)", nil)
	case !codec.ValidID([]byte(id.User)):
		return Identity{}, refuse("the token's subject (sub) is not a valid identifier", nil)
	case claimed != "" && claimed != id.User:
		return Identity{}, refuse("the user is not the token's subject (sub)", nil)
	}
	if id.Rights == nil {
		id.Rights = j.rights
	} else if err := id.Rights.Validate(); err != nil {
		return Identity{}, refuse("the token's rights: "+err.Error(), nil)
	}
	if c.ExpiresAt != nil {
		if c.ExpiresAt.Unix() > maxUnix {
			return Identity{}, refuse("the token's expiry (exp) lies beyond the year 9999", nil)
		}
		id.Expires = c.ExpiresAt.Add(j.leeway)
	}
	return id, nil
}

// refusal turns an error of the parser into what the peer may hear. What is wrong for ever comes before
// what a fresh token would mend. token may be nil.
func (j *JWT) refusal(token *jwt.Token, c *claims, err error) error {
	var own *Error
	switch {
	case errors.As(err, &own):
		return own
	case errors.Is(err, jwt.ErrTokenMalformed):
		return refuse("the token is malformed", err)
	case errors.Is(err, jwt.ErrTokenUnverifiable), token != nil && token.Method != nil && !slices.Contains(algorithms, token.Method.Alg()):
		return refuse("the token is unsigned or its algorithm is not accepted", err)
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return refuse("the token's signature is invalid", err)
	case errors.Is(err, jwt.ErrTokenInvalidAudience), len(j.audience) > 0 && len(c.Audience) == 0:
		return refuse("the token is for another audience (aud)", err)
	case j.expiry && c.ExpiresAt == nil:
		return refuse("the token has no expiry (exp)", err)
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return refuse("the token is not valid yet (nbf)", err)
	case errors.Is(err, jwt.ErrTokenExpired):
		return &Error{Code: codec.CodeExpired, Reason: "the token has expired", cause: err}
	}
	return refuse("the token is not acceptable", err)
}
