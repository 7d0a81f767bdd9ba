package auth

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"gannet/codec"
)

var testNow = time.Unix(1_800_000_000, 0)

func goodClaims() jwt.MapClaims {
	return jwt.MapClaims{"sub": "ada", "exp": testNow.Add(time.Hour).Unix()}
}

// claimsWith is goodClaims with some changed; nil removes one.
func claimsWith(change jwt.MapClaims) jwt.MapClaims {
	c := goodClaims()
	maps.Copy(c, change)
	maps.DeleteFunc(c, func(_ string, v any) bool { return v == nil })
	return c
}

func mustJWT(t testing.TB, c JWTConfig) *JWT {
	t.Helper()
	if c.Now == nil {
		c.Now = func() time.Time { return testNow }
	}
	j, err := NewJWT(c)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func hmacJWT(t testing.TB, c JWTConfig) *JWT {
	t.Helper()
	c.KeyFiles = []string{writeFile(t, t.TempDir(), "a.key", testMaterial().secret)}
	return mustJWT(t, c)
}

func TestTokenClaims(t *testing.T) {
	unix := func(d time.Duration) int64 { return testNow.Add(d).Unix() }
	withAudience := JWTConfig{Audience: []string{"chat", "chat-test"}}
	for _, c := range []struct {
		name   string
		config JWTConfig
		claims jwt.MapClaims
		code   codec.Code // 0: accepted
	}{
		{"good", JWTConfig{}, nil, 0},
		{"expires now, within the leeway", JWTConfig{}, jwt.MapClaims{"exp": unix(0)}, 0},
		{"expired within the leeway", JWTConfig{}, jwt.MapClaims{"exp": unix(-4 * time.Second)}, 0},
		{"expired", JWTConfig{}, jwt.MapClaims{"exp": unix(-5 * time.Second)}, codec.CodeExpired},
		{"expired, no leeway", JWTConfig{Leeway: -1}, jwt.MapClaims{"exp": unix(0)}, codec.CodeExpired},
		{"expired long ago, long leeway", JWTConfig{Leeway: time.Hour}, jwt.MapClaims{"exp": unix(-59 * time.Minute)}, 0},
		{"no exp", JWTConfig{}, jwt.MapClaims{"exp": nil}, codec.CodeUnauthorized},
		{"no exp, allowed", JWTConfig{AllowNoExpiry: true}, jwt.MapClaims{"exp": nil}, 0},
		{"expired, no exp allowed", JWTConfig{AllowNoExpiry: true}, jwt.MapClaims{"exp": unix(-time.Hour)}, codec.CodeExpired},
		{"exp is no number", JWTConfig{}, jwt.MapClaims{"exp": "soon"}, codec.CodeUnauthorized},
		{"exp after the year 9999", JWTConfig{}, jwt.MapClaims{"exp": int64(maxUnix + 1)}, codec.CodeUnauthorized},
		{"exp in the year 9999", JWTConfig{}, jwt.MapClaims{"exp": int64(maxUnix)}, 0},
		{"not yet valid", JWTConfig{}, jwt.MapClaims{"nbf": unix(6 * time.Second)}, codec.CodeUnauthorized},
		{"not yet valid, within the leeway", JWTConfig{}, jwt.MapClaims{"nbf": unix(5 * time.Second)}, 0},
		{"no sub", JWTConfig{}, jwt.MapClaims{"sub": nil}, codec.CodeUnauthorized},
		{"empty sub", JWTConfig{}, jwt.MapClaims{"sub": ""}, codec.CodeUnauthorized},
		{"sub with a control character", JWTConfig{}, jwt.MapClaims{"sub": "a\x1fb"}, codec.CodeUnauthorized},
		{"sub of 64 bytes", JWTConfig{}, jwt.MapClaims{"sub": strings.Repeat("a", 64)}, 0},
		{"sub of 65 bytes", JWTConfig{}, jwt.MapClaims{"sub": strings.Repeat("a", 65)}, codec.CodeUnauthorized},
		{"sub is no string", JWTConfig{}, jwt.MapClaims{"sub": 7}, codec.CodeUnauthorized},
		{"audience", withAudience, jwt.MapClaims{"aud": "chat"}, 0},
		{"audience in a list", withAudience, jwt.MapClaims{"aud": []string{"mail", "chat-test"}}, 0},
		{"wrong audience", withAudience, jwt.MapClaims{"aud": "mail"}, codec.CodeUnauthorized},
		{"no audience", withAudience, nil, codec.CodeUnauthorized},
		{"wrong audience and expired", withAudience, jwt.MapClaims{"aud": "mail", "exp": unix(-time.Hour)}, codec.CodeUnauthorized},
		{"no audience and expired", withAudience, jwt.MapClaims{"exp": unix(-time.Hour)}, codec.CodeUnauthorized},
		{"audience not asked for", JWTConfig{}, jwt.MapClaims{"aud": "mail"}, 0},
		{"rights are no object", JWTConfig{}, jwt.MapClaims{"gannet": "all"}, codec.CodeUnauthorized},
		{"rights with a bad pattern", JWTConfig{}, jwt.MapClaims{"gannet": map[string]any{"pub": []string{"a*b"}}}, codec.CodeUnauthorized},
		{"64 patterns", JWTConfig{}, jwt.MapClaims{"gannet": map[string]any{"sub": manyPatterns(64)}}, 0},
		{"65 patterns", JWTConfig{}, jwt.MapClaims{"gannet": map[string]any{"sub": manyPatterns(65)}}, codec.CodeUnauthorized},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := hmacJWT(t, c.config)
			token := sign(t, jwt.SigningMethodHS256, nil, claimsWith(c.claims), testMaterial().secret)
			id, err := j.Authenticate(context.Background(), Request{Token: token})
			wantCode(t, err, c.code)
			if c.code == 0 && (id.User == "" || id.Rights == nil) {
				t.Errorf("identity %+v", id)
			}
		})
	}
}

