// Command sbom lists what the collector's binary and the UI in it are made of: as CycloneDX JSON, and as a table of licences.
//
//	sbom -binary bin/otelcol-nephilia -lock ui/package-lock.json -out bin/sbom.cdx.json -licences docs/licences.md
//
// The same inputs give the same outputs, byte for byte.
package main

import (
	"bytes"
	"context"
	"debug/buildinfo"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// part is a module or a package of the UI.
type part struct {
	Name, Version, Licence string
	// Ecosystem is golang or npm.
	Ecosystem string
}

func main() {
	binary := flag.String("binary", "bin/otelcol-nephilia", "the collector's binary")
	module := flag.String("module", ".", "the folder of the module that the binary was built from")
	lock := flag.String("lock", "ui/package-lock.json", "the UI's locked dependencies")
	out := flag.String("out", "bin/sbom.cdx.json", "where the list goes")
	licences := flag.String("licences", "", "where the table of licences goes; empty for none")
	flag.Parse()
	if err := run(*binary, *module, *lock, *out, *licences); err != nil {
		fmt.Fprintln(os.Stderr, "sbom:", err)
		os.Exit(1)
	}
}

func run(binary, module, lock, out, licences string) error {
	modules, err := modulesOf(binary, module)
	if err != nil {
		return fmt.Errorf("reading %s: %w", binary, err)
	}
	content, err := os.ReadFile(lock)
	if err != nil {
		return err
	}
	packages, err := packagesOf(content)
	if err != nil {
		return fmt.Errorf("reading %s: %w", lock, err)
	}
	parts := slices.Concat(modules, packages)
	encoded, err := cycloneDX(parts)
	if err != nil {
		return err
	}
	if err := os.WriteFile(out, encoded, 0o644); err != nil {
		return err
	}
	if licences == "" {
		return nil
	}
	return os.WriteFile(licences, table(parts), 0o644)
}

// modulesOf are the modules that a binary says it was built of; module is the folder of its own.
func modulesOf(binary, module string) ([]part, error) {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return nil, err
	}
	var parts []part
	names := []string{"list", "-m", "-f", "{{.Path}}\t{{.Dir}}"}
	for _, m := range info.Deps {
		if m.Version == "(devel)" {
			continue // of this repository
		}
		if m.Replace != nil {
			m = m.Replace
		}
		parts = append(parts, part{Name: m.Path, Version: m.Version, Ecosystem: "golang"})
		names = append(names, m.Path)
	}
	list := exec.CommandContext(context.Background(), "go", names...)
	list.Dir = module
	folders, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("finding the modules' folders: %w", err)
	}
	where := map[string]string{}
	for line := range strings.Lines(string(folders)) {
		name, folder, _ := strings.Cut(strings.TrimSpace(line), "\t")
		where[name] = folder
	}
	for i := range parts {
		parts[i].Licence = licenceIn(where[parts[i].Name])
	}
	return parts, nil
}

// licenceIn is the SPDX identifier of the licence in a module's folder, or in one above it: some modules are parts of a repository.
func licenceIn(folder string) string {
	for range 3 {
		files, _ := filepath.Glob(filepath.Join(folder, "[LC][IO][CP][EY]*")) // the pattern is well-formed
		slices.Sort(files)
		for _, file := range files {
			if text, err := os.ReadFile(file); err == nil {
				if found := licenceOf(text); found != "" {
					return found
				}
			}
		}
		if folder == "" {
			break
		}
		folder = filepath.Dir(folder)
	}
	return "NOASSERTION"
}

