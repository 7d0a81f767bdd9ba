package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gannet/bench/verify"
	"gannet/server/auth"
)

// benchVerify checks a server's promises about durable messages.
type benchVerify struct {
	Addr string `help:"The server. Default: ${default}." default:"127.0.0.1:7000" env:"GANNET_ADDR" placeholder:"HOST:PORT"`

	SDK bool `name:"sdk" help:"Go through the Go SDK and check what an application sees; otherwise the devices speak the protocol themselves."`

	Users   int           `help:"Users." short:"n" default:"50"`
	Devices int           `help:"Devices of each, 1 or 2." default:"2"`
	Rate    float64       `help:"Messages per second in all." short:"r" default:"1000"`
	For     time.Duration `help:"How long to send." default:"10s"`
	Size    int           `help:"Longest payload in bytes, at least 16." default:"128"`

	Topics    int  `help:"Topics; every user follows one, a quarter of the messages goes there." default:"4"`
	Groups    int  `help:"Groups; a quarter of the messages goes there. Needs --admin." default:"0"`
	GroupSize int  `help:"Members of each." default:"5"`
	All       bool `help:"Send one message in 50 to everybody (needs the right to)."`

	Members float64 `help:"Users who join or leave a group a second." default:"0" placeholder:"N"`

	Admin      string `help:"Admin API, to make the groups with." placeholder:"HOST:PORT"`
	AdminToken string `help:"Its bearer token." env:"GANNET_ADMIN_TOKEN" placeholder:"TOKEN"`

	Churn    float64       `help:"Connections that are cut a second, all together." default:"0" placeholder:"N"`
	Away     time.Duration `help:"A device that was cut comes back after at most this long." default:"300ms"`
	TTLShare float64       `name:"ttl-share" help:"Share of the messages that expire after a second, 0 to 1." default:"0" placeholder:"X"`

	Window    int           `help:"Messages of a device that may be without a final answer." default:"64"`
	Settle    time.Duration `help:"When sending is over, wait at most this long for what is on its way, and again for the logs." default:"30s"`
	Quiet     time.Duration `help:"Nothing came for this long: it is over." default:"500ms"`
	MaxEvents int           `help:"Sends and receipts that are kept (24 to 40 bytes each); then sending ends." default:"20000000"`

	UserPrefix string `help:"Of users, topics and groups. Default: another one for each run." placeholder:"NAME"`
	TokenKey   string `help:"Key to make a token for every user with: an HMAC secret (.key) or an Ed25519 private key (PEM)." type:"path" placeholder:"FILE"`
	Seed       uint64 `help:"Of what is sent to whom and who is cut. Default: a random one." placeholder:"N"`

	JSON string `name:"json" help:"Write the whole report here, - for standard output." placeholder:"FILE"`
}

// Help is shown by `gannet bench verify --help`.
func (*benchVerify) Help() string {
	return "Devices send durable messages, lose their connections, come back and send again what was not answered; every send, answer and receipt " +
		"is kept. At the end the logs of all channels are read. Then it is checked that nothing acknowledged is lost, nothing came twice, in " +
		"another order, with a hole or with other bytes, and that what was received is still there.\n\n" +
		"The server may be killed and started again meanwhile: that is what it is for.\n\n" +
		"Exit code 0: no findings. 1: findings, or nothing could be checked."
}

func (c *benchVerify) options() (verify.Options, error) {
	o := verify.Options{
		Addr: c.Addr, SDK: c.SDK, Users: c.Users, Devices: c.Devices, Rate: c.Rate, For: c.For, Size: c.Size,
		Topics: c.Topics, Groups: c.Groups, GroupSize: c.GroupSize, All: c.All, Members: c.Members, Admin: c.Admin, AdminToken: c.AdminToken,
		Churn: c.Churn, Away: c.Away, TTLShare: c.TTLShare, Window: c.Window, Settle: c.Settle, Quiet: c.Quiet,
		MaxEvents: c.MaxEvents, UserPrefix: c.UserPrefix, Seed: c.Seed,
	}
	if c.TokenKey == "" {
		return o, nil
	}
	key, err := tokenReadKey(c.TokenKey, "")
	if err != nil {
		return o, fmt.Errorf("--token-key: %w", err)
	}
	grant := auth.Grant{Rights: auth.Everything, Expires: time.Now().Add(c.For + 24*time.Hour)}
	if _, err := benchToken(grant, key, c.UserPrefix+"0"); err != nil {
		return o, fmt.Errorf("--token-key: %w", err)
	}
	o.Token = func(user string) string {
		token, _ := benchToken(grant, key, user) // the key was tried above
		return token
	}
	return o, nil
}

// Run implements the command.
func (c *benchVerify) Run() error {
	o, err := c.options()
	if err != nil {
		return err
	}
	// The first Ctrl-C ends the sending early; from then on a second one ends the program.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	progress := benchProgress{out: os.Stderr}
	if isTerminal(os.Stderr) {
		progress.width = func() int { return terminalWidth(os.Stderr) }
	}
	o.Progress = func(s verify.Snapshot) { progress.line(s.Line()) }
	run, err := verify.Start(ctx, o)
	if err != nil {
		return verifyAdvise(err)
	}
	report, err := run.Wait()
	progress.end()
	if err != nil {
		return verifyAdvise(err)
	}
	return c.show(&report, os.Stdout, os.Stderr)
}

// show writes the report; its error is the verdict.
func (c *benchVerify) show(r *verify.Report, stdout, stderr io.Writer) error {
	table := stdout
	if c.JSON == "-" {
		table = stderr // standard output is the JSON's alone
	}
	if err := r.WriteTable(table); err != nil {
		return fmt.Errorf("writing the table: %w", err)
	}
	if err := c.writeJSON(r, stdout); err != nil {
		return err
	}
	switch {
	case r.OK():
		return nil
	case r.Clean() && r.Stored == 0:
		return errors.New("no message was stored, so nothing was checked")
	case r.Clean():
		return fmt.Errorf("%d frames of the server were malformed", r.Malformed)
	}
	return fmt.Errorf("%d findings", r.Total())
}

func (c *benchVerify) writeJSON(r *verify.Report, stdout io.Writer) error {
	if c.JSON == "" {
		return nil
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the report: %w", err)
	}
	data = append(data, '\n')
	if c.JSON == "-" {
		_, err = stdout.Write(data)
	} else {
		err = os.WriteFile(filepath.Clean(c.JSON), data, 0o644)
	}
	if err != nil {
		return fmt.Errorf("--json: writing the report: %w", err)
	}
	return nil
}

// verifyAdvise adds what to do to errors that a first-time user meets.
func verifyAdvise(err error) error {
	if errors.Is(err, verify.ErrNoServer) || errors.Is(err, unix.ECONNREFUSED) {
		return fmt.Errorf("%w\nStart a server with `gannetd`, or name another one with --addr or GANNET_ADDR", err)
	}
	return err
}
