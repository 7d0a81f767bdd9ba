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
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gannet/bench"
	"gannet/codec"
	"gannet/server/auth"
)

// benchCmd puts load on a server.
type benchCmd struct {
	Conn      benchConn      `cmd:"" help:"Log in many connections and hold them: login rate and latency, heartbeats, false closes."`
	P2P       benchP2P       `cmd:"" name:"p2p" help:"Direct messages between pairs at a fixed rate: latency, loss, order."`
	Broadcast benchBroadcast `cmd:"" help:"Few publish at a fixed rate, all receive: latency and loss of every delivery."`
	Offline   benchOffline   `cmd:"" help:"Devices fall behind and come back: how long until they have caught up, and what live traffic feels of it."`
	Verify    benchVerify    `cmd:"" help:"Durable messages under churn and crashes: nothing lost, twice, out of order or altered."`
}

// benchFlags are the flags of every scenario.
type benchFlags struct {
	Addr      string        `help:"The server. Default: ${default}." default:"127.0.0.1:7000" env:"GANNET_ADDR" placeholder:"HOST:PORT"`
	Conns     int           `help:"Connections; with broadcast subscribers." short:"n" default:"1000"`
	Ramp      float64       `help:"Logins per second. Default: as fast as they go." default:"0" placeholder:"N"`
	Heartbeat time.Duration `help:"Heartbeat asked for; own PINGs go out every nine tenths of it." default:"15s"`
	Passive   bool          `help:"Send no PING, only answer the server's."`

	UserPrefix   string        `help:"Users are this and a number. Two runs at once need two prefixes." default:"bench-"`
	TokenKey     string        `help:"Key to make a token for every user with: an HMAC secret (.key) or an Ed25519 private key (PEM)." type:"path" placeholder:"FILE"`
	Source       string        `help:"Source addresses, separated by commas. Against loopback as many as needed are found by themselves." placeholder:"IP,IP"`
	Loops        int           `help:"Threads that hold connections. Default: half the cores." default:"0" placeholder:"N"`
	LoginTimeout time.Duration `help:"Give up on a login after this long." default:"10s"`

	JSON   string `name:"json" help:"Write the whole report here, - for standard output." placeholder:"FILE"`
	Assert string `help:"Bounds, such as 'p99<50ms,lost=0,achieved>=0.98'; exit code 1 when one does not hold. 'gannet bench --help' lists the metrics." placeholder:"LIST"`
}

// benchLoad are the flags of scenarios that send.
type benchLoad struct {
	Rate   float64       `help:"Messages per second in all, sent by a schedule that waits for nobody." short:"r" default:"1000"`
	Size   int           `help:"Bytes of payload, at least 16." default:"64"`
	For    time.Duration `help:"How long to measure." default:"10s"`
	Warmup time.Duration `help:"Send for this long before; not counted." default:"1s"`
	Drain  time.Duration `help:"Wait at most this long for what is still on its way." default:"5s"`
	Acks   bool          `help:"Ask for an acknowledgement of every message." default:"true" negatable:""`
}

type benchConn struct {
	benchFlags
	Topic string        `help:"Topic that every connection subscribes to." placeholder:"NAME"`
	Hold  time.Duration `help:"How long to hold the connections after the last login." default:"30s"`
}

type benchP2P struct {
	benchFlags
	benchLoad
}

type benchBroadcast struct {
	benchFlags
	benchLoad
	Topic      []string `help:"Topic to broadcast to; with several, subscriber i takes topic i modulo their number. Default: bench." placeholder:"NAME"`
	All        bool     `help:"Broadcast to every session instead (needs the right to)."`
	Publishers int      `help:"Publishers. Default: one a topic." default:"0" placeholder:"N"`
}

// Run implements the command.
func (c *benchConn) Run() error {
	o := bench.Options{Scenario: bench.ScenarioConn, For: c.Hold}
	if c.Topic != "" {
		o.Topics = []string{c.Topic}
	}
	return c.run(o)
}

// Run implements the command.
func (c *benchP2P) Run() error { return c.run(c.load(bench.ScenarioP2P)) }

// Run implements the command.
func (c *benchBroadcast) Run() error {
	o := c.load(bench.ScenarioBroadcast)
	o.Topics, o.All, o.Publishers = c.Topic, c.All, c.Publishers
	return c.run(o)
}

func (c *benchLoad) load(s bench.Scenario) bench.Options {
	return bench.Options{Scenario: s, Rate: c.Rate, Size: c.Size, For: c.For, Warmup: c.Warmup, Drain: c.Drain, Acks: c.Acks}
}

