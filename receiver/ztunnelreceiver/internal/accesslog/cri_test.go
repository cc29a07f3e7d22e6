package accesslog_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/receiver/ztunnelreceiver/internal/accesslog"
)

const criTime = "2026-11-23T21:25:00.250079123Z "

func joinAll(j *accesslog.CRIJoiner, lines ...string) []string {
	var out []string
	for _, line := range lines {
		if content, ok := j.Line([]byte(line)); ok {
			out = append(out, string(content))
		}
	}
	return out
}

func TestCRIJoiner(t *testing.T) {
	for _, tt := range []struct {
		name                 string
		lines, want          []string
		malformed, truncated int64
	}{
		{name: "full line", lines: []string{criTime + "stdout F hello  world "}, want: []string{"hello  world "}},
		{name: "tabs stay", lines: []string{criTime + "stdout F a\tb"}, want: []string{"a\tb"}},
		{name: "empty content", lines: []string{criTime + "stdout F ", criTime + "stdout F"}, want: []string{"", ""}},
		{name: "more tags", lines: []string{criTime + "stdout F:x hello"}, want: []string{"hello"}},
		{name: "time with an offset", lines: []string{"2026-11-23T21:25:00.250079123+01:00 stderr F hello"}, want: []string{"hello"}},
		{name: "carriage return", lines: []string{criTime + "stdout F hello\r"}, want: []string{"hello"}},
		{name: "parts", lines: []string{criTime + "stdout P one ", criTime + "stdout P two ", criTime + "stdout F three"}, want: []string{"one two three"}},
		{name: "parts that end empty", lines: []string{criTime + "stdout P one", criTime + "stdout F "}, want: []string{"one"}},
		{name: "streams interleaved", lines: []string{
			criTime + "stdout P out1 ", criTime + "stderr P err1 ", criTime + "stdout F out2", criTime + "stdout F whole", criTime + "stderr F err2",
		}, want: []string{"out1 out2", "whole", "err1 err2"}},
		{name: "malformed between parts", lines: []string{
			criTime + "stdout P a", "", "x", "yesterday stdout F x", criTime + "stdin F x", criTime + "stdout X x", criTime + "stdout FX x", criTime + "stdout", criTime + "stdout F b",
		}, want: []string{"ab"}, malformed: 7},
		{name: "no CRI at all", lines: []string{outboundPlain, outboundJSON, "\x00\xff"}, malformed: 3},
		{name: "too long", lines: []string{criTime + "stdout F " + strings.Repeat("x", 65)}, want: []string{strings.Repeat("x", 65)}, truncated: 1},
		{name: "parts too long", lines: []string{
			criTime + "stdout P " + strings.Repeat("x", 60), criTime + "stdout P " + strings.Repeat("y", 60), criTime + "stdout F z", criTime + "stdout F next",
		}, want: []string{strings.Repeat("x", 60) + "yyyyy", "next"}, truncated: 1},
		{name: "just fits", lines: []string{criTime + "stdout P " + strings.Repeat("x", 60), criTime + "stdout F yyyy"}, want: []string{strings.Repeat("x", 60) + "yyyy"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := accesslog.NewCRIJoiner(64)
			assert.Equal(t, tt.want, joinAll(j, tt.lines...))
			assert.Equal(t, tt.malformed, j.Malformed())
			assert.Equal(t, tt.truncated, j.Truncated())
		})
	}
}

func TestCRIJoinerState(t *testing.T) {
	first := accesslog.NewCRIJoiner(0)
	assert.Empty(t, joinAll(first, criTime+"stdout P one ", criTime+"stderr P err "))
	state := first.AppendState(nil)
	second := accesslog.NewCRIJoiner(0)
	require.NoError(t, second.SetState(state))
	assert.Equal(t, []string{"one two", "err or"}, joinAll(second, criTime+"stdout F two", criTime+"stderr F or"))

	for n := range state {
		require.Error(t, second.SetState(state[:n]))
	}
	require.Error(t, second.SetState(append(state, 0)))
	require.Error(t, second.SetState([]byte{9, 0, 0, 0}))
}

func TestIsCRI(t *testing.T) {
	assert.True(t, accesslog.IsCRI([]byte(criTime+"stdout F x")))
	assert.False(t, accesslog.IsCRI([]byte(outboundPlain)))
	assert.False(t, accesslog.IsCRI([]byte(outboundJSON)))
	assert.False(t, accesslog.IsCRI(nil))
}