func manyPatterns(n int) (p []string) {
	for i := range n {
		p = append(p, fmt.Sprintf("topic-%d.*", i))
	}
	return p
}

func wantCode(t *testing.T, err error, code codec.Code) {
	t.Helper()
	if code == 0 {
		if err != nil {
			t.Fatalf("refused: %v", err)
		}
		return
	}
	var refused *Error
	if !errors.As(err, &refused) {
		t.Fatalf("got %v, want an *Error", err)
	}
	if refused.Code != code {
		t.Errorf("got %v, want %v", refused, code)
	}
	if n := len(refused.Reason); n == 0 || n > 255 || strings.Contains(refused.Reason, "\n") {
		t.Errorf("reason %q does not fit into a BYE", refused.Reason)
	}
}

func TestTokenForms(t *testing.T) {
	m := testMaterial()
	raw := func(header, payload, signature string) []byte {
		e := base64.RawURLEncoding.EncodeToString
		return []byte(e([]byte(header)) + "." + e([]byte(payload)) + "." + signature)
	}
	payload, err := json.Marshal(goodClaims())
	if err != nil {
		t.Fatal(err)
	}
	good := sign(t, jwt.SigningMethodHS256, nil, goodClaims(), m.secret)
	none := sign(t, jwt.SigningMethodNone, nil, goodClaims(), jwt.UnsafeAllowNoneSignatureType)
	parts := strings.Split(string(good), ".")
	signedNull := func() []byte {
		text := string(raw(`{"alg":"HS256"}`, "null", ""))
		signature, err := jwt.SigningMethodHS256.Sign(strings.TrimSuffix(text, "."), m.secret)
		if err != nil {
			t.Fatal(err)
		}
		return []byte(text + base64.RawURLEncoding.EncodeToString(signature))
	}
	long := claimsWith(jwt.MapClaims{"x": strings.Repeat("a", MaxToken)})
	for _, c := range []struct {
		name  string
		token []byte
		says  string
	}{
		{"empty", nil, "a token is required"},
		{"garbage", []byte("\x00\xff\xfe garbage"), "malformed"},
		{"two parts", []byte("a.b"), "malformed"},
		{"four parts", append(good[:len(good):len(good)], ".x"...), "malformed"},
		{"header is no base64", []byte("!." + parts[1] + "." + parts[2]), "malformed"},
		{"header is no JSON", raw("x", string(payload), parts[2]), "malformed"},
		{"header is no object", raw("[]", string(payload), parts[2]), "malformed"},
		{"payload is no JSON", raw(`{"alg":"HS256"}`, "x", parts[2]), "malformed"},
		{"payload is null", raw(`{"alg":"HS256"}`, "null", parts[2]), "signature"},
		{"payload is null, signed", signedNull(), "no expiry"},
		{"signature is no base64", []byte(parts[0] + "." + parts[1] + ".!"), "malformed"},
		{"bits left over in the signature", setLeftOverBits(good), "malformed"},
		{"padding in the signature", append(good[:len(good):len(good)], '='), "malformed"},
		{"no signature", []byte(parts[0] + "." + parts[1] + "."), "signature is invalid"},
		{"alg none", none, "unsigned"},
		{"alg none with a signature", raw(`{"alg":"none"}`, string(payload), parts[2]), "unsigned"},
		{"alg None", raw(`{"alg":"None"}`, string(payload), ""), "unsigned"},
		{"no alg", raw(`{}`, string(payload), parts[2]), "not accepted"},
		{"alg is no string", raw(`{"alg":1}`, string(payload), parts[2]), "not accepted"},
		{"unknown alg", raw(`{"alg":"XX"}`, string(payload), parts[2]), "not accepted"},
		{"HS512", sign(t, jwt.SigningMethodHS512, nil, goodClaims(), m.secret), "not accepted"},
		{"RS512", sign(t, jwt.SigningMethodRS512, nil, goodClaims(), m.rsa), "not accepted"},
		{"PS256", sign(t, jwt.SigningMethodPS256, nil, goodClaims(), m.rsa), "not accepted"},
		{"an algorithm without a key", sign(t, jwt.SigningMethodEdDSA, nil, goodClaims(), m.ed), "for which there is no key"},
		{"another secret", sign(t, jwt.SigningMethodHS256, nil, goodClaims(), newMaterial().secret), "signature is invalid"},
		{"crit", sign(t, jwt.SigningMethodHS256, map[string]any{"crit": []string{"b64"}}, goodClaims(), m.secret), "crit"},
		{"too long", sign(t, jwt.SigningMethodHS256, nil, long, m.secret), "longer than 8192 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := hmacJWT(t, JWTConfig{}).Authenticate(context.Background(), Request{Token: c.token})
			wantCode(t, err, codec.CodeUnauthorized)
			if !strings.Contains(err.(*Error).Reason, c.says) {
				t.Errorf("reason %q, want one that says %q", err.(*Error).Reason, c.says)
			}
		})
	}
}

