package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"gannet/client"
	"gannet/server"
	"gannet/server/auth"
	"gannet/server/servertest"
)

// Two people talk.
func Example() {
	addr, stop := startServer(nil)
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	heard := make(chan client.Message, 10)
	hear := func(m client.Message) { heard <- m }
	alice, err := client.Dial(ctx, client.Options{Addrs: []string{addr}, User: "alice", OnMessage: hear})
	if err != nil {
		log.Fatal(err)
	}
	defer alice.Close()
	bob, err := client.Dial(ctx, client.Options{Addrs: []string{addr}, User: "bob", OnMessage: hear})
	if err != nil {
		log.Fatal(err)
	}
	defer bob.Close()

	if _, err := alice.Send(ctx, client.Text(client.User("bob"), "the kettle is on")); err != nil {
		log.Fatal(err)
	}
	m := <-heard
	fmt.Printf("%s: %s\n", m.Sender, m.Payload)

	// An answer goes to the channel that the message came from.
	if _, err := bob.Send(ctx, client.Text(m.Channel, "I am on my way")); err != nil {
		log.Fatal(err)
	}
	m = <-heard
	fmt.Printf("%s: %s\n", m.Sender, m.Payload)
	// Output:
	// alice: the kettle is on
	// bob: I am on my way
}

