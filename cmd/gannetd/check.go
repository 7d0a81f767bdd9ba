package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"gannet/server/durable"
	"gannet/store"
	"gannet/store/pebble"
)

// errDamaged ends a check that found damage.
var errDamaged = errors.New("the data folder is damaged")

// exitCode is 2 for damage that a check found, 1 for everything else.
func exitCode(err error) int {
	if errors.Is(err, errDamaged) {
		return 2
	}
	return 1
}

// check reads a data folder and prints what it holds and what is wrong with it.
func check(dir string, out io.Writer, progress func(what string, done, total uint64)) error {
	r, err := pebble.Check(dir, pebble.CheckOptions{Progress: progress, Record: durable.CheckRecord})
	if errors.Is(err, store.ErrLocked) {
		return fmt.Errorf("%s is in use; stop that gannetd first, or check a backup of it: %w", dir, err)
	}
	if err != nil {
		return err
	}
	if err := r.Print(out); err != nil {
		return err
	}
	if !r.Sound() {
		return fmt.Errorf("%w: %s", errDamaged, dir)
	}
	return nil
}

// progressPause is how long a person who looks on waits for the next line.
const progressPause = 2 * time.Second

// progress prints how far a long check has come, when a person looks on.
func progress() func(what string, done, total uint64) {
	if st, err := os.Stderr.Stat(); err != nil || st.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	last := time.Now()
	return func(what string, done, total uint64) {
		if time.Since(last) < progressPause {
			return
		}
		last = time.Now()
		if total > 0 {
			fmt.Fprintf(os.Stderr, "checked %d of %d %s\n", done, total, what)
		} else {
			fmt.Fprintf(os.Stderr, "checked %d %s\n", done, what)
		}
	}
}
