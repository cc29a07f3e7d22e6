package shared

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/collector/component"
)

type counted struct {
	starts, stops int
	err           error
}

func (c *counted) Start(context.Context, component.Host) error {
	c.starts++
	return c.err
}

func (c *counted) Shutdown(context.Context) error {
	c.stops++
	return nil
}

func id(name string) component.ID { return component.MustNewIDWithName("test", name) }

func create(err error) func() (*counted, error) {
	return func() (*counted, error) { return &counted{err: err}, nil }
}

func TestSignalsShareAComponent(t *testing.T) {
	var all Components[*counted]
	logs, err := all.Get(id("a"), create(nil))
	require.NoError(t, err)
	metrics, err := all.Get(id("a"), create(nil))
	require.NoError(t, err)
	other, err := all.Get(id("b"), create(nil))
	require.NoError(t, err)
	assert.Same(t, logs.Component(), metrics.Component())
	assert.NotSame(t, logs.Component(), other.Component())

	for range 2 {
		require.NoError(t, logs.Start(t.Context(), nil))
	}
	require.NoError(t, metrics.Start(t.Context(), nil))
	assert.Equal(t, counted{starts: 1}, *logs.Component())
	assert.True(t, logs.Running())
	for range 2 {
		require.NoError(t, logs.Shutdown(t.Context()))
	}
	assert.False(t, logs.Running())
	assert.Equal(t, counted{starts: 1}, *logs.Component(), "metrics go on")
	for range 2 {
		require.NoError(t, metrics.Shutdown(t.Context()))
	}
	assert.Equal(t, counted{starts: 1, stops: 1}, *logs.Component())

	again, err := all.Get(id("a"), create(nil))
	require.NoError(t, err)
	assert.NotSame(t, logs.Component(), again.Component(), "after a reload")
}

func TestComponentThatNeverStarted(t *testing.T) {
	var all Components[*counted]
	_, err := all.Get(id("a"), func() (*counted, error) { return nil, errors.New("no room") })
	require.EqualError(t, err, "no room")

	m, err := all.Get(id("a"), create(errors.New("in use")))
	require.NoError(t, err)
	second, err := all.Get(id("a"), create(nil))
	require.NoError(t, err)
	require.EqualError(t, m.Start(t.Context(), nil), "in use")
	require.EqualError(t, second.Start(t.Context(), nil), "in use")
	require.NoError(t, m.Shutdown(t.Context()))
	require.NoError(t, second.Shutdown(t.Context()))
	assert.Equal(t, counted{1, 1, errors.New("in use")}, *m.Component())
}
