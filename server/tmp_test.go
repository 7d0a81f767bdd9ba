package server_test

import (
	"fmt"
	"testing"

	"gannet/codec"
	"gannet/server"
	"gannet/server/servertest"
)

func TestTmpHalf(t *testing.T) {
	n := servertest.Start(t, server.Options{Loops: 2})
	bad := 0
	var conns []*servertest.Conn
	for i := range 400 {
		c := servertest.Dial(t, n.Addr())
		c.Send(append(servertest.Hello(fmt.Sprint("u", i), "d"), directSend(9, "bob", "last words")...))
		c.CloseWrite()
		conns = append(conns, c)
	}
	for _, c := range conns {
		f, err := c.ReadFrame()
		if err != nil || f.Type != codec.TypeWelcome {
			bad++
		}
	}
	t.Logf("bad %d", bad)
}
