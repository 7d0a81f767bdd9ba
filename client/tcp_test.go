package client

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"strconv"
	"testing"
	"time"

	"gannet/codec"
)

// listen takes a free port of 127.0.0.1 below the ephemeral ones.
func listen(t *testing.T) net.Listener {
	t.Helper()
	for range 200 {
		ln, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(20000+mathrand.IntN(12000)))
		if err == nil {
			t.Cleanup(func() { ln.Close() })
			return ln
		}
	}
	t.Fatal("no free port")
	return nil
}

// echoServer logs one connection in, answers each SEND and brings it back as a MSG; it ends when the client
// has closed its side, and tells how many SENDs came.
func echoServer(t *testing.T, ln net.Listener) chan int {
	sends := make(chan int, 1)
	go func() {
		n := 0
		defer func() { sends <- n }()
		nc, err := ln.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		r := newFrameReader(nc, codec.MaxBody)
		for {
			f, err := r.next(time.Now().Add(20 * time.Second))
			if err != nil {
				if err != io.EOF {
					t.Errorf("the client's stream ended with %v, want EOF", err)
				}
				return
			}
			var out []byte
			switch f.Type {
			case codec.TypeHello:
				out = codec.AppendWelcome(nil, welcome())
			case codec.TypeSend:
				s, _ := codec.ConsumeSend(f)
				n++
				out = codec.AppendMsg(nil, codec.Msg{Ext: s.Ext, Kind: s.Kind, Name: s.Name, Sender: []byte("alice"), Content: s.Content, Payload: s.Payload})
				if s.Req != 0 {
					out = codec.AppendSendAck(out, codec.SendAck{Req: s.Req})
				}
			}
			if _, err := nc.Write(out); err != nil {
				t.Errorf("write: %v", err)
			}
		}
	}()
	return sends
}

func overSocket(t *testing.T, ln net.Listener, opt Options) {
	t.Helper()
	sends := echoServer(t, ln)
	got := make(chan Message, 16)
	opt.Addrs, opt.User, opt.KeepEcho = []string{ln.Addr().String()}, "alice", true
	opt.OnMessage = func(m Message) { got <- m }
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := Dial(ctx, opt)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Send(ctx, Text(Topic("news"), "hello")); err != nil {
		t.Fatal(err)
	}
	if m := <-got; string(m.Payload) != "hello" || !m.Echo {
		t.Errorf("got %+v", m)
	}
	for range 10 {
		if err := c.SendAsync(Text(Topic("news"), "bye")); err != nil {
			t.Fatal(err)
		}
	}
	c.Close()
	if n := <-sends; n != 11 {
		t.Errorf("%d sends came, want 11", n)
	}
}

func TestOverTCP(t *testing.T) {
	overSocket(t, listen(t), Options{})
}

func TestOverTLS(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(cert)
	ln := tls.NewListener(listen(t), &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	overSocket(t, ln, Options{TLS: &tls.Config{RootCAs: roots}})

	// A server that nobody vouches for is refused.
	go func() {
		if nc, err := ln.Accept(); err == nil {
			nc.(*tls.Conn).Handshake()
			nc.Close()
		}
	}()
	_, err = Dial(t.Context(), Options{Addrs: []string{ln.Addr().String()}, User: "alice", TLS: &tls.Config{RootCAs: x509.NewCertPool()}})
	if err == nil {
		t.Error("an unknown certificate was accepted")
	}
}
