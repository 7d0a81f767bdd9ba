// Package servertest runs a real server inside a test and talks to it byte by byte. It is for tests alone: of
// package server, and of every other package that wants a server at the other end of a socket.
//
//	n := servertest.Start(t, server.Options{})     // free ports of 127.0.0.1, ended with the test
//	alice := servertest.Login(t, n.Addr(), "alice", "phone")
//	alice.Send(codec.AppendPing(nil, codec.Ping{}))
//	servertest.Expect(alice, codec.TypePong, codec.ConsumePing)
//
// A Node owns its server's goroutine and ends it in the test's cleanup at the latest. A Conn belongs to the
// goroutine of the test that made it; what fails in it fails the test. Every read has a deadline.
package servertest
