package server_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"time"

	"gannet/codec"
	"gannet/server"
	"gannet/server/servertest"
	"gannet/shard"
)

// A program of its own with a server inside: it learns who comes and what is said, and answers.
func Example() {
	events := make(chan string, 10)
	s, err := server.New(server.Options{
		Listen: servertest.Addr(), // a fixed one in a real program: "127.0.0.1:7000"
		Admin:  "off",
		Store:  "memory",
		Logger: slog.New(slog.DiscardHandler),
		Handlers: server.Handlers{
			Online:  func(s server.Session) { events <- s.User + " is online" },
			Offline: func(s server.Session, _ codec.Code) { events <- s.User + " is offline" },
			Message: func(m server.Message) {
				events <- fmt.Sprintf("%s to %v %s: %s", m.From.User, m.Kind, m.Name, m.Payload)
			},
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error)
	go func() { ended <- s.Run(ctx) }()
	<-s.Ready()

	// A client, as raw as can be; package client is the comfortable one.
	conn, err := net.DialTimeout("tcp", s.Addr(), 5*time.Second)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, _ = conn.Write(codec.AppendHello(nil, codec.Hello{Version: codec.Version, User: []byte("ada"), Device: []byte("laptop")}))
	fmt.Println(<-events)
	_, _ = conn.Write(codec.AppendSend(nil, codec.Send{Kind: codec.KindTopic, Name: []byte("lobby"), Payload: []byte("anybody here?")}))
	fmt.Println(<-events)

	targets, code := s.Publish(shard.Publication{Kind: codec.KindDirect, Name: "ada", Sender: "host", Payload: []byte("welcome")})
	fmt.Printf("told %d session: %v\n", targets, code)

	_ = conn.Close()
	fmt.Println(<-events)
	stop()
	fmt.Println("ended:", <-ended)
	// Output:
	// ada is online
	// ada to topic lobby: anybody here?
	// told 1 session: OK
	// ada is offline
	// ended: <nil>
}
