package bench

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// spareFiles is what a run needs beside its connections: standard streams, epoll, wake-ups, the caller's files.
const spareFiles = 64

// FileLimitError says that the process may not open enough descriptors.
type FileLimitError struct {
	Conns int    // connections asked for
	Need  uint64 // descriptors for them
	Hard  uint64 // the hard limit of the process
}

func (e *FileLimitError) Error() string {
	most := uint64(0)
	if e.Hard > spareFiles {
		most = e.Hard - spareFiles
	}
	return fmt.Sprintf("%d connections need %d open files, the hard limit of this process is %d (RLIMIT_NOFILE, `ulimit -Hn`): ask for at most %d connections or raise the limit", e.Conns, e.Need, e.Hard, most)
}

// raiseFileLimit lifts the soft limit of open files as far as conns connections need, within the hard one.
func raiseFileLimit(conns int) error {
	need := uint64(conns) + spareFiles
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return fmt.Errorf("reading the limit of open files: %w", err)
	}
	if lim.Cur >= need {
		return nil
	}
	if lim.Max < need {
		return &FileLimitError{Conns: conns, Need: need, Hard: lim.Max}
	}
	lim.Cur = lim.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return fmt.Errorf("raising the limit of open files to %d: %w", lim.Max, err)
	}
	return nil
}
