package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const (
	root   = "../.."
	module = "github.com/nephilia/nephilia/"
)

// skipped are folders of which nothing is looked at.
var skipped = []string{".git", "bin", "data", "node_modules", "testdata"}

// file is one Go file that somebody wrote.
type file struct {
	path  string // from the root of the tree
	lines int
	tree  *ast.File
}

func (f *file) folder() string { return filepath.ToSlash(filepath.Dir(f.path)) }

// sources are all files but tests and what is generated, by folder.
func sources(t *testing.T) map[string][]file {
	t.Helper()
	folders := map[string][]file{}
	require.NoError(t, filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains(skipped, entry.Name()):
			return filepath.SkipDir
		case entry.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		tree, err := parser.ParseFile(token.NewFileSet(), path, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		if ast.IsGenerated(tree) {
			return nil
		}
		relative, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		f := file{path: filepath.ToSlash(relative), lines: strings.Count(string(text), "\n"), tree: tree}
		folders[f.folder()] = append(folders[f.folder()], f)
		return nil
	}))
	require.NotEmpty(t, folders)
	return folders
}

// structs calls do for each struct type of a file, by its name.
func (f *file) structs(do func(name string, doc *ast.CommentGroup, s *ast.StructType)) {
	for _, declaration := range f.tree.Decls {
		general, ok := declaration.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range general.Specs {
			if named, ok := spec.(*ast.TypeSpec); ok {
				if s, ok := named.Type.(*ast.StructType); ok {
					doc := named.Doc
					if doc == nil {
						doc = general.Doc
					}
					do(named.Name.Name, doc, s)
				}
			}
		}
	}
}

// receiver is the name of the type whose method a function is, empty if it is of none.
func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	of := f.Recv.List[0].Type
	for {
		switch typed := of.(type) {
		case *ast.StarExpr:
			of = typed.X
		case *ast.IndexExpr:
			of = typed.X
		case *ast.IndexListExpr:
			of = typed.X
		case *ast.Ident:
			return typed.Name
		default:
			return ""
		}
	}
}

// TestSizes holds files, types and the packages of the service graph to a size that one reader can keep in mind.
func TestSizes(t *testing.T) {
	const lines, fields, methods, packageLines = 500, 15, 25, 1500
	check := func(what string, n, limit int) { assert.LessOrEqual(t, n, limit, what) }
	for folder, files := range sources(t) {
		total, of := 0, map[string]int{}
		for i := range files {
			f := &files[i]
			total += f.lines
			check("lines of "+f.path, f.lines, lines)
			f.structs(func(name string, _ *ast.CommentGroup, s *ast.StructType) {
				check("fields of "+folder+"."+name, s.Fields.NumFields(), fields)
			})
			for _, declaration := range f.tree.Decls {
				if function, ok := declaration.(*ast.FuncDecl); ok && function.Recv != nil {
					of[receiver(function)]++
				}
			}
		}
		for name, n := range of {
			check("methods of "+folder+"."+name, n, methods)
		}
		if strings.HasPrefix(folder, "processor/servicegraphprocessor") {
			check("lines of "+folder, total, packageLines)
		}
	}
}

// TestBounded holds components to state that cannot grow without end: a map in a struct is bounded, and a comment on the field or
// its type says by what ("bounded by …"). What is keyed from outside and has no other bound is an expiry.Table.
func TestBounded(t *testing.T) {
	for folder, files := range sources(t) {
		if !component(folder) || strings.HasSuffix(folder, "test") || strings.HasPrefix(folder, "internal/meshsim") {
			continue
		}
		for i := range files {
			files[i].structs(func(name string, doc *ast.CommentGroup, s *ast.StructType) {
				for _, field := range s.Fields.List {
					// What has a tag is read or written, not kept.
					if keyedFromOutside(field.Type) && field.Tag == nil && !saysBound(doc) && !saysBound(field.Doc) && !saysBound(field.Comment) {
						t.Errorf("%s: the map %s of %s says not by what it is bounded", files[i].path, field.Names, name)
					}
				}
			})
		}
	}
}

// keyedFromOutside tells whether a type is a map whose keys can be new for ever; a pointer is to something that is counted elsewhere.
func keyedFromOutside(field ast.Expr) bool {
	m, ok := field.(*ast.MapType)
	if !ok {
		return false
	}
	_, pointer := m.Key.(*ast.StarExpr)
	return !pointer
}

func saysBound(comment *ast.CommentGroup) bool {
	return comment != nil && strings.Contains(strings.Join(strings.Fields(comment.Text()), " "), "ounded by ")
}

// component tells whether a folder is part of a component or of what they share.
func component(folder string) bool {
	top, _, _ := strings.Cut(folder, "/")
	return slices.Contains([]string{"internal", "receiver", "processor", "exporter", "extension"}, top)
}

// picture are the packages in the order in which CONTRIBUTING.md draws them.
func picture(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "CONTRIBUTING.md"))
	require.NoError(t, err)
	_, drawn, found := strings.Cut(string(text), "<!-- packages -->\n```text\n")
	require.True(t, found, "CONTRIBUTING.md has no picture of the packages")
	drawn, _, found = strings.Cut(drawn, "```")
	require.True(t, found)
	var packages []string
	for line := range strings.Lines(drawn) {
		if fields := strings.Fields(line); len(fields) > 0 {
			packages = append(packages, fields[0])
		}
	}
	return packages
}

// TestPackages holds the packages to CONTRIBUTING.md's picture: each is drawn, imports only what is drawn above it, and a component
// imports no other one.
func TestPackages(t *testing.T) {
	drawn := picture(t)
	folders := sources(t)
	for folder := range folders {
		if top, _, _ := strings.Cut(folder, "/"); top == "bench" || top == "e2e" {
			delete(folders, folder) // modules of their own, which import nothing of this one
		}
	}
	for i, folder := range drawn {
		assert.NotEmptyf(t, folders[folder], "CONTRIBUTING.md draws %s, which is not there", folder)
		assert.NotContainsf(t, drawn[:i], folder, "CONTRIBUTING.md draws %s twice", folder)
	}
	for _, folder := range slices.Sorted(maps.Keys(folders)) {
		assert.Truef(t, slices.Contains(drawn, folder), "CONTRIBUTING.md does not draw %s", folder)
		for _, f := range folders[folder] {
			for _, spec := range f.tree.Imports {
				imported, ours := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), module)
				if !ours || strings.HasSuffix(imported, "/internal/metadata") {
					continue
				}
				assert.Falsef(t, slices.Contains(drawn, folder) && slices.Index(drawn, imported) > slices.Index(drawn, folder), "%s imports %s, which CONTRIBUTING.md draws below it", f.path, imported)
				if component(folder) {
					assert.Truef(t, mayImport(folder, imported), "%s imports %s: a component imports internal/ and what is below itself", f.path, imported)
				}
			}
		}
	}
}

// mayImport tells whether a component, or what components share, may import a package.
func mayImport(folder, imported string) bool {
	if strings.HasPrefix(imported, "internal/") {
		return true
	}
	parts := strings.SplitN(folder, "/", 3)
	return parts[0] != "internal" && strings.HasPrefix(imported, parts[0]+"/"+parts[1]+"/")
}