// A subscription with tags brings only the messages that carry one of them.
func ExampleClient_Subscribe() {
	addr, stop := startServer(nil)
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	heard := make(chan client.Message, 10)
	reader, err := client.Dial(ctx, client.Options{
		Addrs: []string{addr}, User: "reader",
		OnMessage: func(m client.Message) { heard <- m },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer reader.Close()
	if err := reader.Subscribe(ctx, "news", "sport", "weather"); err != nil {
		log.Fatal(err)
	}

	editor, err := client.Dial(ctx, client.Options{Addrs: []string{addr}, User: "editor"})
	if err != nil {
		log.Fatal(err)
	}
	defer editor.Close()
	for _, item := range []struct{ tag, text string }{
		{"sport", "a draw"}, {"politics", "a debate"}, {"weather", "some rain"},
	} {
		m := client.Text(client.Topic("news"), item.text)
		m.Tags = []string{item.tag}
		if _, err := editor.Send(ctx, m); err != nil {
			log.Fatal(err)
		}
	}
	for range 2 {
		m := <-heard
		fmt.Printf("%v %v: %s\n", m.Channel, m.Tags, m.Payload)
	}
	// Output:
	// topic:news [sport]: a draw
	// topic:news [weather]: some rain
}

// A state is a value that others see now and whoever subscribes later sees at once. With ttl 0 it lasts
// as long as the session that set it, which makes it presence.
func ExampleClient_SetState() {
	addr, stop := startServer(nil)
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	lobby := client.Topic("lobby")

	// States end with their session, so they are set after each login.
	var alice *client.Client
	online := make(chan bool, 10)
	alice, err := client.New(client.Options{
		Addrs: []string{addr}, User: "alice",
		OnConnect: func(client.Welcome) {
			if err := alice.SetState(ctx, lobby, "presence", 0, []byte("here")); err != nil {
				log.Print(err)
			}
			online <- true
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	go alice.Run(ctx) // until Close
	<-online

	seen := make(chan client.State, 10)
	bob, err := client.Dial(ctx, client.Options{
		Addrs: []string{addr}, User: "bob",
		OnState: func(s client.State) { seen <- s },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer bob.Close()
	if err := bob.Subscribe(ctx, "lobby"); err != nil {
		log.Fatal(err)
	}
	s := <-seen
	fmt.Printf("%s %s: %s\n", s.User, s.Key, s.Payload)

	alice.Close()
	s = <-seen
	fmt.Printf("%s is gone: %t\n", s.User, len(s.Payload) == 0)
	// Output:
	// alice presence: here
	// alice is gone: true
}

// A client with a Token function gets a fresh token before the old one expires; the connection stays.
func ExampleOptions_token() {
	key := []byte("a secret of 32 bytes or more than that")
	addr, stop := startServer(key)
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	// In an application the token comes from whoever logs users in; the key stays there.
	issued := 0
	renewed := make(chan bool, 10)
	token := func(context.Context) (string, error) {
		if issued++; issued > 1 {
			renewed <- true
		}
		fmt.Println("token", issued)
		return auth.Grant{User: "alice", Expires: time.Now().Add(3 * time.Second)}.Sign(key)
	}
	// User may be empty: the token says it.
	alice, err := client.Dial(ctx, client.Options{
		Addrs: []string{addr}, Token: token,
		OnConnect: func(w client.Welcome) { fmt.Println("connected as", w.User) },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer alice.Close()
	<-renewed

	// A wrong one ends Run, and Dial, with the server's reason.
	_, err = client.Dial(ctx, client.Options{Addrs: []string{addr}, User: "alice", StaticToken: "guessed"})
	var bye *client.ByeError
	if errors.As(err, &bye) {
		fmt.Println(bye.Code, bye.Reason)
	}
	// Output:
	// token 1
	// connected as alice
	// token 2
	// UNAUTHORIZED the token is malformed
}

// startServer runs a server on loopback; with a key it wants tokens that are signed by it. A real one is gannetd.
func startServer(key []byte) (addr string, stop func()) {
	o := server.Options{Drain: time.Millisecond, Logger: slog.New(slog.DiscardHandler)}
	if key != nil {
		dir, err := os.MkdirTemp("", "example")
		if err != nil {
			log.Fatal(err)
		}
		defer os.RemoveAll(dir)
		file := filepath.Join(dir, "dev.key")
		if err := os.WriteFile(file, append([]byte("text:"), key...), 0o600); err != nil {
			log.Fatal(err)
		}
		// Without leeway a token is refused from the moment on that it names.
		if o.Auth, err = auth.NewJWT(auth.JWTConfig{KeyFiles: []string{file}, Leeway: -1}); err != nil {
			log.Fatal(err)
		}
	}
	s, err := servertest.New(o)
	if err != nil {
		log.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	<-s.Ready()
	return s.Addr(), func() {
		cancel()
		if err := <-ended; err != nil {
			log.Print(err)
		}
	}
}

// A message to somebody who is away arrives when they come, and its sender hears how far it has got.
func ExampleClient_Post() {
	addr, stop := startServer(nil)
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	// What is in this file is sent when there is a connection, by this process or a later one.
	outbox, err := client.OpenOutbox(filepath.Join(dir, "outbox"), client.OutboxOptions{Sync: true})
	if err != nil {
		log.Fatal(err)
	}
	defer outbox.Close()
	news := make(chan client.Status, 10)
	alice, err := client.Dial(ctx, client.Options{
		Addrs: []string{addr}, User: "alice", Device: "phone", Outbox: outbox,
		OnStatus: func(s client.Status) { news <- s },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer alice.Close()
	if _, err := alice.Post(client.Durable(client.User("bob"), "see you at six")); err != nil {
		log.Fatal(err)
	}
	fmt.Println((<-news).State)

	// Bob comes later, and would go on from there after a restart.
	positions, err := client.OpenPositions(filepath.Join(dir, "positions"))
	if err != nil {
		log.Fatal(err)
	}
	defer positions.Close()
	heard := make(chan client.Message, 10)
	bob, err := client.Dial(ctx, client.Options{
		Addrs: []string{addr}, User: "bob", Device: "laptop", Positions: positions,
		OnMessage: func(m client.Message) { heard <- m },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer bob.Close()
	m := <-heard
	fmt.Printf("%s: %s\n", m.Sender, m.Payload)
	s := <-news
	fmt.Println(s.State, "to", s.User)
	if err := bob.MarkRead(m.Channel, m.Seq); err != nil {
		log.Fatal(err)
	}
	s = <-news
	fmt.Println(s.State, "by", s.User)
	// Output:
	// sent
	// alice: see you at six
	// delivered to bob
	// read by bob
}

// Conversations and their history.
func ExampleClient_List() {
	addr, stop := startServer(nil)
	defer stop()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	alice, err := client.Dial(ctx, client.Options{Addrs: []string{addr}, User: "alice"})
	if err != nil {
		log.Fatal(err)
	}
	defer alice.Close()
	for _, text := range []string{"hello?", "are you there?", "call me"} {
		if _, err := alice.Send(ctx, client.Durable(client.User("bob"), text)); err != nil {
			log.Fatal(err)
		}
	}

	bob, err := client.Dial(ctx, client.Options{Addrs: []string{addr}, User: "bob"})
	if err != nil {
		log.Fatal(err)
	}
	defer bob.Close()
	all, err := bob.List(ctx, 0, 20)
	if err != nil {
		log.Fatal(err)
	}
	for _, conv := range all.List {
		fmt.Printf("%v: %d unread\n", conv.Channel, conv.Unread)
		h, err := bob.Last(ctx, conv.Channel, 2)
		if err != nil {
			log.Fatal(err)
		}
		for _, m := range h.Messages {
			fmt.Printf("  %d %s: %s\n", m.Seq, m.Sender, m.Payload)
		}
	}
	// Output:
	// direct:alice: 3 unread
	//   2 alice: are you there?
	//   3 alice: call me
}
