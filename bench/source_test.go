package bench

import (
	"net/netip"
	"strings"
	"testing"
)

func TestSources(t *testing.T) {
	each := min(perSource, localPorts()*4/5)
	for _, tc := range []struct {
		addr  string
		given string
		n     int
		want  int // addresses; 0: the kernel's choice
		bad   string
	}{
		{"127.0.0.1:7000", "", 1, 1, ""},
		{"127.0.0.1:7000", "", each, 1, ""},
		{"127.0.0.1:7000", "", each + 1, 2, ""},
		{"127.0.0.1:7000", "", 20 * each, 20, ""},
		{"127.0.0.1:7000", "127.0.0.9,127.0.1.9", 10, 2, ""},
		{":7000", "", 10, 1, ""},
		{"192.0.2.1:7000", "", 10, 0, ""},
		{"192.0.2.1:7000", "", each + 1, 0, "--source"},
		{"192.0.2.1:7000", "192.0.2.7, 192.0.2.8", 2 * each, 2, ""},
		{"192.0.2.1:7000", "192.0.2.7,192.0.2.8", 2*each + 1, 0, "3 source addresses"},
		{"192.0.2.1:7000", "2001:db8::1", 1, 0, "address family"},
		{"[::1]:7000", "", 10, 0, ""},
		{"no port", "", 1, 0, "host:port"},
		{"127.0.0.1:none such", "", 1, 0, "port"},
	} {
		given, err := ParseSources(tc.given)
		if err != nil {
			t.Fatal(err)
		}
		s, err := newSources(t.Context(), tc.addr, given, tc.n)
		if tc.bad != "" {
			if err == nil || !strings.Contains(err.Error(), tc.bad) {
				t.Errorf("%s from %q, %d: error %v, want %q", tc.addr, tc.given, tc.n, err, tc.bad)
			}
			continue
		}
		if err != nil || len(s.addrs) != tc.want {
			t.Errorf("%s from %q, %d: %d addresses and error %v, want %d", tc.addr, tc.given, tc.n, len(s.addrs), err, tc.want)
			continue
		}
		used := map[netip.Addr]int{}
		for i := range uint32(tc.n) {
			used[s.of(i)]++
		}
		for a, n := range used {
			if n > each {
				t.Errorf("%s: %d connections from %v, want at most %d", tc.addr, n, a, each)
			}
		}
	}
	if _, err := ParseSources("127.0.0.1,here"); err == nil {
		t.Error("a source that is no address was taken")
	}
}

// Connections leave from the addresses they were given.
func TestConnectBindsTheSource(t *testing.T) {
	from := make(chan string, 3)
	p := newPeer(t, script{greet: func(c *peerConn) {
		from <- c.nc.RemoteAddr().(interface{ AddrPort() netip.AddrPort }).AddrPort().Addr().String()
		c.nc.Close()
	}})
	sources, err := ParseSources("127.0.0.5,127.0.0.6,127.0.0.7")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = Run(t.Context(), Options{Scenario: ScenarioConn, Addr: p.addr, Conns: 3, Sources: sources}, nil) // nobody is let in
	got := map[string]bool{}
	for range 3 {
		got[<-from] = true
	}
	if !got["127.0.0.5"] || !got["127.0.0.6"] || !got["127.0.0.7"] {
		t.Errorf("connections came from %v", got)
	}
}