// setLeftOverBits changes the last character so that only bits behind the signature's last byte differ: a
// decoder that ignores them would let one token have several spellings.
func setLeftOverBits(token []byte) []byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := len(token) - 1
	changed := append([]byte(nil), token...)
	changed[last] = alphabet[strings.IndexByte(alphabet, token[last])|1]
	return changed
}

func TestLongestTokenIsAccepted(t *testing.T) {
	m := testMaterial()
	j := hmacJWT(t, JWTConfig{})
	for pad := MaxToken; pad > 0; pad-- { // base64 grows in steps, so look for the longest that fits
		token := sign(t, jwt.SigningMethodHS256, nil, claimsWith(jwt.MapClaims{"x": strings.Repeat("a", pad)}), m.secret)
		if len(token) > MaxToken {
			continue
		}
		if len(token) < MaxToken-4 {
			t.Fatalf("the longest token made has %d bytes", len(token))
		}
		if !accepts(t, j, token) {
			t.Errorf("a token of %d bytes was refused", len(token))
		}
		return
	}
}

func TestUserAndSubject(t *testing.T) {
	j := hmacJWT(t, JWTConfig{})
	token := sign(t, jwt.SigningMethodHS256, nil, goodClaims(), testMaterial().secret)
	for user, code := range map[string]codec.Code{"": 0, "ada": 0, "bob": codec.CodeUnauthorized, "Ada": codec.CodeUnauthorized} {
		id, err := j.Authenticate(context.Background(), Request{User: user, Token: token})
		wantCode(t, err, code)
		if err == nil && id.User != "ada" {
			t.Errorf("user %q became %q", user, id.User)
		}
	}
}

