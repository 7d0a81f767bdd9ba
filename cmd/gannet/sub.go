package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"gannet/client"
	"gannet/codec"
)

// subCmd prints what arrives, one line a message.
type subCmd struct {
	connFlags
	stateFlags
	Topic   []string      `help:"Topic to subscribe to; may be repeated. Messages to this user come without one." placeholder:"NAME" sep:"none"`
	Tag     []string      `help:"Only messages of the topics that carry one of these tags; may be repeated." placeholder:"TAG" sep:"none"`
	JSON    bool          `name:"json" help:"Print JSON lines."`
	Count   int           `help:"End after so many messages; 0: never." placeholder:"N"`
	Timeout time.Duration `help:"End after this time; with --count, that is a failure." placeholder:"D"`
	Quiet   bool          `short:"q" help:"Say nothing about the connection on standard error."`
}

// Help is shown by `gannet sub --help`.
func (*subCmd) Help() string {
	return "A line is: time, channel, sender, text. With --json it is an object with time, kind, channel, sender, content, tags, " +
		"and the payload as text, json or base64.\n\nStored messages to this user that no device of the user has acknowledged come first. With --state the next run goes on " +
		"exactly where this one ended, in topics, too; without it topics begin with what is said from now on.\n\n" +
		"  gannet sub --topic news --topic weather\n" +
		"  gannet sub --user archive --topic news --state /var/lib/archive --json >> news.jsonl\n" +
		"  gannet sub --user alice --json --count 1 --timeout 30s"
}

// Run implements the command.
func (s *subCmd) Run() error {
	ctx, stop := interruptible()
	defer stop()
	return s.run(ctx, os.Stdout, os.Stderr)
}

func (s *subCmd) run(ctx context.Context, out, notes io.Writer) error {
	if s.Quiet {
		notes = io.Discard
	}
	opt := s.options()
	st, err := s.open(&opt, s.Device)
	if err != nil {
		return err
	}
	defer st.close()
	p := printer{out: out, json: s.JSON, left: s.Count, done: make(chan error, 1), dialled: make(chan struct{})}
	opt.OnMessage = p.message
	opt.OnGap = func(g client.Gap) {
		if g.Reason != codec.GapFiltered {
			fmt.Fprintf(notes, "%s: %s\n", printable(g.Channel.String()), lost(g))
		}
	}
	opt.OnResume = func(r client.Resume) {
		fmt.Fprintf(notes, "%s: %v\n", printable(r.Channel.String()), r.State)
	}
	opt.OnRetry = func(r client.Retry) {
		fmt.Fprintf(notes, "no connection (%s), next try in %.1f s\n", cause(r.Err), r.After.Seconds())
	}
	opt.OnConnect = func(w client.Welcome) {
		fmt.Fprintf(notes, "connected to %s as %s\n", w.Addr, w.User)
	}
	opt.OnError = func(err error) { p.end(err) }
	expired := make(<-chan time.Time)
	if s.Timeout > 0 {
		timer := time.NewTimer(s.Timeout)
		defer timer.Stop()
		expired = timer.C
	}
	c, err := dial(ctx, opt)
	p.client = c
	close(p.dialled)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, topic := range s.Topic {
		if err := subscribe(ctx, c, topic, s.Tag); err != nil {
			return explain(p.outcome(err), opt.Addrs)
		}
		fmt.Fprintf(notes, "subscribed to %s\n", topic)
	}
	select {
	case err = <-p.done:
		return explain(err, opt.Addrs)
	case <-expired:
		if s.Count > 0 {
			return fmt.Errorf("fewer than %d messages came within %v", s.Count, s.Timeout)
		}
		return nil
	case <-c.Done():
		return explain(p.outcome(c.Err()), opt.Addrs)
	case <-ctx.Done(): // Ctrl-C is the usual end
		return nil
	}
}

func subscribe(ctx context.Context, c *client.Client, topic string, tags []string) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	return c.Subscribe(ctx, topic, tags...)
}

// printer writes messages on the client's dispatcher goroutine, so a slow pipe slows the server down.
type printer struct {
	out  io.Writer
	json bool
	left int // 0: no end
	over bool
	done chan error // one place: why to end

	dialled chan struct{} // closed when client is set
	client  *client.Client
}

func (p *printer) message(m client.Message) {
	if p.over {
		return
	}
	line := textLine(m)
	if p.json {
		line = jsonLine(m)
	}
	if _, err := io.WriteString(p.out, line+"\n"); err != nil {
		p.end(fmt.Errorf("write: %w", err))
		return
	}
	if p.left > 0 {
		if p.left--; p.left == 0 {
			p.end(nil)
		}
	}
}

// end has no further message handed over: with --state they come the next time.
func (p *printer) end(err error) {
	if !p.over {
		p.over = true
		p.done <- err
		select {
		case <-p.dialled:
			if p.client != nil {
				p.client.Stop()
			}
		case <-time.After(dialTimeout): // dialling has failed, and waits for this handler
		}
	}
}

// outcome is why it ends, if it does; otherwise err.
func (p *printer) outcome(err error) error {
	select {
	case err = <-p.done:
	default:
	}
	return err
}

func textLine(m client.Message) string {
	return fmt.Sprintf("%s %s %s %s", m.Time.Format("2006-01-02T15:04:05.000Z07:00"), printable(m.Channel.String()), printable(m.Sender), payloadText(m))
}

// payloadText shows a payload on one line and without anything that a terminal would act on.
func payloadText(m client.Message) string {
	if !utf8.Valid(m.Payload) || m.Content != client.UTF8 && m.Content != client.JSON && strings.ContainsFunc(string(m.Payload), notPrintable) {
		return fmt.Sprintf("%q", m.Payload)
	}
	return printable(string(m.Payload))
}

// line is one message of --json.
type line struct {
	Time    time.Time       `json:"time"`
	Kind    string          `json:"kind"`
	Channel string          `json:"channel"`
	Sender  string          `json:"sender"`
	Seq     uint64          `json:"seq,omitempty"`
	Content uint8           `json:"content"`
	Tags    []string        `json:"tags,omitempty"`
	Text    *string         `json:"text,omitempty"`
	JSON    json.RawMessage `json:"json,omitempty"`
	Base64  []byte          `json:"base64,omitempty"`
}

func jsonLine(m client.Message) string {
	l := line{
		Time: m.Time.UTC(), Kind: m.Channel.Kind.String(), Channel: m.Channel.Name, Sender: m.Sender,
		Seq: m.Seq, Content: uint8(m.Content), Tags: m.Tags,
	}
	switch {
	case m.Content == client.JSON && json.Valid(m.Payload):
		l.JSON = m.Payload
	case m.Content == client.UTF8 && utf8.Valid(m.Payload):
		text := string(m.Payload)
		l.Text = &text
	default:
		l.Base64 = m.Payload
	}
	b, err := json.Marshal(l)
	if err != nil { // no field can cause it
		panic(err)
	}
	return string(b)
}