// Help is shown by `gannet bench --help`.
func (*benchCmd) Help() string {
	return "Load is an open loop: a schedule says when each message is due, latency counts from then, and a server that " +
		"stalls is not asked less often. The report says when the generator itself was too slow.\n\n" +
		"First use: gannet bench conn -n 1000 --hold 10s\n\n" +
		"Metrics of --assert: " + strings.Join(bench.MetricNames(), ", ") + ". Latencies (min to max) are compared with " +
		"durations and mean login for conn, catch_up for offline, delivery otherwise; login.p99, ping.p99, delivery.p99, ack.p99, send_delay.p99, " +
		"catch_up.p99, live_before.p99 and live_during.p99 name one. achieved, late and busiest are shares from 0 to 1, cpu counts cores, the others are numbers."
}

// options fills in what all scenarios have in common.
func (c *benchFlags) options(o bench.Options) (bench.Options, error) {
	o.Addr, o.Conns, o.Ramp, o.Heartbeat, o.Passive = c.Addr, c.Conns, c.Ramp, c.Heartbeat, c.Passive
	o.UserPrefix, o.Loops, o.LoginTimeout = c.UserPrefix, c.Loops, c.LoginTimeout
	var err error
	if o.Sources, err = bench.ParseSources(c.Source); err != nil {
		return o, fmt.Errorf("--source: %w", err)
	}
	if c.TokenKey == "" {
		return o, nil
	}
	key, err := tokenReadKey(c.TokenKey, "")
	if err != nil {
		return o, fmt.Errorf("--token-key: %w", err)
	}
	// A token outlives the run; how long its ramp takes nobody knows.
	grant := auth.Grant{Rights: auth.Everything, Expires: time.Now().Add(o.Warmup + o.For + 24*time.Hour)}
	if _, err := benchToken(grant, key, c.UserPrefix+"0"); err != nil {
		return o, fmt.Errorf("--token-key: %w", err)
	}
	o.Token = func(user string) string {
		token, _ := benchToken(grant, key, user) // the key was tried above; without a token the server refuses, which is counted
		return token
	}
	return o, nil
}

func benchToken(grant auth.Grant, key any, user string) (string, error) {
	grant.User = user
	return grant.Sign(key)
}

// run makes one run, shows it and judges it.
func (c *benchFlags) run(o bench.Options) error {
	asserts, err := bench.ParseAssertions(c.Assert)
	if err != nil {
		return fmt.Errorf("--assert: %w", err)
	}
	if o, err = c.options(o); err != nil {
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
	report, err := bench.Run(ctx, o, progress.show)
	progress.end()
	if err != nil {
		return benchAdvise(err)
	}
	table := io.Writer(os.Stdout)
	if c.JSON == "-" {
		table = os.Stderr // standard output is the JSON's alone
	}
	if err := report.WriteTable(table); err != nil {
		return fmt.Errorf("writing the table: %w", err)
	}
	if err := benchWriteJSON(c.JSON, &report); err != nil {
		return err
	}
	return benchJudge(os.Stderr, asserts, &report)
}

// benchJudge writes a line for every assertion that does not hold.
func benchJudge(w io.Writer, asserts []bench.Assertion, r *bench.Report) error {
	failed := 0
	for _, a := range asserts {
		if err := a.Check(r); err != nil {
			failed++
			fmt.Fprintf(w, "FAILED %v\n", err)
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d assertions failed", failed, len(asserts))
	}
	return nil
}

// benchAdvise adds what to do to errors that a first-time user meets.
func benchAdvise(err error) error {
	var refused *bench.RefusedError
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return fmt.Errorf("%w\nNothing listens there. Start a server with `gannetd`, or name another one with --addr or GANNET_ADDR", err)
	case errors.As(err, &refused) && refused.Code == codec.CodeUnauthorized:
		return fmt.Errorf("%w\nThe server wants tokens: give the key that signs them with --token-key", err)
	case errors.As(err, &refused) && refused.Code == codec.CodeReplaced:
		return fmt.Errorf("%w\nAnother run uses the same users: choose another --user-prefix", err)
	}
	return err
}

// benchWriteJSON writes the report to a file, - for standard output, nothing for no name.
func benchWriteJSON(name string, r *bench.Report) error {
	if name == "" {
		return nil
	}
	data, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the report: %w", err)
	}
	data = append(data, '\n')
	if name == "-" {
		_, err = os.Stdout.Write(data)
	} else {
		err = os.WriteFile(filepath.Clean(name), data, 0o644)
	}
	if err != nil {
		return fmt.Errorf("--json: writing the report: %w", err)
	}
	return nil
}

// benchProgress shows a line a second: on a terminal always the same one.
type benchProgress struct {
	out   io.Writer
	width func() int // columns; nil: no terminal
	shown bool
}

func (p *benchProgress) show(s bench.Snapshot) { p.line(s.Line()) }

func (p *benchProgress) line(text string) {
	p.shown = true
	if p.width != nil {
		fmt.Fprintf(p.out, "\r\x1b[K%s", clip(text, p.width()-1))
		return
	}
	fmt.Fprintln(p.out, text)
}

// end leaves the cursor on a new line.
func (p *benchProgress) end() {
	if p.width != nil && p.shown {
		fmt.Fprintln(p.out)
	}
}
