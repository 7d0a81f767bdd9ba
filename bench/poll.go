package bench

import (
	"fmt"
	"math"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// wakeSlot is what poller reports for a wake-up instead of a connection's slot.
const wakeSlot = -1

// poller is epoll, level-triggered, with a wake-up from other goroutines. All but wake belong to one goroutine.
type poller struct {
	ep, wakefd int
	events     []unix.EpollEvent
	coarse     bool // the kernel lacks epoll_pwait2: waits are whole milliseconds
}

func newPoller() (*poller, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making an epoll instance: %w", err)
	}
	wakefd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		_ = unix.Close(ep)
		return nil, fmt.Errorf("making an eventfd: %w", err)
	}
	p := &poller{ep: ep, wakefd: wakefd, events: make([]unix.EpollEvent, 1024)}
	if err := p.ctl(unix.EPOLL_CTL_ADD, wakefd, wakeSlot, unix.EPOLLIN); err != nil {
		p.close()
		return nil, fmt.Errorf("watching an eventfd: %w", err)
	}
	return p, nil
}

func (p *poller) close() {
	_ = unix.Close(p.ep)
	_ = unix.Close(p.wakefd)
}

// ctl adds or changes what fd is watched for; slot comes back in its events.
func (p *poller) ctl(op, fd, slot int, events uint32) error {
	return unix.EpollCtl(p.ep, op, fd, &unix.EpollEvent{Events: events, Fd: int32(slot)})
}

// wake ends the current or the next wait. Any goroutine may call it.
func (p *poller) wake() {
	// EAGAIN means that the counter is full, and then a wake-up is under way anyway.
	_, _ = unix.Write(p.wakefd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

func (p *poller) clearWake() {
	var b [8]byte
	_, _ = unix.Read(p.wakefd, b[:])
}

// wait returns what is ready, after at most d. The slice is valid until the next call.
func (p *poller) wait(d time.Duration) ([]unix.EpollEvent, error) {
	d = max(d, 0)
	n, err := 0, error(nil)
	if p.coarse {
		ms := (d + time.Millisecond - 1) / time.Millisecond
		n, err = unix.EpollWait(p.ep, p.events, int(min(ms, math.MaxInt32)))
	} else {
		n, err = p.pwait2(d)
	}
	switch err {
	case nil:
		return p.events[:n], nil
	case unix.EINTR:
		return nil, nil
	case unix.ENOSYS:
		p.coarse = true
		return nil, nil
	}
	return nil, fmt.Errorf("waiting for events: %w", err)
}

// pwait2 waits with nanoseconds: a schedule of 10,000 sends a second cannot be kept in milliseconds.
func (p *poller) pwait2(d time.Duration) (int, error) {
	ts := unix.NsecToTimespec(int64(d))
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(p.ep), uintptr(unsafe.Pointer(&p.events[0])),
		uintptr(len(p.events)), uintptr(unsafe.Pointer(&ts)), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
