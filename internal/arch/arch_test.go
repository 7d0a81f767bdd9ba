package arch

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "gannet"

// arrows says which parts of the module each part may import. A part is the first directory; it may always
// import itself, so server/auth may import what server may, and server.
var arrows = map[string][]string{
	"cmd":      {"server", "bench", "client", "store", "codec"},
	"server":   {"shard", "store", "cluster", "codec"},
	"shard":    {"codec"},
	"client":   {"codec"},
	"bench":    {"client", "codec"},
	"store":    {"codec"},
	"cluster":  {"codec"},
	"codec":    {},
	"internal": {},
}

// reserved says which parts, or packages, may import modules that stand for a decision of the design, tests included.
var reserved = map[string][]string{
	"github.com/panjf2000/gnet": {"server", "bench"},
	"github.com/panjf2000/ants": {"server"},
	"github.com/cockroachdb":    {"store/pebble"},
}

// closed lists packages with arrows of their own to packages of the module, tighter than their part's.
var closed = map[string][]string{
	"store":           {"codec"},
	"store/memory":    {"store", "codec"},
	"store/pebble":    {"store", "codec"},
	"store/storetest": {"store", "store/memory", "codec"},
}

// without lists packages of a part that must do without the modules reserved for it.
var without = map[string][]string{
	"server/auth": {"github.com/panjf2000/gnet"},
}

// testOnly are the modules that tests of the codec may import although the codec itself may import none.
var testOnly = []string{"pgregory.net/rapid"}

// edge is one import.
type edge struct {
	from string // directory of the importing package below the module's root
	to   string // import path
	test bool   // from a _test.go file
}

func (e edge) String() string { return e.from + " imports " + e.to }

func edges(all []source) (list []edge) {
	for _, s := range all {
		for _, p := range s.imports() {
			e := edge{from: s.dir(), to: p, test: s.test}
			if !slices.Contains(list, e) {
				list = append(list, e)
			}
		}
	}
	return list
}

// forbidden returns a complaint for each edge against the arrows. Tests may import any part of the module,
// since nothing imports them, except in the codec; the reserved modules are reserved for them as well.
func forbidden(list []edge) (complaints []string) {
	for _, e := range list {
		if c := e.complaint(); c != "" {
			complaints = append(complaints, fmt.Sprintf("%v: %s", e, c))
		}
	}
	return complaints
}

func (e edge) complaint() string {
	from := part(e.from)
	allowed, known := arrows[from]
	if !known {
		return fmt.Sprintf("%q is not in the table of arrows: add it to internal/arch and to docs/ARCHITECTURE.md", from)
	}
	if to, inside := strings.CutPrefix(e.to, module+"/"); inside || e.to == module {
		if own, tighter := closed[e.from]; tighter && !e.test {
			if slices.Contains(own, to) {
				return ""
			}
			return fmt.Sprintf("%s may import %s of this module and nothing else", e.from, orNothing(own))
		}
		to = part(to)
		switch {
		case to == from || slices.Contains(allowed, to):
			return ""
		case e.test && from != "codec":
			return ""
		}
		return fmt.Sprintf("%s may import %s of this module and nothing else", from, orNothing(allowed))
	}
	for mod, parts := range reserved {
		if !within(e.to, mod) {
			continue
		}
		if !slices.Contains(parts, from) && !slices.Contains(parts, e.from) || slices.Contains(without[e.from], mod) {
			return fmt.Sprintf("only %s may", strings.Join(parts, " and "))
		}
	}
	if from == "codec" && !standard(e.to) && !(e.test && slices.ContainsFunc(testOnly, func(mod string) bool { return within(e.to, mod) })) {
		return "the codec uses the standard library alone, its tests also " + strings.Join(testOnly, ", ")
	}
	return ""
}

func part(dir string) string {
	first, _, _ := strings.Cut(dir, "/")
	return first
}

// within says whether an import path belongs to a module, whatever its major version.
func within(importPath, mod string) bool {
	return importPath == mod || strings.HasPrefix(importPath, mod+"/")
}

// standard says whether an import path is of the standard library: its first element has no dot.
func standard(importPath string) bool { return !strings.Contains(part(importPath), ".") }

