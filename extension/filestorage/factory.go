package filestorage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	upstream "github.com/open-telemetry/opentelemetry-collector-contrib/extension/storage/filestorage"
	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/extension"
	"go.opentelemetry.io/collector/extension/xextension/storage"
	"go.uber.org/zap"
)

const (
	// aside is in the name of a database that was set aside, before the time.
	aside = ".damaged-"
	// maxAside bounds the databases of one component that are set aside and kept.
	maxAside = 3
)

// NewFactory returns the file_storage extension's factory: type and configuration are contrib's.
func NewFactory() extension.Factory {
	factory := upstream.NewFactory()
	create := func(ctx context.Context, set extension.Settings, cfg component.Config) (extension.Extension, error) {
		inner, err := factory.Create(ctx, set, cfg)
		if err != nil {
			return nil, err
		}
		stores, ok := inner.(storage.Extension)
		if !ok {
			return nil, fmt.Errorf("%s is no storage extension", set.ID)
		}
		return &checked{Extension: stores, cfg: cfg.(*upstream.Config), log: set.Logger, now: time.Now}, nil
	}
	return extension.NewFactory(factory.Type(), factory.CreateDefaultConfig, create, factory.Stability())
}

// checked is a storage extension that looks at its databases before it opens them.
type checked struct {
	storage.Extension
	cfg *upstream.Config
	log *zap.Logger
	now func() time.Time
}

// Start sets aside what is damaged, before any component asks for it.
func (c *checked) Start(ctx context.Context, host component.Host) error {
	files, err := os.ReadDir(c.cfg.Directory)
	if err != nil {
		return fmt.Errorf("reading the storage's directory: %w", err)
	}
	for _, file := range files {
		if !file.Type().IsRegular() || strings.Contains(file.Name(), aside) || strings.HasPrefix(file.Name(), upstream.TempDbPrefix) {
			continue
		}
		path := filepath.Join(c.cfg.Directory, file.Name())
		if err := checkFile(path); errors.Is(err, errDamaged) {
			if err := c.setAside(path, err); err != nil {
				return err
			}
		}
	}
	return c.Extension.Start(ctx, host)
}

// setAside renames a database, so that its component begins with an empty one.
func (c *checked) setAside(path string, problem error) error {
	kept, err := filepath.Glob(path + aside + "*")
	if err != nil {
		return fmt.Errorf("looking for what was set aside of %s: %w", path, err)
	}
	slices.Sort(kept)
	for ; len(kept) >= maxAside; kept = kept[1:] {
		if err := os.Remove(kept[0]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("making room for the damaged database %s: %w", path, err)
		}
	}
	to := path + aside + c.now().UTC().Format("20060102T150405.000Z")
	if err := os.Rename(path, to); err != nil {
		return fmt.Errorf("setting the damaged database %s aside: %w", path, err)
	}
	c.log.Error("A database of the storage is damaged and was set aside. What its component had stored is lost, and it begins anew",
		zap.String("file", path), zap.String("set_aside", to), zap.Error(problem))
	return nil
}

// GetClient opens a component's database. Where the disk is full it can still be read.
func (c *checked) GetClient(ctx context.Context, kind component.Kind, id component.ID, name string) (storage.Client, error) {
	path := filepath.Join(c.cfg.Directory, fileName(kind, id, name))
	open := func(ctx context.Context) (storage.Client, error) {
		_, missing := os.Lstat(path)
		client, err := c.Extension.GetClient(ctx, kind, id, name)
		if err != nil && full(err) && errors.Is(missing, fs.ErrNotExist) {
			// There was room for its beginning only, which bbolt would take for a database.
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, fmt.Errorf("removing the beginning of a database: %w", err)
			}
		}
		return client, err
	}
	client, err := open(ctx)
	if err == nil || !full(err) {
		return client, err
	}
	c.log.Error("The disk is full: what is stored is read, and nothing is stored until there is room", zap.String("component", id.String()), zap.Error(err))
	return &waiting{open: open, path: path, timeout: c.cfg.Timeout, log: c.log, component: id}, nil
}

// full tells whether an error says that there is no room.
func full(err error) bool {
	for _, room := range [...]syscall.Errno{syscall.ENOSPC, syscall.EDQUOT} {
		// bbolt does not wrap all of them.
		if errors.Is(err, room) || strings.Contains(err.Error(), room.Error()) {
			return true
		}
	}
	return false
}
