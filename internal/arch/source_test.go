package arch

import (
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// root is the module's directory as seen from this package's.
const root = "../.."

// source is one Go file of the module.
type source struct {
	path    string // below root, with slashes
	test    bool   // *_test.go
	lines   int
	syntax  *ast.File
	fset    *token.FileSet
	notRace bool // left out by the race detector
}

// dir is the package's directory below root, "." for the root itself.
func (s source) dir() string { return path.Dir(s.path) }

func (s source) imports() (paths []string) {
	for _, spec := range s.syntax.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			paths = append(paths, p)
		}
	}
	return paths
}

// parse reads one file; content is its text.
func parse(name string, content []byte) (source, error) {
	s := source{path: name, test: strings.HasSuffix(name, "_test.go"), fset: token.NewFileSet()}
	var err error
	s.syntax, err = parser.ParseFile(s.fset, name, content, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return source{}, err
	}
	s.lines = s.fset.File(s.syntax.FileStart).LineCount()
	if strings.HasSuffix(string(content), "\n") {
		s.lines-- // the line behind the last newline is none
	}
	s.notRace = excludedByRace(s.syntax)
	return s, nil
}

// excludedByRace says whether the file's build constraint needs the race detector to be off.
func excludedByRace(f *ast.File) bool {
	for _, group := range f.Comments {
		if group.Pos() > f.Package {
			break
		}
		for _, c := range group.List {
			expr, err := constraint.Parse(c.Text)
			if err != nil {
				continue
			}
			with := func(race bool) bool {
				return expr.Eval(func(tag string) bool { return tag != "race" || race })
			}
			if with(false) && !with(true) {
				return true
			}
		}
	}
	return false
}

// sources parses every Go file of the module.
func sources(t *testing.T) (all []source) {
	t.Helper()
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if file != root && (name == "testdata" || name == "vendor" || name == "node_modules" || name == "bin" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_")) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		s, err := parse(filepath.ToSlash(rel), content)
		if err != nil {
			return err
		}
		all = append(all, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatalf("no Go file below %s", root)
	}
	return all
}

// synthetic parses files given as path, text, path, text, …
func synthetic(t *testing.T, files ...string) (all []source) {
	t.Helper()
	for i := 0; i+1 < len(files); i += 2 {
		s, err := parse(files[i], []byte(files[i+1]))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

// wants fails unless there is exactly one complaint a part, in the same order, which says that part.
func wants(t *testing.T, complaints []string, parts ...string) {
	t.Helper()
	if len(complaints) != len(parts) {
		t.Fatalf("complaints %q, want %d that say %q", complaints, len(parts), parts)
	}
	for i, part := range parts {
		if !strings.Contains(complaints[i], part) {
			t.Errorf("complaint %q does not say %q", complaints[i], part)
		}
	}
}