func orNothing(parts []string) string {
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

func TestImportsFollowTheArrows(t *testing.T) {
	for _, c := range forbidden(edges(sources(t))) {
		t.Error(c)
	}
}

func TestForbiddenImportsAreFound(t *testing.T) {
	const gnet, ants, rapid = "github.com/panjf2000/gnet/v2", "github.com/panjf2000/ants/v2", "pgregory.net/rapid"
	const pebble = "github.com/cockroachdb/pebble/v2"
	bad := []edge{
		{from: "codec", to: "gannet/shard"},
		{from: "codec", to: "gannet/shard", test: true},
		{from: "codec", to: "golang.org/x/sys/unix"},
		{from: "codec", to: rapid},
		{from: "codec", to: "go.uber.org/goleak", test: true},
		{from: "shard", to: "gannet/server"},
		{from: "shard", to: "gannet/store"},
		{from: "store", to: "gannet/shard"},
		{from: "store/pebble", to: "gannet/shard"},
		{from: "store", to: "gannet/server/auth"},
		{from: "client", to: "gannet/server/auth"},
		{from: "bench", to: "gannet/server"},
		{from: "server", to: "gannet/client"},
		{from: "server/auth", to: "gannet/bench"},
		{from: "cmd/gannet", to: "gannet/shard"},
		{from: "server", to: "gannet"},
		{from: "internal/arch", to: "gannet/codec"},
		{from: "shard", to: gnet},
		{from: "shard", to: gnet + "/pkg/errors", test: true},
		{from: "cmd/gannetd", to: gnet},
		{from: "server/auth", to: gnet},
		{from: "bench", to: ants},
		{from: "store", to: pebble},
		{from: "store/memory", to: pebble + "/vfs"},
		{from: "store/storetest", to: pebble},
		{from: "server", to: pebble, test: true},
		{from: "cmd/gannetd", to: "github.com/cockroachdb/errors"},
		{from: "store", to: "gannet/store/memory"},
		{from: "store/memory", to: "gannet/store/storetest"},
		{from: "store/pebble", to: "gannet/store/memory"},
		{from: "store/storetest", to: "gannet/store/pebble"},
		{from: "elsewhere", to: "fmt"},
	}
	for _, e := range bad {
		if got := forbidden([]edge{e}); len(got) != 1 {
			t.Errorf("%v (test %v): complaints %q, want one", e, e.test, got)
		}
	}
	good := []edge{
		{from: "codec", to: "unicode/utf8"},
		{from: "codec", to: rapid, test: true},
		{from: "server", to: "gannet/shard"},
		{from: "server", to: "gannet/server/auth"},
		{from: "server/auth", to: "gannet/codec"},
		{from: "server", to: "gannet/client", test: true},
		{from: "server", to: gnet},
		{from: "server", to: ants},
		{from: "bench/load", to: gnet},
		{from: "store/pebble", to: "gannet/store"},
		{from: "store/pebble", to: "gannet/store/storetest", test: true},
		{from: "store/pebble", to: pebble + "/vfs"},
		{from: "store/pebble", to: pebble + "/vfs/errorfs", test: true},
		{from: "store/storetest", to: "gannet/store/memory"},
		{from: "store", to: "github.com/cespare/xxhash/v2"},
		{from: "shard", to: "github.com/panjf2000/gnetic"},
		{from: "cmd/gannet", to: "gannet/server/auth"},
	}
	if got := forbidden(good); len(got) != 0 {
		t.Errorf("complaints about good imports: %q", got)
	}
}

// The table is only as good as the imports that are read from the files.
func TestImportsAreReadFromFiles(t *testing.T) {
	all := synthetic(t,
		"codec/a.go", "package codec\n\nimport (\n\t\"fmt\"\n\tx \"gannet/shard\"\n)\n\nvar _ = fmt.Sprint(x.X)\n",
		"shard/b_test.go", "package shard_test\n\nimport _ `github.com/panjf2000/gnet/v2`\n",
	)
	wants(t, forbidden(edges(all)), "codec imports gannet/shard", "shard imports github.com/panjf2000/gnet/v2")
	for _, e := range edges(sources(t)) {
		if e.from == "internal/arch" && e.to == "go/parser" && e.test {
			return
		}
	}
	t.Error("this package's own imports were not found")
}

func TestArrowsHaveNoCycle(t *testing.T) {
	var visit func(p string, trail []string)
	visit = func(p string, trail []string) {
		if slices.Contains(trail, p) {
			t.Fatalf("a cycle: %s", path.Join(append(trail, p)...))
		}
		for _, next := range arrows[p] {
			if _, known := arrows[next]; !known {
				t.Errorf("%s may import %q, which is no part", p, next)
			}
			visit(next, append(slices.Clone(trail), p))
		}
	}
	for p := range arrows {
		visit(p, nil)
	}
}
