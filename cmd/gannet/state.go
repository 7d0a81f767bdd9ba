package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"gannet/client"
	"gannet/codec"
)

// stateFlags name the folder in which a device keeps what outlives a run.
type stateFlags struct {
	State string `help:"Folder that keeps, for each user, the device's name, how far it has read and what it still has to send. Without it a run begins where the server knows the device to be." type:"path" placeholder:"DIR"`
}

// state is the part of that folder that one device uses. A second process is kept away.
type state struct {
	dir       string
	outbox    *client.FileOutbox
	positions *client.FilePositions
}

// open makes opt use the folder; nil without one. The device is the one of the run before, unless there is another wish.
func (f *stateFlags) open(opt *client.Options, wish string) (*state, error) {
	if f.State == "" {
		return nil, nil
	}
	name := "token" // whose user the server tells
	if opt.User != "" {
		name = "user-" + url.PathEscape(opt.User)
	}
	s := &state{dir: filepath.Join(f.State, name)}
	if err := s.open(opt, wish); err != nil {
		s.close()
		return nil, fmt.Errorf("--state %s: %w", f.State, err)
	}
	return s, nil
}

func (s *state) open(opt *client.Options, wish string) (err error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	if s.outbox, err = client.OpenOutbox(filepath.Join(s.dir, "outbox"), client.OutboxOptions{Sync: true}); err != nil {
		return err
	}
	if s.positions, err = client.OpenPositions(filepath.Join(s.dir, "positions")); err != nil {
		return err
	}
	if opt.Device, err = deviceOf(filepath.Join(s.dir, "device"), opt.Device, wish); err != nil {
		return err
	}
	opt.Outbox, opt.Positions = s.outbox, s.positions
	return nil
}

// deviceOf reads the device's name from a file, or writes it there the first time: nonces and positions belong to it.
func deviceOf(file, fresh, wish string) (string, error) {
	b, err := os.ReadFile(file)
	name := strings.TrimSuffix(string(b), "\n")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fresh, os.WriteFile(file, []byte(fresh+"\n"), 0o600)
	case err != nil:
		return "", err
	case !codec.ValidID([]byte(name)):
		return "", fmt.Errorf("%s holds no name of a device", file)
	case wish != "" && wish != name:
		return "", fmt.Errorf("this folder belongs to device %q, not to %q: leave --device out or take another folder", name, wish)
	}
	return name, nil
}

func (s *state) close() {
	if s == nil {
		return
	}
	if s.outbox != nil {
		s.outbox.Close()
	}
	if s.positions != nil {
		s.positions.Close()
	}
}
