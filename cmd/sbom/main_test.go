package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestLicences(t *testing.T) {
	for text, want := range map[string]string{
		"Apache License\n   Version 2.0, January 2004":                                             "Apache-2.0",
		"Permission is hereby granted, free of charge, to any person":                              "MIT",
		"Redistribution and use in source and binary forms\n ... Neither the name of":              "BSD-3-Clause",
		"Redistribution and use in source and binary forms":                                        "BSD-2-Clause",
		"Mozilla Public License Version 2.0":                                                       "MPL-2.0",
		"Permission to use, copy, modify, and/or distribute this software for any purpose with or": "ISC",
		"All rights reserved.": "",
	} {
		assert.Equal(t, want, licenceOf([]byte(text)), text)
	}
	folder := t.TempDir()
	part := filepath.Join(folder, "a", "b")
	require.NoError(t, os.MkdirAll(part, 0o750))
	assert.Equal(t, "NOASSERTION", licenceIn(part))
	require.NoError(t, os.WriteFile(filepath.Join(folder, "a", "LICENSE"), []byte("Apache License Version 2.0"), 0o600))
	assert.Equal(t, "Apache-2.0", licenceIn(part))
}

func TestParts(t *testing.T) {
	parts, err := packagesOf([]byte(`{"packages": {"": {"name": "ui"}, "node_modules/react": {"version": "19.3.1", "license": "MIT"},
		"node_modules/vite": {"version": "8.0.0", "dev": true}, "node_modules/a/node_modules/@scope/b": {"version": "1.0.0"}}}`))
	require.NoError(t, err)
	assert.Equal(t, []part{{"@scope/b", "1.0.0", "NOASSERTION", "npm"}, {"react", "19.3.1", "MIT", "npm"}}, parts)
	encoded, err := cycloneDX(parts)
	require.NoError(t, err)
	var document struct {
		BomFormat  string
		Components []struct{ Name, Purl string }
	}
	require.NoError(t, json.Unmarshal(encoded, &document))
	assert.Equal(t, "CycloneDX", document.BomFormat)
	require.Len(t, document.Components, 2)
	assert.Equal(t, "pkg:npm/%40scope/b@1.0.0", document.Components[0].Purl)
	assert.Contains(t, string(table(parts)), "| react | 19.3.1 | MIT |")
}
