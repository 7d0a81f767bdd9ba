package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"gannet/client"
)

// sendCmd sends a message and says by its exit code what became of it.
type sendCmd struct {
	connFlags
	To    string        `help:"User to send to." xor:"target" required:"" placeholder:"USER"`
	Topic string        `help:"Topic to send to." xor:"target" required:"" placeholder:"NAME"`
	All   bool          `help:"Send to every session of the server; takes the right to broadcast." xor:"target" required:""`
	JSON  bool          `name:"json" help:"The text is JSON."`
	Tag   []string      `help:"Routing tag; may be repeated." placeholder:"TAG" sep:"none"`
	Count int           `help:"How many times." default:"1" placeholder:"N"`
	Every time.Duration `help:"Pause between two." placeholder:"D"`
	Text  []string      `arg:"" optional:"" help:"The text; without it, standard input is the message."`
}

// Help is shown by `gannet send --help`.
func (*sendCmd) Help() string {
	return "Prints nothing but errors.\n\n" +
		"  gannet send --to alice hello there\n" +
		"  gannet send --topic news --tag sport < report.txt\n" +
		"  gannet send --topic sensors --json --count 10 --every 1s '{\"t\":21.5}'"
}

// Run implements the command.
func (s *sendCmd) Run() error {
	ctx, stop := interruptible()
	defer stop()
	return s.run(ctx, os.Stdin)
}

// answerTimeout bounds the wait for the answer to one message.
const answerTimeout = 10 * time.Second

func (s *sendCmd) run(ctx context.Context, stdin io.Reader) error {
	m, err := s.message(stdin)
	if err != nil {
		return err
	}
	opt := s.options()
	c, err := dial(ctx, opt)
	if err != nil {
		return err
	}
	defer c.Close()
	for i := range max(1, s.Count) {
		if i > 0 && s.Every > 0 {
			if err := pause(ctx, s.Every); err != nil {
				return err
			}
		}
		if err := sendOne(ctx, c, m); err != nil {
			return explain(err, opt.Addrs)
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