// licenceOf tells a licence by its text.
func licenceOf(text []byte) string {
	words := strings.ToLower(strings.Join(strings.Fields(string(text)), " "))
	has := func(phrase string) bool { return strings.Contains(words, phrase) }
	switch {
	case has("apache license") && has("version 2.0"):
		return "Apache-2.0"
	case has("mozilla public license") && has("2.0"):
		return "MPL-2.0"
	case has("permission to use, copy, modify, and/or distribute"), has("permission to use, copy, modify, and distribute this software for any purpose"):
		return "ISC"
	case has("redistribution and use in source and binary forms") && (has("neither the name") || has("may not be used to endorse") || has("names of its contributors")):
		return "BSD-3-Clause"
	case has("redistribution and use in source and binary forms"):
		return "BSD-2-Clause"
	case has("permission is hereby granted, free of charge"):
		return "MIT"
	case has("this is free and unencumbered software"):
		return "Unlicense"
	}
	return ""
}

// packagesOf are the packages that a package-lock.json has for more than development.
func packagesOf(lock []byte) ([]part, error) {
	var locked struct {
		Packages map[string]struct {
			Version, License string
			Dev              bool
		}
	}
	if err := json.Unmarshal(lock, &locked); err != nil {
		return nil, err
	}
	var parts []part
	for path, p := range locked.Packages {
		if i := strings.LastIndex(path, "node_modules/"); i >= 0 && !p.Dev {
			licence := p.License
			if licence == "" {
				licence = "NOASSERTION"
			}
			parts = append(parts, part{Name: path[i+len("node_modules/"):], Version: p.Version, Licence: licence, Ecosystem: "npm"})
		}
	}
	slices.SortFunc(parts, func(a, b part) int { return strings.Compare(a.Name+"@"+a.Version, b.Name+"@"+b.Version) })
	return parts, nil
}

// url is a part's package URL.
func (p part) url() string {
	return "pkg:" + p.Ecosystem + "/" + strings.Replace(p.Name, "@", "%40", 1) + "@" + strings.ReplaceAll(p.Version, "+", "%2B")
}

// cycloneDX encodes parts as CycloneDX 1.6.
func cycloneDX(parts []part) ([]byte, error) {
	type licence struct {
		Expression string `json:"expression,omitempty"`
	}
	type component struct {
		Type     string    `json:"type"`
		Ref      string    `json:"bom-ref,omitempty"`
		Name     string    `json:"name"`
		Version  string    `json:"version,omitempty"`
		Licences []licence `json:"licenses,omitempty"`
		URL      string    `json:"purl,omitempty"`
	}
	var document struct {
		Format   string `json:"bomFormat"`
		Spec     string `json:"specVersion"`
		Version  int    `json:"version"`
		Metadata struct {
			Component component `json:"component"`
		} `json:"metadata"`
		Components []component `json:"components"`
	}
	document.Format, document.Spec, document.Version = "CycloneDX", "1.6", 1
	document.Metadata.Component = component{Type: "application", Name: "otelcol-nephilia", Licences: []licence{{"Apache-2.0"}}}
	for _, p := range parts {
		one := component{Type: "library", Ref: p.url(), Name: p.Name, Version: p.Version, URL: p.url()}
		if p.Licence != "NOASSERTION" {
			one.Licences = []licence{{p.Licence}}
		}
		document.Components = append(document.Components, one)
	}
	encoded, err := json.MarshalIndent(document, "", " ")
	return append(encoded, '\n'), err
}

// table lists licences in Markdown.
func table(parts []part) []byte {
	var b bytes.Buffer
	b.WriteString("# Licences of what Nephilia contains\n\nWritten by `make sbom` from the binary's own list of modules and the UI's locked packages.\n")
	count := map[string]int{}
	for _, p := range parts {
		count[p.Licence]++
	}
	b.WriteString("\n| licence | parts |\n|---|---|\n")
	var names []string
	for name := range count {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&b, "| %s | %d |\n", name, count[name])
	}
	b.WriteString("\n| part | version | licence |\n|---|---|---|\n")
	for _, p := range parts {
		fmt.Fprintf(&b, "| %s | %s | %s |\n", p.Name, p.Version, p.Licence)
	}
	return b.Bytes()
}
