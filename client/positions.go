package client

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"gannet/codec"
)

// Positions keeps how far the handlers of a device have got, so that a later Client of the same device goes on from there. Without
// one the server goes on from what the device acknowledged, and topics begin at their heads. FilePositions keeps them on
// disk, MemoryPositions as long as the process lives; an application that keeps messages in a database of its own may keep them there.
//
// What is saved is behind what the handlers have done, by up to half a second when a process dies: messages of that time come again.
// Those of a channel at or below its saved Seq are dropped, so an application that saves positions together with its messages sees
// each of them once.
type Positions interface {
	// Load returns what was saved last; the zero Checkpoint when there is none. A Client calls it once.
	Load() (Checkpoint, error)
	// Save keeps c in place of what was saved before, as a whole or not at all. It is called by one goroutine, at most twice a
	// second, and once more when the client ends.
	Save(c Checkpoint) error
}

// Checkpoint is how far a device is.
type Checkpoint struct {
	InboxEpoch uint64     `json:"inbox_epoch"`
	InboxPos   uint64     `json:"inbox_pos"` // 0: none known
	Channels   []Position `json:"channels"`  // the most recent 16,384 at least, and all topics subscribed to
}

// Position is how far a device is in one channel.
type Position struct {
	Channel Channel `json:"channel"`
	Epoch   uint64  `json:"epoch"`
	Seq     uint64  `json:"seq"`           // the handlers are done with this message and all before it
	Log     bool    `json:"log,omitempty"` // the channel is read from its own log, not through the inbox
}

func (p Position) compare(q Position) int {
	return cmp.Or(cmp.Compare(p.Channel.Kind, q.Channel.Kind), strings.Compare(p.Channel.Name, q.Channel.Name))
}

// MemoryPositions is a Positions without a disk.
type MemoryPositions struct {
	mu   sync.Mutex
	last Checkpoint // guarded by mu
}

// Load implements Positions.
func (m *MemoryPositions) Load() (Checkpoint, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last, nil
}

// Save implements Positions.
func (m *MemoryPositions) Save(c Checkpoint) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.last = c
	return nil
}

// FilePositions is a Positions in one file of JSON, which is replaced as a whole and synced each time. A second process is kept away by a lock
// on the file's name with .lock behind it.
type FilePositions struct {
	path   string
	unlock func()
}

// positionsFile is what stands in the file.
type positionsFile struct {
	Version int `json:"gannet_positions"`
	Checkpoint
}

const positionsVersion = 1

// OpenPositions keeps positions in the file path, which is made at the first Save. Close ends it.
func OpenPositions(path string) (*FilePositions, error) {
	unlock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, fmt.Errorf("client: open the positions %s: %w", path, err)
	}
	return &FilePositions{path, unlock}, nil
}

// Load implements Positions.
func (f *FilePositions) Load() (Checkpoint, error) {
	b, err := os.ReadFile(f.path)
	if errors.Is(err, fs.ErrNotExist) {
		return Checkpoint{}, nil
	}
	if err != nil {
		return Checkpoint{}, err
	}
	var x positionsFile
	if err := json.Unmarshal(b, &x); err != nil {
		return Checkpoint{}, fmt.Errorf("the positions %s are damaged; without the file the server goes on from what was acknowledged: %w", f.path, err)
	}
	if x.Version != positionsVersion {
		return Checkpoint{}, fmt.Errorf("the positions %s are of version %d, this client knows %d", f.path, x.Version, positionsVersion)
	}
	for _, p := range x.Channels {
		if !p.Channel.Kind.Valid() || !codec.ValidID([]byte(p.Channel.Name)) {
			return Checkpoint{}, fmt.Errorf("the positions %s are damaged: %q is no channel", f.path, p.Channel)
		}
	}
	return x.Checkpoint, nil
}

// Save implements Positions.
func (f *FilePositions) Save(c Checkpoint) error {
	b, err := json.Marshal(positionsFile{positionsVersion, c})
	if err == nil {
		err = replaceFile(f.path, b)
	}
	if err != nil {
		return fmt.Errorf("save the positions %s: %w", f.path, err)
	}
	return nil
}

// Close gives the file free for others.
func (f *FilePositions) Close() error {
	f.unlock()
	return nil
}

// replaceFile writes a whole file beside the one that is there, syncs it and moves it into its place.
func replaceFile(path string, b []byte) error {
	name := path + ".new"
	f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(name, path)
	}
	if err != nil {
		os.Remove(name)
		return err
	}
	return syncDir(filepath.Clean(path))
}