// split returns the entries of lines; each is marked with the number of the line at which it left.
func split(s *accesslog.EntrySplitter, lines ...string) []string {
	var out []string
	emit := func(entry []byte) { out = append(out, string(entry)) }
	for _, line := range lines {
		s.Line([]byte(line), emit)
	}
	s.Flush(emit)
	return out
}

func TestEntrySplitter(t *testing.T) {
	const head = "2026-11-23T21:18:47.072581Z\tinfo\tztunnel\trunning with config: proxy: true"
	for _, tt := range []struct {
		name        string
		lines, want []string
		truncated   int64
	}{
		{name: "one a line", lines: []string{outboundPlain, outboundJSON, head}, want: []string{outboundPlain, outboundJSON, head}},
		{
			name: "continued", lines: []string{head, "dnsProxy: true", "- true", "", "  secs: 300", outboundPlain},
			want: []string{head + "\ndnsProxy: true\n- true\n\n  secs: 300", outboundPlain},
		},
		{name: "a number is not a time", lines: []string{head, "2026", "2026-11-23 hello\tworld", "123\tx"}, want: []string{head + "\n2026\n2026-11-23 hello\tworld\n123\tx"}},
		{name: "orphans", lines: []string{"lost", "", outboundPlain, "lost as well", outboundJSON, "and this"}, want: []string{"lost", outboundPlain, "lost as well", outboundJSON, "and this"}},
		{name: "carriage returns", lines: []string{head + "\r", "a\r"}, want: []string{head + "\na"}},
		{name: "too many lines", lines: []string{head, "1", "2", "3", "4", "5", outboundPlain}, want: []string{head + "\n1\n2\n3\n4", outboundPlain}, truncated: 1},
		{name: "too many bytes", lines: []string{head, strings.Repeat("x", 2000), "y", outboundPlain}, want: []string{head, outboundPlain}, truncated: 1},
		{name: "long line", lines: []string{outboundPlain + strings.Repeat("x", 3000)}, want: []string{(outboundPlain + strings.Repeat("x", 3000))[:1025]}, truncated: 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := accesslog.NewEntrySplitter(accesslog.Style{}, 1024, 5)
			assert.Equal(t, tt.want, split(s, tt.lines...))
			assert.Equal(t, tt.truncated, s.Truncated())
			assert.False(t, s.Holding())
		})
	}
}

func TestEntrySplitterLetsAccessEntriesGoAtOnce(t *testing.T) {
	s := accesslog.NewEntrySplitter(accesslog.Style{}, 0, 0)
	n := 0
	emit := func([]byte) { n++ }
	s.Line([]byte(outboundPlain), emit)
	assert.Equal(t, 1, n)
	s.Line([]byte(strings.Replace(outboundPlain, "\taccess\t", "\taccess:x{a=1}\t", 1)), emit)
	assert.Equal(t, 2, n)
	s.Line([]byte(outboundJSON), emit)
	assert.Equal(t, 3, n)
	s.Line([]byte("2026-11-23T21:18:47Z\tinfo\tx\ty\t"), emit)
	assert.Equal(t, 3, n)
	assert.True(t, s.Holding())

	state := s.AppendState(nil)
	restored := accesslog.NewEntrySplitter(accesslog.Style{}, 0, 0)
	restored.SetState(state)
	assert.Equal(t, []string{"2026-11-23T21:18:47Z\tinfo\tx\ty\t\nmore"}, split(restored, "more"))
	assert.Empty(t, restored.AppendState(nil))
}

func TestJoiningAndSplittingDoNotAllocate(t *testing.T) {
	j, s := accesslog.NewCRIJoiner(0), accesslog.NewEntrySplitter(accesslog.Style{}, 0, 0)
	lines := [][]byte{
		[]byte(criTime + "stdout P " + outboundPlain[:40]), []byte(criTime + "stdout F " + outboundPlain[40:]),
		[]byte(criTime + "stdout F 2026-11-23T21:18:47Z\tinfo\tx\ty"), []byte(criTime + "stdout F more"),
	}
	n := 0
	emit := func([]byte) { n++ }
	assert.Zero(t, testing.AllocsPerRun(10, func() {
		for _, line := range lines {
			if content, ok := j.Line(line); ok {
				s.Line(content, emit)
			}
		}
	}))
	assert.Positive(t, n)
}
