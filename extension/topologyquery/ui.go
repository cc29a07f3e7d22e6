package topologyquery

import (
	"embed"
	"io/fs"
)

// The web UI's build; `make ui` writes it.
//
//go:embed all:ui/dist
var uiBuild embed.FS

func uiFiles() (fs.FS, error) { return fs.Sub(uiBuild, "ui/dist") }
