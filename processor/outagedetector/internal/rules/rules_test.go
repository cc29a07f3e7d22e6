package rules

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/nephilia/nephilia/internal/reasons"
)

// kinds are all that an outage may be of.
var kinds = func() (names []string) {
	for _, kind := range reasons.Kinds {
		names = append(names, kind.Name)
	}
	return names
}()

// words are what a summary knows to fill in.
var words = regexp.MustCompile(`^(edge|root|kind|when|failed|total|policy|during|pods|nodes|source|podfails|fails|hangs|is|times)$`)

// TestCatalogue holds every rule to be complete and every kind to have one.
func TestCatalogue(t *testing.T) {
	seen, covered := map[string]bool{}, map[string]bool{}
	for i := range Defaults {
		r := &Defaults[i]
		t.Run(r.ID, func(t *testing.T) {
			assert.False(t, seen[r.ID])
			seen[r.ID], covered[r.Kind] = true, true
			assert.Regexp(t, `^[a-z0-9_]+$`, r.ID)
			assert.NotEmpty(t, r.Title)
			assert.NotEmpty(t, r.Signal)
			assert.Contains(t, []string{Critical, Warning}, r.Severity)
			assert.NotEqual(t, []string{"none"}, r.thresholds())
			assert.Same(t, r, Named(r.ID))
			for _, sentence := range []Sentence{r.Sentence, r.Bare} {
				for _, word := range regexp.MustCompile(`\{([^}]*)\}`).FindAllStringSubmatch(string(sentence), -1) {
					if !strings.Contains(word[1], "|") {
						assert.Regexp(t, words, word[1])
					}
				}
			}
			assert.True(t, strings.HasSuffix(string(r.Sentence), "."))
			assert.Regexp(t, `\{(when|during)\}`, r.Sentence)
			if !strings.Contains(r.Kind, " ") {
				assert.Contains(t, kinds, r.Kind)
			}
		})
	}
	for _, kind := range kinds {
		assert.True(t, covered[kind], kind)
	}
	assert.Nil(t, Named("nonsense"))
}

func TestSentence(t *testing.T) {
	s := Sentence("{edge} {fails} {when}: {root} {refuses|refused} connections.")
	given := map[string]string{"edge": "a → b", "fails": "fails", "when": "since 03:00:00", "root": "b"}
	assert.Equal(t, "a → b fails since 03:00:00: b refuses connections.", s.Fill(given, false))
	given["fails"], given["when"] = "failed", "from 03:00:00 to 03:01:00"
	assert.Equal(t, "a → b failed from 03:00:00 to 03:01:00: b refused connections.", s.Fill(given, true))
	assert.Equal(t, "{other} stays", Sentence("{other} stays").Fill(nil, false))
	assert.Equal(t, "open ", Sentence("open {end").Fill(nil, false), "a brace that is not closed ends the sentence")
}

func ptr[T any](v T) *T { return &v }

// TestOverrides holds later overrides to win, narrower ones to change nothing elsewhere, and all of a rule to be open to change.
func TestOverrides(t *testing.T) {
	catalogue := NewCatalogue(map[string]Change{HTTPErrors: {MinCount: ptr[uint64](7)}}, []Override{
		{Subject: Subject{Namespace: "shop"}, Rules: map[string]Change{HTTPErrors: {MinRatio: ptr(0.2)}}},
		{Subject: Subject{Namespace: "shop", Workload: "cart"}, Rules: map[string]Change{HTTPErrors: {MinRatio: ptr(0.4)}, SlowRequests: {Enabled: ptr(false)}}},
		{Source: Subject{Workload: "batch"}, Rules: map[string]Change{HTTPErrors: {
			Chance: ptr(0.1), Noise: ptr(0.3), MinIntervals: ptr(4), Window: ptr(time.Hour), Factor: ptr(3.0), Hold: ptr(time.Minute), Severity: ptr(Warning),
		}}},
	})
	assert.Same(t, catalogue.Base(), catalogue.For("data", "redis", "data", "other"))
	assert.EqualValues(t, 7, catalogue.Base().Get(HTTPErrors).MinCount)
	assert.InDelta(t, 0.2, catalogue.For("", "", "shop", "web").Get(HTTPErrors).MinRatio, 0)
	cart := catalogue.For("shop", "web", "shop", "cart")
	assert.InDelta(t, 0.4, cart.Get(HTTPErrors).MinRatio, 0)
	assert.Nil(t, cart.Get(SlowRequests))
	assert.NotNil(t, catalogue.Base().Get(SlowRequests))
	assert.Same(t, cart, catalogue.For("shop", "web", "shop", "cart"), "resolved once")
	changed := catalogue.For("any", "batch", "data", "db").Get(HTTPErrors)
	assert.Equal(t, Rule{
		ID: HTTPErrors, Kind: KindHTTPErrors, Signal: changed.Signal, Title: changed.Title, Sentence: changed.Sentence, Severity: Warning, Thresholds: Thresholds{
			MinCount: 7, MinRatio: 0.05, Chance: 0.1, Noise: 0.3, MinIntervals: 4, Window: time.Hour, Factor: 3, Hold: time.Minute,
		},
	}, *changed)
	assert.InDelta(t, 0.05, Named(HTTPErrors).MinRatio, 0, "the catalogue itself stays")
}

func TestChangesThatMakeNoSense(t *testing.T) {
	for name, change := range map[string]Change{
		"min_ratio must lie in [0, 1], not 2":                {MinRatio: ptr(2.0)},
		"chance must lie in [0, 1], not -1":                  {Chance: ptr(-1.0)},
		"noise must lie in [0, 1], not 1.1":                  {Noise: ptr(1.1)},
		"factor must be positive, not 0":                     {Factor: ptr(0.0)},
		"min_intervals must not be negative, not -1":         {MinIntervals: ptr(-1)},
		"window must not be negative, not -1s":               {Window: ptr(-time.Second)},
		"hold must not be negative, not -1s":                 {Hold: ptr(-time.Second)},
		`severity must be critical or warning, not "urgent"`: {Severity: ptr("urgent")},
	} {
		require.ErrorContains(t, change.Validate(), name)
	}
	require.NoError(t, (&Change{}).Validate())
	require.ErrorContains(t, ValidateChanges(map[string]Change{"nonsense": {}}), `there is no rule "nonsense"`)
	require.ErrorContains(t, (&Override{}).Validate(), "needs a namespace, a workload or a source")
}

// TestReasons holds every reason to have a rule that judges it, or to be nobody's outage.
func TestReasons(t *testing.T) {
	for _, reason := range reasons.All {
		if id := ForReason(reason.Name); id != "" {
			require.NotNil(t, Named(id), reason.Name)
		}
	}
	assert.Empty(t, ForReason("client_aborted"))
	assert.Equal(t, Refused, ForReason("connect_failed"))
	assert.Equal(t, "connection_failed", ForReason("what a later version may say"))
}

func TestDocument(t *testing.T) {
	text := Document()
	for i := range Defaults {
		assert.Equal(t, 1, strings.Count(text, "#### `"+Defaults[i].ID+"`"))
	}
	assert.NotRegexp(t, `\{(when|during)\}`, text)
	assert.NotContains(t, text, "|")
}
