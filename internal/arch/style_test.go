package arch

import (
	"fmt"
	"go/ast"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// Lengths in lines, for everything but tests.
const (
	maxFileLines = 500
	maxFuncLines = 80
)

func TestFilesAndFunctionsAreShort(t *testing.T) {
	for _, c := range tooLong(sources(t)) {
		t.Error(c)
	}
}

func TestPackagesSayWhatTheyAreFor(t *testing.T) {
	for _, c := range undocumented(sources(t)) {
		t.Error(c)
	}
}

// make test runs what the race detector leaves out by name, so the names have to be right.
func TestNamesOfTestsWithoutRace(t *testing.T) {
	for _, c := range misnamed(sources(t)) {
		t.Error(c)
	}
}

func TestEveryModuleHasItsLicenceListed(t *testing.T) {
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile(filepath.Join(root, "docs", "LICENSES.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range unlisted(string(mod), string(list)) {
		t.Error(c)
	}
}

func tooLong(all []source) (complaints []string) {
	for _, s := range all {
		if s.test {
			continue
		}
		if s.lines > maxFileLines {
			complaints = append(complaints, fmt.Sprintf("%s has %d lines, at most %d: it tells more than one story, split it", s.path, s.lines, maxFileLines))
		}
		for _, d := range s.syntax.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			first, last := s.fset.Position(f.Pos()).Line, s.fset.Position(f.End()).Line
			if n := last - first + 1; n > maxFuncLines {
				complaints = append(complaints, fmt.Sprintf("%s:%d: %s has %d lines, at most %d: split it", s.path, first, f.Name.Name, n, maxFuncLines))
			}
		}
	}
	return complaints
}

// undocumented looks for the package comment where readers look: in doc.go, of a program in main.go.
func undocumented(all []source) (complaints []string) {
	found := map[string]bool{} // by the file that should hold the comment
	for _, s := range all {
		if s.test {
			continue
		}
		file := s.dir() + "/doc.go"
		if s.syntax.Name.Name == "main" {
			file = s.dir() + "/main.go"
		}
		found[file] = found[file] || s.path == file && strings.TrimSpace(s.syntax.Doc.Text()) != ""
	}
	for _, file := range slices.Sorted(maps.Keys(found)) {
		if !found[file] {
			complaints = append(complaints, file+" with a package comment is missing: say what the package is for, who calls it, who owns what")
		}
	}
	return complaints
}

func misnamed(all []source) (complaints []string) {
	for _, s := range all {
		if !s.test {
			continue
		}
		for _, d := range s.syntax.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Recv != nil || !strings.HasPrefix(f.Name.Name, "Test") || f.Name.Name == "TestMain" {
				continue
			}
			if named := strings.HasPrefix(f.Name.Name, "TestNoRace"); named != s.notRace {
				complaints = append(complaints, fmt.Sprintf("%s: %s: exactly the tests in files with //go:build !race are named TestNoRace…", s.path, f.Name.Name))
			}
		}
	}
	return complaints
}

var requirement = regexp.MustCompile(`(?m)^(?:require)?\s+([^\s()]+\.[^\s()]+) (v\S+)`)

// unlisted compares the modules of go.mod with the rows of docs/LICENSES.md, which begin "| module | version |".
func unlisted(mod, list string) (complaints []string) {
	required := requirement.FindAllStringSubmatch(mod, -1)
	if len(required) == 0 {
		return []string{"no module was found in go.mod"}
	}
	for _, m := range required {
		if row := fmt.Sprintf("| %s | %s |", m[1], m[2]); !strings.Contains(list, row) {
			complaints = append(complaints, fmt.Sprintf("docs/LICENSES.md has no row that begins %q: read the licence in the module and add it", row))
		}
	}
	return complaints
}

func TestLongCodeIsFound(t *testing.T) {
	lines := func(n int) string { return strings.Repeat("\t_ = 0\n", n) }
	long := "package a\n\nfunc f() {\n" + lines(maxFuncLines-1) + "}\n"
	short := "package a\n\nfunc (t T) f() {\n" + lines(maxFuncLines-2) + "}\n"
	file := "package a\n" + strings.Repeat("\n", maxFileLines-1)
	all := synthetic(t,
		"a/long.go", long, "a/long_test.go", long, "a/short.go", short,
		"a/full.go", file, "a/over.go", file+"// one more", "a/over_test.go", file+"\n\n",
	)
	wants(t, tooLong(all), "a/long.go:3: f has 81 lines", "a/over.go has 501 lines")
}

func TestMissingPackageCommentsAreFound(t *testing.T) {
	all := synthetic(t,
		"a/doc.go", "// Package a is documented.\npackage a\n", "a/a.go", "package a\n", "a/a_test.go", "package a_test\n",
		"b/doc.go", "package b\n",
		"c/c.go", "// Package c is documented elsewhere.\npackage c\n",
		"cmd/d/main.go", "// D does it.\npackage main\n", "cmd/d/x.go", "package main\n",
		"cmd/e/main.go", "package main\n",
		"cmd/f/f.go", "// F is in the wrong file.\npackage main\n",
	)
	wants(t, undocumented(all), "b/doc.go", "c/doc.go", "cmd/e/main.go", "cmd/f/main.go")
}

func TestMisnamedTestsAreFound(t *testing.T) {
	const body = "(t *testing.T) {}\n"
	file := func(build string, names ...string) string {
		text := build + "package a\n\nimport \"testing\"\n\n"
		for _, n := range names {
			text += "func " + n + body
		}
		return text
	}
	const notRace = "//go:build !race\n\n"
	all := synthetic(t,
		"a/good_test.go", file(notRace, "TestNoRaceA", "helper", "BenchmarkB"),
		"a/plain_test.go", file("", "TestA", "TestMain"),
		"a/linux_test.go", file("//go:build linux\n\n", "TestL"),
		"a/both_test.go", file("//go:build linux && !race\n\n", "TestForgotten"),
		"a/bad_test.go", file(notRace, "TestB"),
		"a/lost_test.go", file("", "TestNoRaceC"),
	)
	wants(t, misnamed(all), "TestForgotten", "TestB", "TestNoRaceC")
}

func TestUnlistedModulesAreFound(t *testing.T) {
	mod := "module gannet\n\ngo 1.26\n\nrequire example.org/c v3.0.0\n\nrequire (\n\texample.org/a/v2 v2.0.1 // indirect\n\texample.org/b v1.0.0\n)\n"
	list := "| example.org/a/v2 | v2.0.1 | MIT |\n| example.org/b | v0.9.0 | MIT |\n"
	wants(t, unlisted(mod, list), "example.org/c | v3.0.0", "example.org/b | v1.0.0")
	wants(t, unlisted("module gannet\n", list), "no module")
}
