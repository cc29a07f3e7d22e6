// Package ui is the web interface's build. Its source is in the repository's ui/ folder; `make ui` builds it anew.
package ui

import (
	"embed"
	"io/fs"
)

//go:embed all:dist
var dist embed.FS

// FS returns the built files: index.html, and under assets/ files whose names change with their content.
func FS() fs.FS {
	files, err := fs.Sub(dist, "dist")
	if err != nil {
		// Only an invalid path name can fail, and the path is a constant.
		panic(err)
	}
	return files
}
