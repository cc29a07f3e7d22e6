package accesslog_test

import (
	"bufio"
	"compress/gzip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/accesslog"
)

// recordings is the folder of recordings at the root of the repository.
const recordings = "../../../../recordings"

// recordedEntries returns the entries of one recorded ztunnel log.
func recordedEntries(tb testing.TB, file string) [][]byte {
	tb.Helper()
	f, err := os.Open(file)
	require.NoError(tb, err)
	defer f.Close()
	zr, err := gzip.NewReader(f)
	require.NoError(tb, err)
	var entries [][]byte
	splitter := accesslog.NewEntrySplitter(accesslog.Style{}, 0, 0)
	emit := func(entry []byte) { entries = append(entries, append([]byte(nil), entry...)) }
	scanner := bufio.NewScanner(zr)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		splitter.Line(scanner.Bytes(), emit)
	}
	require.NoError(tb, scanner.Err())
	splitter.Flush(emit)
	parser := accesslog.NewParser(0)
	for _, entry := range entries {
		require.True(tb, parser.StartsEntry(entry))
	}
	require.Zero(tb, splitter.Truncated())
	return entries
}

func recordedLogs(tb testing.TB) []string {
	tb.Helper()
	files, err := filepath.Glob(filepath.Join(recordings, "*", "ztunnel-*.log.gz"))
	require.NoError(tb, err)
	require.NotEmpty(tb, files)
	return files
}

// accessEntries returns recorded access entries, JSON or plain.
func accessEntries(tb testing.TB, json bool) [][]byte {
	tb.Helper()
	var entries [][]byte
	var rec accesslog.Record
	parser := accesslog.NewParser(0)
	for _, file := range recordedLogs(tb) {
		for _, entry := range recordedEntries(tb, file) {
			if kind, _ := parser.Parse(entry, &rec); kind == accesslog.KindAccess && (entry[0] == '{') == json {
				entries = append(entries, entry)
			}
		}
	}
	require.NotEmpty(tb, entries)
	return entries
}
