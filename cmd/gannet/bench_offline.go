package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"gannet/bench"
)

// benchOffline measures how long devices that were away take to catch up.
type benchOffline struct {
	Addr string `help:"The server. Default: ${default}." default:"127.0.0.1:7000" env:"GANNET_ADDR" placeholder:"HOST:PORT"`

	Devices int     `help:"Devices that fall behind, each of a user of its own." short:"n" default:"5000"`
	Missed  int     `help:"Durable messages that each of them misses." short:"m" default:"100"`
	Size    int     `help:"Bytes of payload, at least 16." default:"64"`
	Pace    float64 `help:"Devices that come back a second. Default: all at once." default:"0" placeholder:"N"`

	Writers int `help:"Connections that write what is missed." default:"4"`
	Window  int `help:"Messages of a writer that may be unanswered." default:"256"`

	Rest time.Duration `help:"Pause between the last message that is missed and what follows: time to start the server anew." default:"0s" placeholder:"TIME"`

	Live      float64       `help:"Durable messages per second that other users send each other by a schedule meanwhile; 0 for none." default:"1000"`
	LiveConns int           `help:"Connections that talk live, in pairs." default:"100"`
	Before    time.Duration `help:"Measure the live traffic for this long before the devices come back." default:"3s"`
	Drain     time.Duration `help:"Wait at most this long for live messages on their way at the end." default:"5s"`
	Quiet     time.Duration `help:"Nothing was acknowledged or caught up for this long: go on or give up." default:"15s"`

	Heartbeat    time.Duration `help:"Heartbeat asked for." default:"15s"`
	UserPrefix   string        `help:"Users are this and a number. Two runs at once need two prefixes." default:"offline-"`
	TokenKey     string        `help:"Key to make a token for every user with: an HMAC secret (.key) or an Ed25519 private key (PEM)." type:"path" placeholder:"FILE"`
	Source       string        `help:"Source addresses, separated by commas. Against loopback as many as needed are found by themselves." placeholder:"IP,IP"`
	Loops        int           `help:"Threads that hold devices; live traffic has one of its own. Default: half the cores." default:"0" placeholder:"N"`
	LoginTimeout time.Duration `help:"Give up on a login after this long, and try again." default:"10s"`

	JSON   string `name:"json" help:"Write the whole report here, - for standard output." placeholder:"FILE"`
	Assert string `help:"Bounds, such as 'catch_up.seconds<=10,live_during.p99<=50ms'; exit code 1 when one does not hold. 'gannet bench --help' lists the metrics." placeholder:"LIST"`
}

// Help is shown by `gannet bench offline --help`.
func (*benchOffline) Help() string {
	return "Every device logs in once and leaves; writers send it what it misses; then all devices come back with the position that they " +
		"had, read, and acknowledge it. Catching up counts from when a device's connect was due to the last of its messages. A device " +
		"that the server sends away comes back when it says.\n\n" +
		"One device far behind: gannet bench offline -n 1 -m 10000 --live 0\n\n" +
		"The table's lost, duplicated and reordered are of the live traffic, but for those of what was missed. A bare p99 in --assert is the devices' " +
		"catch-up time; live_before.p99 and live_during.p99 are of the live traffic, before the devices come back and until all have caught up.\n\n" +
		"Exit code 0: all devices have all their messages, in order. 1: not so, an assertion failed, or nothing could be measured."
}

// options fills in what the flags say.
func (c *benchOffline) options() (bench.OfflineOptions, error) {
	shared := benchFlags{TokenKey: c.TokenKey, Source: c.Source, UserPrefix: c.UserPrefix}
	o, err := shared.options(bench.Options{})
	return bench.OfflineOptions{
		Addr: c.Addr, Devices: c.Devices, Missed: c.Missed, Size: c.Size, Pace: c.Pace, Writers: c.Writers, Window: c.Window, Rest: c.Rest,
		Live: c.Live, LiveConns: c.LiveConns, Before: c.Before, Drain: c.Drain, Quiet: c.Quiet, Heartbeat: c.Heartbeat, UserPrefix: c.UserPrefix,
		Token: o.Token, Sources: o.Sources, Loops: c.Loops, LoginTimeout: c.LoginTimeout,
	}, err
}

// Run implements the command.
func (c *benchOffline) Run() error {
	asserts, err := bench.ParseAssertions(c.Assert)
	if err != nil {
		return fmt.Errorf("--assert: %w", err)
	}
	o, err := c.options()
	if err != nil {
		return err
	}
	// The first Ctrl-C ends the run early; from then on a second one ends the program.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	progress := benchProgress{out: os.Stderr}
	if isTerminal(os.Stderr) {
		progress.width = func() int { return terminalWidth(os.Stderr) }
	}
	report, err := bench.RunOffline(ctx, o, progress.show)
	progress.end()
	if err != nil {
		return benchAdvise(err)
	}
	return c.show(&report, asserts, os.Stdout, os.Stderr)
}

// show writes the report; its error is the verdict.
func (c *benchOffline) show(r *bench.Report, asserts []bench.Assertion, stdout, stderr io.Writer) error {
	table := stdout
	if c.JSON == "-" {
		table = stderr // standard output is the JSON's alone
	}
	if err := r.WriteTable(table); err != nil {
		return fmt.Errorf("writing the table: %w", err)
	}
	if err := benchWriteJSON(c.JSON, r); err != nil {
		return err
	}
	var verdict error
	switch o := r.Offline; {
	case r.Interrupted:
		verdict = errors.New("interrupted before all devices had caught up")
	case !o.OK():
		verdict = fmt.Errorf("%d devices did not catch up; %d messages lost, %d out of order", o.Behind, o.Lost, o.Reordered)
	}
	return errors.Join(verdict, benchJudge(stderr, asserts, r))
}
