package records

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

const killDirectory = "NEPHILIA_RECORDS_KILL_TEST"

// TestKilled ends a process that writes, again and again, in the middle of its work. What was flushed is there, in order and once, though
// each process begins by repeating what the one before wrote last.
func TestKilled(t *testing.T) {
	if directory := os.Getenv(killDirectory); directory != "" {
		writeUntilKilled(t, directory)
		return
	}
	rounds := 50
	if testing.Short() {
		rounds = 5
	}
	directory := t.TempDir()
	flushed := 0
	for round := range rounds {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilled$")
		child.Env = append(os.Environ(), killDirectory+"="+directory)
		out, err := child.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, child.Start())
		lines := bufio.NewScanner(out)
		for n := 0; n < 3+round%7 && lines.Scan(); n++ {
			flushed, err = strconv.Atoi(lines.Text())
			require.NoError(t, err, lines.Text())
		}
		require.NoError(t, child.Process.Kill())
		_ = child.Wait()
	}
	table := open(t, settings(directory)).Table("spans")
	found := numbers(t, table, Query{Order: Oldest})
	assert.Equal(t, count(0, len(found)), found)
	assert.GreaterOrEqual(t, len(found), flushed)
	assert.Empty(t, table.Status().Damaged)
}

func writeUntilKilled(t *testing.T, directory string) {
	store := open(t, settings(directory))
	table := store.Table("spans")
	next := max(0, int(table.Newest())-100)
	for {
		table.Append(sequence(next, next+50))
		next += 50
		require.NoError(t, store.Flush())
		fmt.Println(next)
		store.merge(t.Context())
	}
}
