package bench

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// perSource is the most connections that leave one source address. The kernel looks for a free port one by one
// when few are left, and connects get slow long before none is.
const perSource = 30000

// sources spreads connections over the source addresses of a run.
type sources struct {
	target netip.AddrPort
	addrs  []netip.Addr // empty: the kernel chooses
}

// newSources resolves addr and finds the source addresses for n connections. A loopback target over IPv4 gets as many
// of 127.0.0.0/8 as are needed.
func newSources(ctx context.Context, addr string, given []netip.Addr, n int) (sources, error) {
	target, err := resolve(ctx, addr)
	if err != nil {
		return sources{}, err
	}
	s := sources{target: target, addrs: given}
	for _, a := range given {
		if a.Is4() != target.Addr().Is4() {
			return s, fmt.Errorf("source %s and target %s are not of the same address family", a, target.Addr())
		}
	}
	each := min(perSource, localPorts()*4/5)
	need := (n + each - 1) / each
	switch {
	case len(given) == 0 && target.Addr().Is4() && target.Addr().IsLoopback():
		s.addrs = loopbackSources(need)
	case need > max(1, len(given)):
		return s, fmt.Errorf("%d connections to one address need %d source addresses (at most %d each), there are %d: name them with --source", n, need, each, max(1, len(given)))
	}
	return s, nil
}

func loopbackSources(n int) []netip.Addr {
	var all []netip.Addr
	for a := netip.MustParseAddr("127.0.0.1"); len(all) < n; a = a.Next() {
		all = append(all, a)
	}
	return all
}

// of is the source address of connection i; the zero Addr leaves the choice to the kernel.
func (s *sources) of(i uint32) netip.Addr {
	if len(s.addrs) == 0 {
		return netip.Addr{}
	}
	return s.addrs[i%uint32(len(s.addrs))]
}

// localPorts is how many ports the kernel gives out for connects.
func localPorts() int {
	lo, hi := 32768, 60999
	if b, err := os.ReadFile("/proc/sys/net/ipv4/ip_local_port_range"); err == nil {
		_, _ = fmt.Sscan(string(b), &lo, &hi) // what does not scan keeps the kernel's default
	}
	return max(1, hi-lo+1)
}

func resolve(ctx context.Context, addr string) (netip.AddrPort, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("address %q: want host:port: %w", addr, err)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	p, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("address %q: port %q: %w", addr, port, err)
	}
	if host == "" {
		host = "127.0.0.1"
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("resolving %q: %w", host, err)
	}
	best := ips[0].Unmap()
	for _, ip := range ips { // IPv4 first: it has the many loopback addresses
		if ip = ip.Unmap(); ip.Is4() {
			best = ip
			break
		}
	}
	return netip.AddrPortFrom(best, uint16(p)), nil
}

// sockaddr is a as the kernel wants it.
func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

// connect starts a connection from the address from (zero: the kernel's choice) without waiting for it. The
// descriptor is the caller's; the connection may not be up yet.
func (s *sources) connect(from netip.Addr) (fd int, err error) {
	family := unix.AF_INET
	if !s.target.Addr().Is4() {
		family = unix.AF_INET6
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if err == nil && from.IsValid() {
		// Without this option bind would take the port for every target, not only for ours.
		err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		if err == nil {
			err = unix.Bind(fd, sockaddr(netip.AddrPortFrom(from, 0)))
		}
	}
	if err == nil {
		err = unix.Connect(fd, sockaddr(s.target))
	}
	if err != nil && err != unix.EINPROGRESS {
		_ = unix.Close(fd) // nothing was sent; the first error is the one that counts
		return -1, err
	}
	return fd, nil
}

// ParseSources reads a comma-separated list of IP addresses.
func ParseSources(list string) ([]netip.Addr, error) {
	var all []netip.Addr
	for _, f := range strings.Split(list, ",") {
		if f = strings.TrimSpace(f); f == "" {
			continue
		}
		a, err := netip.ParseAddr(f)
		if err != nil {
			return nil, fmt.Errorf("source %q is no IP address: %w", f, err)
		}
		all = append(all, a.Unmap())
	}
	return all, nil
}
