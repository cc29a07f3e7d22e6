package main

import (
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func mountTmpfs(target, options string) error {
	return syscall.Mount("tmpfs", target, "tmpfs", 0, options)
}

func unmount(t *testing.T, target string) {
	t.Helper()
	require.NoError(t, syscall.Unmount(target, syscall.MNT_DETACH))
}
