package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"gannet/codec"
	"gannet/server/auth"
)

var tokenNow = time.Unix(1_800_000_000, 0)

// tokenParse reads a command line as the program does.
func tokenParse(t *testing.T, args ...string) (*tokenCmd, error) {
	t.Helper()
	var cli struct {
		Token tokenCmd `cmd:""`
	}
	parser, err := kong.New(&cli, kong.Exit(func(int) { t.Error("the parser wants to exit") }))
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(append([]string{"token"}, args...))
	return &cli.Token, err
}

// tokenRun returns what the command prints on standard output and standard error.
func tokenRun(t *testing.T, args ...string) (out, notes string, err error) {
	t.Helper()
	c, err := tokenParse(t, args...)
	if err != nil {
		return "", "", err
	}
	var o, n bytes.Buffer
	err = c.run(&o, &n, tokenNow)
	return o.String(), n.String(), err
}

func tokenMustRun(t *testing.T, args ...string) (out, notes string) {
	t.Helper()
	out, notes, err := tokenRun(t, args...)
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return out, notes
}

// tokenCheck asks a server with the key file at a given time.
func tokenCheck(t *testing.T, keyFile, token string, at time.Time, audience ...string) (auth.Identity, error) {
	t.Helper()
	j, err := auth.NewJWT(auth.JWTConfig{KeyFiles: []string{keyFile}, Audience: audience, Now: func() time.Time { return at }})
	if err != nil {
		t.Fatal(err)
	}
	return j.Authenticate(context.Background(), auth.Request{Token: []byte(token)})
}

func TestTokenRoundTrip(t *testing.T) {
	for _, alg := range []struct {
		name, file, serverFile string
		more                   []string
	}{
		{"HS256", "dev.key", "dev.key", nil},
		{"HS256 said aloud", "dev.key", "dev.key", []string{"--alg", "HS256"}},
		{"EdDSA", "dev.pem", "dev.pem.pub", []string{"--alg", "EdDSA"}},
	} {
		t.Run(alg.name, func(t *testing.T) {
			dir := t.TempDir()
			file, serverFile := filepath.Join(dir, alg.file), filepath.Join(dir, alg.serverFile)
			first, notes := tokenMustRun(t, append([]string{"--user", "ada", "--new-key", file}, alg.more...)...)
			if want := "gannetd --auth jwt --auth-keys " + serverFile + "\n"; !strings.Contains(notes, want) {
				t.Errorf("notes %q do not say %q", notes, want)
			}
			second, notes := tokenMustRun(t, append([]string{"--user", "bob", "--key", file, "--ttl", "1h"}, alg.more...)...)
			if notes != "" {
				t.Errorf("notes %q for a key that existed", notes)
			}
			for user, out := range map[string]string{"ada": first, "bob": second} {
				token, ok := strings.CutSuffix(out, "\n")
				if !ok || strings.ContainsAny(token, " \n") {
					t.Fatalf("standard output %q is not just a token", out)
				}
				id, err := tokenCheck(t, serverFile, token, tokenNow)
				if err != nil || id.User != user || id.Rights.Key() != auth.AllTopics.Key() {
					t.Errorf("%+v, %v", id, err)
				}
			}
			_, err := tokenCheck(t, serverFile, strings.TrimSpace(second), tokenNow.Add(2*time.Hour))
			var refused *auth.Error
			if !errors.As(err, &refused) || refused.Code != codec.CodeExpired {
				t.Errorf("after two hours: %v", err)
			}
		})
	}
}

