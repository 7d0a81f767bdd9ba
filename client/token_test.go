package client

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gannet/codec"
)

func jwt(exp time.Time, id int) string {
	claims := fmt.Sprintf(`{"sub":"alice","exp":%d,"jti":"%d"}`, exp.Unix(), id)
	return "eyJhbGciOiJIUzI1NiJ9." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln"
}

func TestTokenExpiry(t *testing.T) {
	exp := time.Unix(1_900_000_000, 0)
	for token, want := range map[string]time.Time{
		jwt(exp, 1): exp,
		"a." + base64.RawURLEncoding.EncodeToString([]byte(`{"exp":1900000000.5}`)) + ".b": exp.Add(500 * time.Millisecond),
		"a." + base64.RawURLEncoding.EncodeToString([]byte(`{"sub":"x"}`)) + ".b":          {},
		"a." + base64.RawURLEncoding.EncodeToString([]byte(`{"exp":"soon"}`)) + ".b":       {},
		"a." + base64.RawURLEncoding.EncodeToString([]byte(`{"exp":1e300}`)) + ".b":        {},
		"a.!!!.b": {}, "opaque": {}, "": {}, "a.b.c.d": {},
	} {
		if got := tokenExpiry(token); !got.Equal(want) {
			t.Errorf("%q: %v, want %v", token, got, want)
		}
	}
}

func TestTokenRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		var calls atomic.Int32
		opt.Token = func(context.Context) (string, error) {
			return jwt(time.Now().Add(1000*time.Second), int(calls.Add(1))), nil
		}
		failed := make(chan error, 8)
		opt.OnError = func(err error) { failed <- err }
		_, p := h.connected(opt)
		nextAuth := func(after time.Duration) string {
			t.Helper()
			begin := time.Now()
			stop := p.answerPings()
			f := <-stop
			a, err := codec.ConsumeAuthToken(f)
			if err != nil || f.Type != codec.TypeAuth {
				t.Fatalf("%v: %v", f.Type, err)
			}
			if d := time.Since(begin); d < after-time.Second || d > after+time.Second {
				t.Errorf("AUTH after %v, want %v", d, after)
			}
			return string(a.Token)
		}
		// 80 % of what the token says.
		if got := tokenExpiry(nextAuth(800 * time.Second)); time.Until(got) < 990*time.Second {
			t.Errorf("the new token ends in %v", time.Until(got))
		}
		// What the server says counts more.
		p.send(codec.AppendAuthResult(nil, codec.AuthResult{Expires: uint64(time.Now().Add(500 * time.Second).UnixMilli())}))
		nextAuth(400 * time.Second)
		// Refused: again after 80 % of the rest.
		p.send(codec.AppendAuthResult(nil, codec.AuthResult{Code: codec.CodeUnauthorized}))
		wantCode(t, <-failed, codec.CodeUnauthorized)
		nextAuth(80 * time.Second)
		// No answer is a failure, too.
		if err := <-failed; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("OnError(%v)", err)
		}
		if n := calls.Load(); n != 4 {
			t.Errorf("%d tokens were fetched", n)
		}
	})
}

// answerPings keeps the connection alive and yields the first frame that is no PING.
func (p *peer) answerPings() chan codec.Frame {
	ch := make(chan codec.Frame, 1)
	go func() {
		for f := range p.frames {
			if f.Type != codec.TypePing {
				ch <- f
				return
			}
			p.nc.Write(codec.AppendPong(nil, codec.Ping{Data: f.Body}))
		}
		close(ch)
	}()
	return ch
}

// The server's clock decides, not ours.
func TestTokenRefreshWithSkewedClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		ahead := time.Hour
		opt.Token = func(context.Context) (string, error) {
			return jwt(time.Now().Add(ahead+100*time.Second), 1), nil
		}
		h.run(opt)
		p := h.peer()
		w := welcome()
		w.Time = uint64(time.Now().Add(ahead).UnixMilli())
		p.login(w)
		begin := time.Now()
		f := <-p.answerPings()
		if d := time.Since(begin); f.Type != codec.TypeAuth || d < 79*time.Second || d > 81*time.Second {
			t.Errorf("%v after %v", f.Type, d)
		}
	})
}

func TestUnauthorizedIsTriedOnceMore(t *testing.T) {
	for _, code := range []codec.Code{codec.CodeUnauthorized, codec.CodeExpired} {
		t.Run(code.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHarness(t)
				opt := h.options()
				calls := 0
				opt.Token = func(context.Context) (string, error) {
					calls++
					return fmt.Sprint("token-", calls), nil
				}
				_, result := h.run(opt)
				for i := range 2 {
					p := h.peer()
					if hello := p.hello(); string(hello.Token) != fmt.Sprint("token-", i+1) {
						t.Errorf("token %q", hello.Token)
					}
					p.sayBye(codec.Bye{Code: code})
				}
				var bye *ByeError
				if err := <-result; !errors.As(err, &bye) || bye.Code != code {
					t.Errorf("Run returned %v", err)
				}
			})
		})
	}
}

// A connection that lasted earns another try.
func TestExpiredAgainMuchLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		opt.Token = func(context.Context) (string, error) { return "opaque", nil }
		h.run(opt)
		for range 4 {
			p := h.peer()
			p.login(welcome())
			time.Sleep(settled + time.Second)
			p.sayBye(codec.Bye{Code: codec.CodeExpired})
		}
		h.peer()
	})
}

// Dial, too, uses the one more try.
func TestDialWithStaleToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		opt.Token = func(context.Context) (string, error) { return "opaque", nil }
		go func() {
			p := h.peer()
			p.hello()
			p.sayBye(codec.Bye{Code: codec.CodeExpired})
			h.peer().login(welcome())
		}()
		c, err := Dial(t.Context(), opt)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	})
}

func TestTokenErrorIsAFailedAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHarness(t)
		opt := h.options()
		broken := errors.New("token service is down")
		calls := 0
		opt.Token = func(context.Context) (string, error) {
			if calls++; calls < 3 {
				return "", broken
			}
			return "good", nil
		}
		why := make(chan error, 8)
		opt.OnRetry = func(r Retry) { why <- r.Err }
		h.run(opt)
		h.peer().hello()
		for range 2 {
			if err := <-why; !errors.Is(err, broken) {
				t.Errorf("OnRetry(%v)", err)
			}
		}
	})
}
