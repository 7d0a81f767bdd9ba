package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"gannet/server/auth"
)

// tokenCmd makes a token for development, and the key to sign it with.
type tokenCmd struct {
	User   string        `help:"The user that the token is for (its subject)." placeholder:"U"`
	Key    string        `help:"Key to sign with: an HMAC secret (.key) or an Ed25519 private key (PEM)." placeholder:"FILE" xor:"key"`
	NewKey string        `help:"Make a new key first and say how to start the server with it. Never overwrites." placeholder:"FILE" xor:"key"`
	Alg    string        `help:"HS256 or EdDSA. Default: what the key is for; HS256 for a new one." enum:",HS256,EdDSA" default:"" placeholder:"ALG"`
	KeyID  string        `name:"kid" help:"Name the key in the token's header. Only needed when the server has many keys." placeholder:"ID"`
	TTL    time.Duration `help:"How long the token is good." default:"24h"`
	Aud    []string      `help:"Audience; may be repeated." placeholder:"A" sep:"none"`
	Pub    []string      `help:"Topic pattern that may be sent to (a.b, a.b.*, *); may be repeated." placeholder:"PAT" sep:"none"`
	Sub    []string      `help:"Topic pattern that may be subscribed to; may be repeated." placeholder:"PAT" sep:"none"`
	All    bool          `help:"Allow broadcasts to every session."`
}

// Help is shown by `gannet token --help`.
func (*tokenCmd) Help() string {
	return "Prints the token, and nothing else, on standard output. Without --pub, --sub and --all the token leaves the " +
		"rights to the server (by default every topic, no broadcast); with any of them it has these and no others.\n\n" +
		"First use: gannet token --new-key dev.key --user ada"
}

// Run implements the command.
func (c *tokenCmd) Run() error { return c.run(os.Stdout, os.Stderr, time.Now()) }

func (c *tokenCmd) run(out, notes io.Writer, now time.Time) error {
	if c.TTL < time.Second {
		return fmt.Errorf("--ttl %v: give at least one second, as in 15m or 24h", c.TTL)
	}
	key, err := c.signingKey(notes)
	if err != nil {
		return err
	}
	if c.User == "" { // only a key was asked for
		return nil
	}
	grant := auth.Grant{User: c.User, Audience: c.Aud, Issued: now, Expires: now.Add(c.TTL), KeyID: c.KeyID}
	if len(c.Pub) > 0 || len(c.Sub) > 0 || c.All {
		grant.Rights = &auth.Rights{Pub: c.Pub, Sub: c.Sub, All: c.All}
	}
	token, err := grant.Sign(key)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(out, token)
	return err
}

// signingKey makes or reads the key: a []byte or an ed25519.PrivateKey.
func (c *tokenCmd) signingKey(notes io.Writer) (any, error) {
	switch {
	case c.NewKey != "" && c.Key != "":
		return nil, errors.New("--key and --new-key exclude each other: a new key is used at once")
	case c.NewKey != "" && c.Alg == "EdDSA":
		return tokenNewPair(c.NewKey, notes)
	case c.NewKey != "":
		return tokenNewSecret(c.NewKey, notes)
	case c.Key == "":
		return nil, errors.New("no key to sign with: give --key FILE, or make one with --new-key dev.key")
	case c.User == "":
		return nil, errors.New("no user: say with --user whom the token is for")
	}
	return tokenReadKey(c.Key, c.Alg)
}

// tokenReadKey looks into the file to see which kind of key it holds; alg, unless empty, must be the same.
func tokenReadKey(file, alg string) (any, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil {
		if alg == "EdDSA" {
			return nil, fmt.Errorf("key file %s holds no PEM: EdDSA needs an Ed25519 private key, make one with --alg EdDSA --new-key dev.pem", file)
		}
		return auth.ReadSecret(file)
	}
	if alg == "HS256" {
		return nil, fmt.Errorf("key file %s holds PEM, which is no secret for HS256: leave --alg out or say --alg EdDSA", file)
	}
	if block.Type != "PRIVATE KEY" {
		return nil, fmt.Errorf("key file %s holds a %q: signing needs the Ed25519 private key (PRIVATE KEY)", file, block.Type)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read private key from %s: %w", file, err)
	}
	if private, ok := key.(ed25519.PrivateKey); ok {
		return private, nil
	}
	return nil, fmt.Errorf("key file %s holds a %T: this tool signs with Ed25519 and HS256 only", file, key)
}

func tokenNewSecret(file string, notes io.Writer) (any, error) {
	if filepath.Ext(file) != ".key" {
		return nil, fmt.Errorf("--new-key %s: name a secret .key, as in dev.key, or say --alg EdDSA for a key pair", file)
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // never fails, see crypto/rand
	text := "base64:" + base64.StdEncoding.EncodeToString(secret) + "\n"
	if err := tokenWriteNew(file, 0o600, []byte(text)); err != nil {
		return nil, err
	}
	fmt.Fprintf(notes, "New HS256 secret: %s (whoever reads it can make tokens for any user).\n"+
		"Start the server with it:  gannetd --auth jwt --auth-keys %s\n", file, file)
	return secret, nil
}

func tokenNewPair(file string, notes io.Writer) (any, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key pair: %w", err)
	}
	privateDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("make key pair: %w", err)
	}
	publicDER, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("make key pair: %w", err)
	}
	var privatePEM, publicPEM bytes.Buffer
	_ = pem.Encode(&privatePEM, &pem.Block{Type: "PRIVATE KEY", Bytes: privateDER}) // a Buffer takes all
	_ = pem.Encode(&publicPEM, &pem.Block{Type: "PUBLIC KEY", Bytes: publicDER})
	if err := tokenWriteNew(file, 0o600, privatePEM.Bytes()); err != nil {
		return nil, err
	}
	if err := tokenWriteNew(file+".pub", 0o644, publicPEM.Bytes()); err != nil {
		return nil, errors.Join(err, os.Remove(file)) // half a pair would only be in the way of the next try
	}
	fmt.Fprintf(notes, "New Ed25519 key pair: %s signs (keep it secret), %s.pub checks.\n"+
		"Start the server with it:  gannetd --auth jwt --auth-keys %s.pub\n", file, file, file)
	return private, nil
}

// tokenWriteNew writes a file that must not exist yet, and leaves none behind when it fails.
func tokenWriteNew(file string, mode os.FileMode, data []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("key file %s exists: sign with it (--key %s) or choose another name", file, file)
	}
	if err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write key: %w", errors.Join(err, os.Remove(file)))
	}
	return nil
}
