package pebble

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"gannet/store"
)

// sealName is the file that a clean stop leaves, and a backup has. It lists the files of the folder that have no checksums of
// their own (tables have), so that damage to any of them is noticed and named. A log that it does not list holds nothing. It goes
// before anything is written again.
const (
	sealName = "CLEAN"
	sealTemp = "CLEAN.tmp"
	sealHead = "gannet clean stop 1"
)

// seal is what sealName says.
type seal struct {
	format, epoch, place uint64
	files                []sealedFile
}

// sealedFile is a file as it was then.
type sealedFile struct {
	name string // below the store's folder, with slashes
	size int64
	sum  uint64 // xxHash64
}

var errNoSeal = errors.New("store: not stopped cleanly")

func (s *seal) bytes() []byte {
	b := fmt.Appendf(nil, "%s\nformat %d\nepoch %d\nplace %d\n", sealHead, s.format, s.epoch, s.place)
	for _, f := range s.files {
		b = fmt.Appendf(b, "file %s %d %016x\n", f.name, f.size, f.sum)
	}
	return fmt.Appendf(b, "sum %016x\n", xxhash.Sum64(b))
}

// readSeal reads the seal of a folder: errNoSeal when there is none.
func readSeal(disk vfs.FS, dir string) (*seal, error) {
	b, err := readFile(disk, disk.PathJoin(dir, sealName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errNoSeal
	}
	if err != nil {
		return nil, fmt.Errorf("store: reading %s: %w", sealName, err)
	}
	s := &seal{}
	at := bytes.LastIndex(b, []byte("\nsum ")) + 1
	if at == 0 || string(b[at:]) != fmt.Sprintf("sum %016x\n", xxhash.Sum64(b[:at])) {
		return nil, damaged(sealName)
	}
	lines := strings.Split(string(b[:at]), "\n")
	if lines[0] != sealHead {
		return nil, fmt.Errorf("%w: %s says %.40q; start the newer gannetd", store.ErrFormat, sealName, lines[0])
	}
	if len(lines) < 5 {
		return nil, damaged(sealName)
	}
	if _, err := fmt.Sscanf(strings.Join(lines[1:4], " "), "format %d epoch %d place %d", &s.format, &s.epoch, &s.place); err != nil {
		return nil, damaged(sealName)
	}
	for _, l := range lines[4 : len(lines)-1] {
		var f sealedFile
		if _, err := fmt.Sscanf(l, "file %s %d %x", &f.name, &f.size, &f.sum); err != nil {
			return nil, damaged(sealName)
		}
		s.files = append(s.files, f)
	}
	return s, nil
}

// lists tells whether a file is in the seal.
func (s *seal) lists(name string) bool {
	return slices.ContainsFunc(s.files, func(f sealedFile) bool { return f.name == name })
}

// compare says which files are not as they were.
func (s *seal) compare(disk vfs.FS, dir string) (wrong []flaw, err error) {
	for _, f := range s.files {
		size, sum, err := fileSum(disk, disk.PathJoin(dir, f.name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			wrong = append(wrong, flaw{f.name, "it is missing"})
		case err != nil:
			return nil, err
		case size != f.size:
			wrong = append(wrong, flaw{f.name, fmt.Sprintf("it has %d bytes, at the clean stop it had %d", size, f.size)})
		case sum != f.sum:
			wrong = append(wrong, flaw{f.name, "its bytes were changed after the clean stop"})
		}
	}
	names, err := sealable(disk, dir)
	for _, n := range names {
		if !s.lists(n) {
			wrong = append(wrong, flaw{n, "it came after the clean stop"})
		}
	}
	return wrong, err
}

// flaw is what is wrong with a file.
type flaw struct{ file, what string }

func (f flaw) String() string { return f.file + ": " + f.what }

func describe(wrong []flaw) string {
	if len(wrong) == 1 {
		return wrong[0].String()
	}
	return fmt.Sprintf("%v, and %d other files", wrong[0], len(wrong)-1)
}

// sealable are the files of a folder that have no checksums of their own, or whose names say something.
func sealable(disk vfs.FS, dir string) (names []string, err error) {
	all, err := disk.List(dir)
	for _, n := range all {
		if strings.HasPrefix(n, "MANIFEST-") || strings.HasPrefix(n, "OPTIONS-") || strings.HasPrefix(n, "marker.") {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	return names, err
}

// writeSeal seals a folder that nobody writes to. Logs are those that hold something.
func writeSeal(disk vfs.FS, dir string, s seal, logs []string) error {
	names, err := sealable(disk, dir)
	if err != nil {
		return err
	}
	for _, l := range logs {
		names = append(names, walFolder+"/"+l)
	}
	for _, n := range names {
		f := sealedFile{name: n}
		if f.size, f.sum, err = fileSum(disk, disk.PathJoin(dir, n)); err != nil {
			return err
		}
		s.files = append(s.files, f)
	}
	return writeWhole(disk, dir, sealTemp, sealName, s.bytes())
}

// writeWhole writes a file so that it is there whole or not at all.
func writeWhole(disk vfs.FS, dir, temp, name string, b []byte) error {
	f, err := disk.Create(disk.PathJoin(dir, temp), vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := disk.Rename(disk.PathJoin(dir, temp), disk.PathJoin(dir, name)); err != nil {
		return err
	}
	return syncFolder(disk, dir)
}

func syncFolder(disk vfs.FS, dir string) error {
	f, err := disk.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func readFile(disk vfs.FS, name string) ([]byte, error) {
	f, err := disk.Open(name)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(f)
	return b, errors.Join(err, f.Close())
}

func fileSum(disk vfs.FS, name string) (size int64, sum uint64, err error) {
	f, err := disk.Open(name)
	if err != nil {
		return 0, 0, err
	}
	h := xxhash.New()
	size, err = io.Copy(h, f)
	return size, h.Sum64(), errors.Join(err, f.Close())
}

// breakSeal looks at what the last stop left, before anything is changed, and takes the seal away. What it lists must be as it was;
// logs that it does not list go. Without a seal the end of the last log is looked at.
func (d *DB) breakSeal(dir, wals string) error {
	disk := d.opts.FS
	wrong, err := verifyManifest(disk, dir)
	if err != nil {
		return err
	}
	wrong = slices.DeleteFunc(wrong, func(f flaw) bool { return !isManifest(f.file) }) // what a companion lacks is no loss
	if len(wrong) > 0 {
		return damaged(describe(wrong))
	}
	s, err := readSeal(disk, dir)
	switch {
	case errors.Is(err, errNoSeal):
		return d.judgeWAL(dir, wals)
	case isCorrupt(err):
		// The data is told by its own checksums; a seal that cannot be read only means that logs are read again.
		d.opts.Logger.Warn("store: the mark of the last clean stop is damaged, going on without it", "file", sealName, "error", err)
	case err != nil:
		return err
	default:
		if s.format > d.opts.format {
			return newerFormat(s.format, d.opts.format)
		}
		wrong, err := s.compare(disk, dir)
		if err != nil {
			return fmt.Errorf("store: reading %s: %w", dir, err)
		}
		if len(wrong) > 0 {
			return damaged(describe(wrong))
		}
		if err := removeLogs(disk, wals, func(n string) bool { return !s.lists(walFolder + "/" + n) }); err != nil {
			return fmt.Errorf("store: removing old logs: %w", err)
		}
	}
	if err := disk.Remove(disk.PathJoin(dir, sealName)); err != nil {
		return fmt.Errorf("store: opening %s: %w", dir, err)
	}
	if err := syncFolder(disk, dir); err != nil {
		return fmt.Errorf("store: opening %s: %w", dir, err)
	}
	return nil
}

// judgeWAL looks at the end of the last log behind a stop that was not clean.
func (d *DB) judgeWAL(dir, wals string) error {
	name, err := lastWAL(d.opts.FS, wals)
	if err != nil || name == "" {
		return nil // a new store
	}
	e, err := scanWAL(d.opts.FS, wals, name)
	if err != nil {
		return fmt.Errorf("store: reading %s: %w", name, err)
	}
	if e.damaged >= 0 {
		return damaged(fmt.Sprintf("%s/%s: byte %d and what follows cannot be read, though it had been synced", walFolder, name, e.damaged))
	}
	d.unclean = func() {
		log := d.opts.Logger.Info
		if e.rest > 0 {
			log = d.opts.Logger.Warn
		}
		log("store: it was not stopped cleanly; going on behind the last whole record of its log",
			"log", walFolder+"/"+name, "records", e.records, "at", e.whole, "bytes_behind", e.rest)
	}
	return nil
}

func removeLogs(disk vfs.FS, wals string, which func(name string) bool) error {
	names, err := disk.List(wals)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, n := range names {
		if _, ok := walNumber(n); ok && which(n) {
			err = errors.Join(err, disk.Remove(disk.PathJoin(wals, n)))
		}
	}
	return err
}
