package auth

import (
	"context"
	"strings"
	"testing"
	"time"
)

func TestSignedGrantIsAccepted(t *testing.T) {
	m := testMaterial()
	dir := t.TempDir()
	j := mustJWT(t, JWTConfig{
		KeyFiles: []string{writeFile(t, dir, "a.key", m.secret), writeFile(t, dir, "b.pub", publicPEM(t, m.ed.Public()))},
		Audience: []string{"chat"},
	})
	g := Grant{
		User: "ada", Rights: &Rights{Pub: []string{"a.*"}, All: true}, Audience: []string{"chat"},
		Issued: testNow, Expires: testNow.Add(time.Minute),
	}
	for kid, key := range map[string]any{"a": m.secret, "b": m.ed} {
		for _, g.KeyID = range []string{"", kid} {
			token, err := g.Sign(key)
			if err != nil {
				t.Fatal(err)
			}
			id, err := j.Authenticate(context.Background(), Request{Token: []byte(token)})
			if err != nil {
				t.Fatal(err)
			}
			if id.User != g.User || id.Rights.Key() != g.Rights.Key() || !id.Expires.Equal(g.Expires.Add(DefaultLeeway)) {
				t.Errorf("kid %q: %+v", g.KeyID, id)
			}
		}
	}
}

func TestSignRefusesWhatNoServerAccepts(t *testing.T) {
	m := testMaterial()
	long := make([]string, MaxPatterns)
	for i := range long {
		long[i] = strings.Repeat("a", MaxPattern-1) + string(rune('!'+i%9))
	}
	for _, c := range []struct {
		grant Grant
		key   any
		says  string
	}{
		{Grant{User: ""}, m.secret, "user"},
		{Grant{User: "a\n"}, m.secret, "user"},
		{Grant{User: "ada", Rights: &Rights{Pub: []string{"a*"}}}, m.secret, "star"},
		{Grant{User: "ada"}, m.secret[:31], "31 bytes"},
		{Grant{User: "ada"}, "secret", "type string"},
		{Grant{User: "ada"}, nil, "type <nil>"},
		{Grant{User: "ada", Rights: &Rights{Pub: long, Sub: long}}, m.secret, "at most 8192"},
	} {
		if token, err := c.grant.Sign(c.key); err == nil || token != "" || !strings.Contains(err.Error(), c.says) {
			t.Errorf("Sign = %q, %v, want an error that says %q", token, err, c.says)
		}
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	for _, s := range signers() {
		b.Run(s.method.Alg(), func(b *testing.B) {
			j := mustJWT(b, JWTConfig{KeyFiles: []string{keyFileFor(b, b.TempDir(), "a", s.pub)}})
			token := sign(b, s.method, nil, goodClaims(), s.private)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := j.Authenticate(context.Background(), Request{Token: token}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func FuzzAuthenticate(f *testing.F) {
	m := testMaterial()
	j := mustJWT(f, JWTConfig{KeyFiles: []string{writeFile(f, f.TempDir(), "a.key", m.secret)}})
	good, err := Grant{User: "ada", Expires: testNow.Add(time.Minute)}.Sign(m.secret)
	if err != nil {
		f.Fatal(err)
	}
	// The secret differs in every run, so no seed but this run's own can be good.
	for _, seed := range []string{"", ".", "..", "a.b.c", "e30.e30.", good[:len(good)-1], strings.Repeat(".", MaxToken+1)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, token []byte) {
		if string(token) != good && accepts(t, j, token) {
			t.Errorf("%q was accepted", token)
		}
	})
}
