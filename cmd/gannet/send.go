package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"gannet/client"
)

// sendCmd sends a message and says by its exit code what became of it.
type sendCmd struct {
	connFlags
	To      string        `help:"User to send to." xor:"target" required:"" placeholder:"USER"`
	Group   string        `help:"Group to send to." xor:"target" required:"" placeholder:"NAME"`
	Topic   string        `help:"Topic to send to." xor:"target" required:"" placeholder:"NAME"`
	All     bool          `help:"Send to every session of the server; takes the right to broadcast." xor:"target" required:""`
	Durable bool          `help:"Have it stored for who is away; try until it is, and print its number in the channel."`
	Timeout time.Duration `help:"With --durable: give up after this time. Default: ${default}." default:"30s" placeholder:"D"`
	JSON    bool          `name:"json" help:"The text is JSON."`
	Tag     []string      `help:"Routing tag; may be repeated." placeholder:"TAG" sep:"none"`
	Count   int           `help:"How many times." default:"1" placeholder:"N"`
	Every   time.Duration `help:"Pause between two." placeholder:"D"`
	Text    []string      `arg:"" optional:"" help:"The text; without it, standard input is the message."`
}

// Help is shown by `gannet send --help`.
func (*sendCmd) Help() string {
	return "Prints nothing but errors; with --durable the number of each message in its channel, 0 if the server stored it long ago.\n\n" +
		"  gannet send --to alice hello there\n" +
		"  gannet send --to alice --durable --timeout 1m 'read this when you are back'\n" +
		"  gannet send --topic news --tag sport < report.txt\n" +
		"  gannet send --topic sensors --json --count 10 --every 1s '{\"t\":21.5}'"
}

// Run implements the command.
func (s *sendCmd) Run() error {
	ctx, stop := interruptible()
	defer stop()
	return s.run(ctx, os.Stdin, os.Stdout)
}

// answerTimeout bounds the wait for the answer to one message.
const answerTimeout = 10 * time.Second

func (s *sendCmd) run(ctx context.Context, stdin io.Reader, out io.Writer) error {
	m, err := s.message(stdin)
	if err != nil {
		return err
	}
	opt := s.options()
	if s.Durable {
		return explain(s.durably(ctx, opt, m, out), opt.Addrs)
	}
	c, err := dial(ctx, opt)
	if err != nil {
		return err
	}
	defer c.Close()
	return s.each(ctx, func() error { return explain(sendOne(ctx, c, m), opt.Addrs) })
}

// each sends as often as wished.
func (s *sendCmd) each(ctx context.Context, send func() error) error {
	for i := range max(1, s.Count) {
		if i > 0 && s.Every > 0 {
			if err := pause(ctx, s.Every); err != nil {
				return err
			}
		}
		if err := send(); err != nil {
			return err
		}
	}
	return nil
}

func sendOne(ctx context.Context, c *client.Client, m client.Message) error {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	_, err := c.Send(ctx, m)
	if err != nil && c.Err() != nil {
		return c.Err() // why there is no connection any more
	}
	return err
}

// durably sends through an outbox: no connection, or one that ends, is no error before the time is up.
func (s *sendCmd) durably(ctx context.Context, opt client.Options, m client.Message, out io.Writer) error {
	m.Durable = true
	var trouble atomic.Pointer[client.Retry] // the latest
	opt.OnRetry = func(r client.Retry) { trouble.Store(&r) }
	c, err := client.New(opt)
	if err != nil {
		return err
	}
	go c.Run(ctx) // Close waits for it
	defer c.Close()
	return s.each(ctx, func() error {
		one, cancel := context.WithTimeout(ctx, s.Timeout)
		defer cancel()
		r, err := c.Send(one, m)
		switch last := trouble.Load(); {
		case err == nil:
			_, err = fmt.Fprintln(out, r.Seq)
			return err
		case errors.Is(err, client.ErrClosed) && c.Err() != nil && ctx.Err() == nil:
			return c.Err() // why there is no connection any more
		case errors.Is(err, context.DeadlineExceeded) && last != nil:
			return fmt.Errorf("not stored within %v: %w", s.Timeout, last.Err)
		}
		return err
	})
}

func (s *sendCmd) message(stdin io.Reader) (client.Message, error) {
	var m client.Message
	text := strings.Join(s.Text, " ")
	if len(s.Text) == 0 {
		const most = 16 << 20 // no frame is longer
		b, err := io.ReadAll(io.LimitReader(stdin, most))
		if err != nil {
			return m, fmt.Errorf("read the message from standard input: %w", err)
		}
		text = strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	}
	if text == "" {
		return m, errors.New("nothing to send: give the text as arguments or on standard input")
	}
	switch {
	case s.All:
		m = client.Text(client.All(), text)
	case s.Topic != "":
		m = client.Text(client.Topic(s.Topic), text)
	case s.Group != "":
		m = client.Text(client.Group(s.Group), text)
	default:
		m = client.Text(client.User(s.To), text)
	}
	if s.JSON {
		if !json.Valid(m.Payload) {
			return m, errors.New("--json: the text is no valid JSON; quote it for the shell: '{\"a\":1}'")
		}
		m.Content = client.JSON
	}
	m.Tags = s.Tag
	return m, nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
