package pebble

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// The manifest lists the tables. Pebble reads it up to the first record that it cannot read and takes that for the end, while the
// logs of what the tables hold are long gone: one wrong byte, and messages are missing in silence. So each manifest has a
// companion of `length u64, sum u64, check u64` for each time it was synced: the xxHash64 of its first length bytes, and of the two
// numbers. What is behind the last length was never acted upon, so a crash may take it.
const (
	manifestPrefix = "MANIFEST-"
	companionExt   = ".sum"
	companionEntry = 24
)

func isManifest(base string) bool { // not a companion
	return strings.HasPrefix(base, manifestPrefix) && !strings.HasSuffix(base, companionExt)
}

// manifestFile is a manifest that is being written, with its companion.
type manifestFile struct {
	*tableFile
	companion *tableFile
	sum       *xxhash.Digest
	n         uint64
	err       error // of a Write: sum is wrong from there on
}

// createManifest makes both files, and sees to it that a crash leaves them when it leaves the marker that names them.
func (g *guardedFS) createManifest(name string) (vfs.File, error) {
	const c = vfs.WriteCategoryUnspecified
	f, err := g.FS.Create(name, c)
	if err != nil {
		return nil, err
	}
	s, err := g.FS.Create(name+companionExt, c)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := syncFolder(g.FS, g.dir); err != nil {
		return nil, errors.Join(err, f.Close(), s.Close())
	}
	return &manifestFile{tableFile: &tableFile{f, g}, companion: &tableFile{s, g}, sum: xxhash.New()}, nil
}

func (f *manifestFile) Write(p []byte) (int, error) {
	_, _ = f.sum.Write(p) // never fails; a vfs.File may write into p
	f.n += uint64(len(p))
	n, err := f.tableFile.Write(p)
	f.err = errors.Join(f.err, err)
	return n, err
}

func (f *manifestFile) Sync() error {
	if err := errors.Join(f.err, f.tableFile.Sync()); err != nil {
		return err
	}
	b := be.AppendUint64(be.AppendUint64(nil, f.n), f.sum.Sum64())
	if _, err := f.companion.Write(be.AppendUint64(b, xxhash.Sum64(b))); err != nil {
		return err
	}
	return f.companion.Sync()
}

func (f *manifestFile) SyncData() error { return f.Sync() }

func (f *manifestFile) SyncTo(int64) (bool, error) { return true, f.Sync() }

func (f *manifestFile) Close() error { return errors.Join(f.tableFile.Close(), f.companion.Close()) }

// verifyManifest tells whether the manifest in use is damaged where it had been synced. One without a companion is believed.
func verifyManifest(disk vfs.FS, dir string) (wrong []flaw, err error) {
	found, err := pebble.Peek(dir, disk)
	if err != nil || !found.Exists {
		return nil, nil // Open says more about it
	}
	name := disk.PathBase(found.ManifestFilename)
	b, err := readFile(disk, found.ManifestFilename+companionExt)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		}
		return nil, fmt.Errorf("store: reading %s: %w", name+companionExt, err)
	}
	var length, sum uint64
	for at := 0; at+companionEntry <= len(b); at += companionEntry {
		e := b[at : at+companionEntry]
		if xxhash.Sum64(e[:16]) == be.Uint64(e[16:]) {
			length, sum = be.Uint64(e), be.Uint64(e[8:])
		} else if at+companionEntry < len(b) { // the last one may have been cut by a crash
			wrong = append(wrong, flaw{name + companionExt, fmt.Sprintf("its entry at byte %d is damaged", at)})
		}
	}
	f, err := disk.Open(found.ManifestFilename)
	if errors.Is(err, fs.ErrNotExist) {
		return append(wrong, flaw{name, "it is missing"}), nil
	}
	if err != nil {
		return wrong, fmt.Errorf("store: reading %s: %w", name, err)
	}
	defer f.Close()
	h := xxhash.New()
	_, err = io.CopyN(h, f, int64(length))
	switch {
	case errors.Is(err, io.EOF):
		wrong = append(wrong, flaw{name, fmt.Sprintf("it is shorter than the %d bytes that had been synced", length)})
	case err != nil:
		return wrong, fmt.Errorf("store: reading %s: %w", name, err)
	case length > 0 && h.Sum64() != sum:
		wrong = append(wrong, flaw{name, "its bytes are not those that had been synced"})
	}
	return wrong, nil
}
