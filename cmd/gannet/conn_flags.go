package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"gannet/client"
)

// connFlags say which server to connect to, and as whom. Embedded in every command that does.
type connFlags struct {
	Addr      []string `help:"Server, host:port; several are tried in turn. Default: ${default}." default:"127.0.0.1:7000" env:"GANNET_ADDR" placeholder:"ADDR"`
	User      string   `help:"Who you are. Default: the token's user, without a token $$USER or a guest." env:"GANNET_USER" placeholder:"NAME"`
	Device    string   `help:"Which of your devices this is; two with one name displace each other. Default: a new one for each run." placeholder:"NAME"`
	Token     string   `help:"Credential for the server." env:"GANNET_TOKEN" xor:"token" placeholder:"TOKEN"`
	TokenFile string   `help:"Read the credential from a file, again whenever it has to be renewed." xor:"token" placeholder:"FILE"`
	Class     string   `help:"Kind of device: other, mobile, desktop, web, iot, service." enum:"other,mobile,desktop,web,iot,service" default:"desktop" placeholder:"CLASS"`
}

var classes = map[string]client.Class{
	"other": client.ClassOther, "mobile": client.ClassMobile, "desktop": client.ClassDesktop,
	"web": client.ClassWeb, "iot": client.ClassIoT, "service": client.ClassService,
}

// options makes client options of the flags; handlers are left to the command.
func (f *connFlags) options() client.Options {
	opt := client.Options{Addrs: f.Addr, User: f.User, Device: f.Device, Class: classes[f.Class], StaticToken: f.Token}
	if f.TokenFile != "" {
		opt.Token = func(context.Context) (string, error) { return readToken(f.TokenFile) }
	}
	if opt.User == "" && f.Token == "" && f.TokenFile == "" {
		opt.User = guess()
	}
	if opt.Device == "" {
		b := make([]byte, 4)
		rand.Read(b)
		opt.Device = "term-" + hex.EncodeToString(b)
	}
	return opt
}

func guess() string {
	if u := os.Getenv("USER"); u != "" {
		return u
	}
	return fmt.Sprintf("guest-%04d", mathrand.IntN(10000))
}

func readToken(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	defer f.Close()
	const most = 16 << 10
	b, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	if len(b) > most {
		return "", fmt.Errorf("--token-file: %s is too large for a token", name)
	}
	return strings.TrimSpace(string(b)), nil
}

// interruptible ends with Ctrl-C or SIGTERM.
func interruptible() (context.Context, context.CancelFunc) {
	return signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
}

// dialTimeout bounds the first login of a command.
const dialTimeout = 15 * time.Second

// dial connects and explains what went wrong.
func dial(ctx context.Context, opt client.Options) (*client.Client, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	c, err := client.Dial(ctx, opt)
	if err != nil {
		return nil, explain(err, opt.Addrs)
	}
	return c, nil
}

// cause is an error of a connection in few words.
func cause(err error) string {
	var bye *client.ByeError
	var dialling *net.OpError
	switch {
	case errors.As(err, &bye) && bye.Reason != "":
		return printable(bye.Reason)
	case errors.As(err, &dialling):
		return dialling.Err.Error()
	case errors.Is(err, io.EOF):
		return "the server closed it"
	}
	return printable(err.Error())
}

// explain says what to do about an error of the client package and gives it its exit code.
func explain(err error, addrs []string) error {
	var code *client.CodeError
	var bye *client.ByeError
	var dialling *net.OpError
	var lookup *net.DNSError
	at := strings.Join(addrs, ", ")
	switch {
	case err == nil:
		return nil
	case errors.As(err, &code) && code.Temporary():
		return exitError{err, exitTemporary}
	case errors.As(err, &code):
		return exitError{err, exitRefused}
	case errors.As(err, &bye) && bye.Final():
		return exitError{err, exitRefused}
	case errors.As(err, &bye):
		return exitError{err, exitTemporary}
	case errors.Is(err, syscall.ECONNREFUSED):
		return exitError{fmt.Errorf("no server listens at %s: start one with \"gannetd\", or name another with --addr: %w", at, err), exitNoServer}
	case errors.Is(err, context.DeadlineExceeded):
		return exitError{fmt.Errorf("no answer in time from %s: is it a gannet server, and can it be reached?: %w", at, err), exitNoServer}
	case errors.Is(err, client.ErrNotConnected), errors.As(err, &dialling), errors.As(err, &lookup), errors.Is(err, io.EOF):
		return exitError{fmt.Errorf("no connection to %s: %w", at, err), exitNoServer}
	}
	return err
}
