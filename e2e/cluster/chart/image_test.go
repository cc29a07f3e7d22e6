package chart

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
)

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(repository, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// only returns the only match of an expression's group.
func only(t *testing.T, text, expression string) string {
	t.Helper()
	matches := regexp.MustCompile(expression).FindAllStringSubmatch(text, -1)
	if len(matches) != 1 {
		t.Fatalf("%s: %d matches", expression, len(matches))
	}
	return matches[0][1]
}

// TestImage holds the image's recipe to how everybody else builds the binary and to what the chart expects of it.
func TestImage(t *testing.T) {
	recipe := read(t, "deploy/Dockerfile")
	if image, module := only(t, recipe, `golang:(\d+\.\d+)\.\d+-`), only(t, read(t, "go.mod"), `(?m)^go (\d+\.\d+)`); image != module {
		t.Errorf("the image is built with Go %s, the module wants %s", image, module)
	}
	if image, ours := only(t, recipe, `-tags (\S+)`), only(t, read(t, "Makefile"), `(?m)^TAGS +:= (\S+)`); image != ours {
		t.Errorf("the image is built with tags %s, everything else with %s", image, ours)
	}
	user := only(t, recipe, `(?m)^USER (\d+):\d+$`)
	for _, set := range objects[*appsv1.DaemonSet](decode(t, render(t))) {
		if id := set.Spec.Template.Spec.SecurityContext.RunAsUser; id == nil || user != jsonOf(t, *id) {
			t.Errorf("the image's user is %s, the chart's %v", user, id)
		}
	}
	if !strings.Contains(recipe, "FROM gcr.io/distroless/static") || !strings.Contains(recipe, "CGO_ENABLED=0") {
		t.Error("the binary is not static, or its image holds more than it")
	}
}

func jsonOf(t *testing.T, value any) string {
	t.Helper()
	encoded, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(encoded)
}

// TestImageContext wants every file from which the binary is built to reach the image's builder.
func TestImageContext(t *testing.T) {
	var sent, dropped []string
	for line := range strings.Lines(read(t, "deploy/Dockerfile.dockerignore")) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "!"):
			sent = append(sent, line[1:])
		case strings.HasPrefix(line, "**/"):
			dropped = append(dropped, line[3:])
		case line != "*" && line != "" && !strings.HasPrefix(line, "#"):
			t.Fatalf("a pattern that this test does not know: %s", line)
		}
	}
	cmd := exec.Command("go", "list", "-deps", "-json=Standard,Module,Dir,GoFiles,EmbedFiles", "-tags", only(t, read(t, "Makefile"), `(?m)^TAGS +:= (\S+)`), ".")
	cmd.Dir = filepath.Join(repository, "distribution")
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("listing what the binary is built from: %v\n%s", err, said.String())
	}
	root, err := filepath.Abs(repository)
	if err != nil {
		t.Fatal(err)
	}
	files := 0
	for decoder := json.NewDecoder(&out); ; {
		var p struct {
			Module              *struct{ Main bool }
			Dir                 string
			GoFiles, EmbedFiles []string
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		if p.Module == nil || !p.Module.Main {
			continue
		}
		for _, name := range slices.Concat(p.GoFiles, p.EmbedFiles) {
			path, err := filepath.Rel(root, filepath.Join(p.Dir, name))
			if err != nil {
				t.Fatal(err)
			}
			files++
			parts := strings.Split(path, string(filepath.Separator))
			if !slices.Contains(sent, parts[0]) || slices.ContainsFunc(parts, func(part string) bool {
				return slices.ContainsFunc(dropped, func(pattern string) bool { match, _ := filepath.Match(pattern, part); return match })
			}) {
				t.Errorf("%s does not reach the image's builder", path)
			}
		}
	}
	if files < 100 {
		t.Errorf("only %d files", files)
	}
}
