package outages

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/internal/outage"
)

var origin = time.Date(2026, 9, 1, 10, 0, 0, 0, time.UTC)

func one(id, state string, start, end time.Duration) *outage.Outage {
	o := &outage.Outage{ID: id, State: state, StartedAt: origin.Add(start)}
	if end != 0 {
		ended := origin.Add(end)
		o.EndedAt = &ended
	}
	return o
}

func names(list []*outage.Outage) (out []string) {
	for _, o := range list {
		out = append(out, o.ID)
	}
	return out
}

func TestList(t *testing.T) {
	var told []string
	s := New(10, func(o *outage.Outage, transition string, _ int64) { told = append(told, o.ID+" "+transition) })
	s.Put(one("a", "open", 0, 0), "opened", 1)
	s.Put(one("b", "open", time.Minute, 0), "opened", 2)
	s.Put(one("a", "resolved", 0, 2*time.Minute), "closed", 3)
	s.Put(one("a", "open", 0, 0), "opened", 2)
	assert.Equal(t, []string{"a opened", "b opened", "a closed"}, told, "what is older than what is known is passed over")
	at := origin.Add
	for _, test := range []struct {
		start, end time.Time
		state      string
		want       []string
	}{
		{time.Time{}, time.Time{}, "", []string{"b", "a"}},
		{time.Time{}, time.Time{}, "open", []string{"b"}},
		{time.Time{}, time.Time{}, "stale", nil},
		{at(3 * time.Minute), at(4 * time.Minute), "", []string{"b"}},
		{at(-time.Hour), at(30 * time.Second), "", []string{"a"}},
		{at(-time.Hour), at(0), "", nil},
		{at(2 * time.Minute), time.Time{}, "", []string{"b", "a"}},
	} {
		assert.Equal(t, test.want, names(s.List(test.start, test.end, test.state)), "%+v", test)
	}
	assert.Nil(t, s.Get("c"))
}

func TestBoundKeepsTheOpenOnes(t *testing.T) {
	s := New(3, nil)
	s.Put(one("open", "open", 0, 0), "opened", 1)
	for i := range 10 {
		s.Put(one(fmt.Sprint(i), "resolved", time.Duration(i+1)*time.Hour, time.Duration(i+2)*time.Hour), "closed", 1)
	}
	require.Equal(t, []string{"9", "8", "open"}, names(s.List(time.Time{}, time.Time{}, "")))
	restored := New(3, nil)
	s.Each(restored.Restore)
	assert.Equal(t, s.List(time.Time{}, time.Time{}, ""), restored.List(time.Time{}, time.Time{}, ""))
}

func TestChronic(t *testing.T) {
	s := New(2, nil).Chronic
	condition := func(id string, since, updated time.Duration, ended bool) *outage.Chronic {
		c := &outage.Chronic{ID: id, Since: origin.Add(since), Updated: origin.Add(updated)}
		if ended {
			c.EndedAt = &c.Updated
		}
		return c
	}
	ids := func() (all []string) {
		for _, c := range s.List() {
			all = append(all, c.ID)
		}
		return all
	}
	s.Put(condition("a", 0, 2*time.Minute, false))
	s.Put(condition("b", time.Minute, 2*time.Minute, false))
	s.Put(condition("c", time.Minute, 2*time.Minute, false))
	assert.Equal(t, []string{"b", "a"}, ids())
	assert.EqualValues(t, 1, s.Dropped())
	s.Put(condition("a", 0, time.Minute, true))
	assert.Equal(t, []string{"b", "a"}, ids(), "what is older than what is known is passed over")
	s.Put(condition("a", 0, 3*time.Minute, true))
	s.Put(condition("d", 0, 3*time.Minute, true))
	assert.Equal(t, []string{"b"}, ids())
}