func TestTokenRights(t *testing.T) {
	custom := &Rights{Sub: []string{"news.*"}}
	for _, c := range []struct {
		name    string
		preset  *Rights
		claim   any
		want    *Rights
		sharing bool // the very pointer of the configuration
	}{
		{"default", nil, nil, AllTopics, true},
		{"configured default", custom, nil, custom, true},
		{"empty claim", nil, map[string]any{}, &Rights{}, false},
		{"claim", custom, map[string]any{"pub": []string{"a"}, "sub": []string{"*"}, "all": true}, &Rights{[]string{"a"}, []string{"*"}, true}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			j := hmacJWT(t, JWTConfig{DefaultRights: c.preset})
			token := sign(t, jwt.SigningMethodHS256, nil, claimsWith(jwt.MapClaims{"gannet": c.claim}), testMaterial().secret)
			id, err := j.Authenticate(context.Background(), Request{Token: token})
			if err != nil {
				t.Fatal(err)
			}
			if id.Rights.Key() != c.want.Key() || c.sharing && id.Rights != c.want {
				t.Errorf("rights %s, want %s", id.Rights.Key(), c.want.Key())
			}
		})
	}
}

func TestExpiresIsWhenTheTokenEnds(t *testing.T) {
	now := testNow
	j := hmacJWT(t, JWTConfig{Now: func() time.Time { return now }})
	token := sign(t, jwt.SigningMethodHS256, nil, goodClaims(), testMaterial().secret)
	id, err := j.Authenticate(context.Background(), Request{Token: token})
	if err != nil {
		t.Fatal(err)
	}
	now = id.Expires.Add(-time.Millisecond)
	_, err = j.Authenticate(context.Background(), Request{Token: token})
	wantCode(t, err, 0)
	now = id.Expires
	_, err = j.Authenticate(context.Background(), Request{Token: token})
	wantCode(t, err, codec.CodeExpired)

	j = hmacJWT(t, JWTConfig{AllowNoExpiry: true})
	token = sign(t, jwt.SigningMethodHS256, nil, claimsWith(jwt.MapClaims{"exp": nil}), testMaterial().secret)
	if id, err = j.Authenticate(context.Background(), Request{Token: token}); err != nil || !id.Expires.IsZero() {
		t.Errorf("no exp: expires %v, %v", id.Expires, err)
	}
}

func TestEndedContextIsNoRefusal(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, a := range []Authenticator{Open{}, hmacJWT(t, JWTConfig{})} {
		_, err := a.Authenticate(ctx, Request{User: "ada"})
		var refused *Error
		if !errors.Is(err, context.Canceled) || errors.As(err, &refused) {
			t.Errorf("%T: %v", a, err)
		}
	}
}

func TestConfigRefused(t *testing.T) {
	file := writeFile(t, t.TempDir(), "a.key", testMaterial().secret)
	for _, c := range []JWTConfig{
		{KeyFiles: []string{file}, DefaultRights: &Rights{Pub: []string{""}}},
		{KeyFiles: []string{file}, Audience: []string{"chat", ""}},
	} {
		if j, err := NewJWT(c); err == nil || j != nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}

func TestOpen(t *testing.T) {
	id, err := Open{}.Authenticate(context.Background(), Request{User: "ada", Token: []byte("ignored")})
	if err != nil || id.User != "ada" || id.Rights != Everything || !id.Expires.IsZero() {
		t.Errorf("%+v, %v", id, err)
	}
	for _, user := range []string{"", "a\nb", strings.Repeat("a", 65)} {
		_, err := Open{}.Authenticate(context.Background(), Request{User: user})
		wantCode(t, err, codec.CodeMalformed)
	}
}

func TestErrorText(t *testing.T) {
	cause := errors.New("details")
	e := refuse("no", cause)
	if e.Error() != "auth: UNAUTHORIZED: no (details)" || !errors.Is(e, cause) {
		t.Errorf("%q", e)
	}
	if got := refuse("no", nil).Error(); got != "auth: UNAUTHORIZED: no" {
		t.Errorf("%q", got)
	}
}
