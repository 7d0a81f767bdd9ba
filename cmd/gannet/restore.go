package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"gannet/server/durable"
	"gannet/store"
	"gannet/store/pebble"
)

// restoreCmd puts a backup where a gannetd can be started with it.
type restoreCmd struct {
	From string `required:"" help:"The backup: a folder that gannet backup made, or the data of a gannetd that was stopped." placeholder:"DIR"`
	Data string `required:"" help:"New or empty folder for --data of gannetd." placeholder:"DIR"`
}

// Help is shown by `gannet restore --help`.
func (*restoreCmd) Help() string {
	return "Copies the backup, gives the copy a new epoch, so that clients learn that the server went back in time, and checks it. The backup stays as it " +
		"is. Run it as the user that gannetd runs as. A restore that is broken off leaves a folder that gannetd refuses."
}

// Run implements the command.
func (c *restoreCmd) Run() error { return c.run(os.Stdout) }

func (c *restoreCmd) run(out io.Writer) error {
	r, err := pebble.Restore(c.From, c.Data, pebble.Options{Logger: slog.New(slog.DiscardHandler)})
	switch {
	case errors.Is(err, store.ErrLocked):
		return fmt.Errorf("a gannetd uses it: %w", err)
	case errors.Is(err, store.ErrCorrupt):
		return fmt.Errorf("%w: gannetd --check --data %s says more", err, c.From)
	case err != nil:
		return err
	}
	fmt.Fprintf(out, "restored %d files of %d bytes from %s into %s: place %d, epoch %d (it was %d)\n",
		r.Files, r.Bytes, c.From, c.Data, r.Place, r.Epoch, r.Was)
	report, err := pebble.Check(c.Data, pebble.CheckOptions{Record: durable.CheckRecord})
	if err != nil {
		return fmt.Errorf("it was restored, but could not be checked: %w", err)
	}
	if err := report.Print(out); err != nil {
		return err
	}
	if !report.Sound() {
		return fmt.Errorf("it was restored, but %s is damaged: take another backup if there is one", c.From)
	}
	_, err = fmt.Fprintf(out, "start it: gannetd --data %s\n", c.Data)
	return err
}