func TestTokenClaims(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dev.key")
	tokenMustRun(t, "--new-key", file)
	out, _ := tokenMustRun(t, "--key", file, "--user", "ada", "--aud", "chat", "--aud", "mail", "--kid", "dev",
		"--pub", "a,b", "--pub", "news.*", "--sub", "*", "--all")
	id, err := tokenCheck(t, file, strings.TrimSpace(out), tokenNow, "mail")
	if err != nil {
		t.Fatal(err)
	}
	want := &auth.Rights{Pub: []string{"a,b", "news.*"}, Sub: []string{"*"}, All: true}
	if id.Rights.Key() != want.Key() {
		t.Errorf("rights %s, want %s", id.Rights.Key(), want.Key())
	}
	out, _ = tokenMustRun(t, "--key", file, "--user", "ada", "--sub", "news.*")
	if id, err = tokenCheck(t, file, strings.TrimSpace(out), tokenNow); err != nil {
		t.Fatal(err)
	}
	if id.Rights.MayPublish([]byte("x")) || id.Rights.MaySubscribe([]byte("x")) || !id.Rights.MaySubscribe([]byte("news.x")) {
		t.Errorf("--sub alone gives %s", id.Rights.Key())
	}
	out, _ = tokenMustRun(t, "--key", file, "--user", "ada", "--kid", "another")
	if _, err = tokenCheck(t, file, strings.TrimSpace(out), tokenNow); err == nil {
		t.Error("--kid does not reach the token")
	}
}

func TestTokenNewKeyFiles(t *testing.T) {
	dir := t.TempDir()
	secret, private := filepath.Join(dir, "dev.key"), filepath.Join(dir, "dev.pem")
	for _, args := range [][]string{{"--new-key", secret}, {"--new-key", private, "--alg", "EdDSA"}} {
		if out, _ := tokenMustRun(t, args...); out != "" {
			t.Errorf("%v without a user prints %q on standard output", args, out)
		}
	}
	for file, mode := range map[string]os.FileMode{secret: 0o600, private: 0o600, private + ".pub": 0o644} {
		info, err := os.Stat(file)
		if err != nil || info.Mode().Perm()&^mode != 0 {
			t.Errorf("%s: %v, %v", file, info.Mode(), err)
		}
	}
	before, err := os.ReadFile(secret)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := tokenRun(t, "--new-key", secret); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("overwriting a secret: %v", err)
	}
	if after, err := os.ReadFile(secret); err != nil || !bytes.Equal(before, after) {
		t.Error("the secret was overwritten")
	}
	// A public key in the way: the private half is not left behind.
	pair := filepath.Join(dir, "pair.pem")
	if err := os.WriteFile(pair+".pub", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := tokenRun(t, "--new-key", pair, "--alg", "EdDSA"); err == nil {
		t.Error("a public key was overwritten")
	}
	if _, err := os.Stat(pair); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half a pair is left: %v", err)
	}
}

func TestTokenRefuses(t *testing.T) {
	dir := t.TempDir()
	secret, private := filepath.Join(dir, "dev.key"), filepath.Join(dir, "dev.pem")
	tokenMustRun(t, "--new-key", secret)
	tokenMustRun(t, "--new-key", private, "--alg", "EdDSA")
	short := filepath.Join(dir, "short.key")
	if err := os.WriteFile(short, []byte("text:short"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		says string
		args []string
	}{
		{"--new-key dev.key", []string{"--user", "ada"}},
		{"--user", []string{"--key", secret}},
		{"can't be used together", []string{"--user", "ada", "--key", secret, "--new-key", short}},
		{"--alg", []string{"--user", "ada", "--key", secret, "--alg", "RS256"}},
		{"holds no PEM", []string{"--user", "ada", "--key", secret, "--alg", "EdDSA"}},
		{"no secret for HS256", []string{"--user", "ada", "--key", private, "--alg", "HS256"}},
		{"PUBLIC KEY", []string{"--user", "ada", "--key", private + ".pub"}},
		{"at least 32", []string{"--user", "ada", "--key", short}},
		{"missing.key", []string{"--user", "ada", "--key", filepath.Join(dir, "missing.key")}},
		{"name a secret .key", []string{"--new-key", filepath.Join(dir, "secret")}},
		{"--ttl", []string{"--user", "ada", "--key", secret, "--ttl=-1h"}},
		{"user", []string{"--user", "a\nb", "--key", secret}},
		{"star", []string{"--user", "ada", "--key", secret, "--pub", "a*"}},
	} {
		out, _, err := tokenRun(t, c.args...)
		if err == nil || out != "" || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: printed %q, error %v, want one that says %q", c.args, out, err, c.says)
		}
	}
}

func TestTokenReportsAFailedWrite(t *testing.T) {
	file := filepath.Join(t.TempDir(), "dev.key")
	r, w := io.Pipe()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := tokenParse(t, "--user", "ada", "--new-key", file)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.run(w, io.Discard, tokenNow); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
}
