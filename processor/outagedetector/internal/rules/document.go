package rules

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nephilia/nephilia/internal/reasons"
)

// Document is the catalogue as Markdown, for the README.
func Document() string {
	var b strings.Builder
	for i := range Defaults {
		r := &Defaults[i]
		fmt.Fprintf(&b, "#### `%s`: %s\n\n", r.ID, r.Title)
		fmt.Fprintf(&b, "Kind: %s. Severity: %s. Looks at %s.\n\n", kindText(r.Kind), r.Severity, r.Signal)
		fmt.Fprintf(&b, "Thresholds: %s.\n\n", strings.Join(r.thresholds(), ", "))
		for _, kind := range reasons.Kinds {
			if kind.Name == r.Kind {
				fmt.Fprintf(&b, "%s\n\n", kind.Advice)
			}
		}
		fmt.Fprintf(&b, "> %s\n\n", r.Sentence.Fill(map[string]string{"when": "since {time}", "during": "since {time}"}, false))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func kindText(kind string) string {
	if strings.Contains(kind, " ") {
		return kind
	}
	return "`" + kind + "`"
}

// thresholds are those that the rule uses.
func (r *Rule) thresholds() []string {
	var list []string
	add := func(name, value string, used bool) {
		if used {
			list = append(list, fmt.Sprintf("`%s` %s", name, value))
		}
	}
	number := func(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }
	add("min_count", strconv.FormatUint(r.MinCount, 10), r.MinCount > 0)
	add("min_ratio", number(r.MinRatio), r.MinRatio > 0)
	add("chance", number(r.Chance), r.Chance > 0)
	add("noise", number(r.Noise), r.Noise > 0)
	add("min_intervals", strconv.Itoa(r.MinIntervals), r.MinIntervals > 0)
	add("window", durationText(r.Window), r.Window > 0)
	add("factor", number(r.Factor), r.Factor > 0)
	add("hold", durationText(r.Hold), r.Hold > 0)
	if r.Long > 0 {
		list = append(list, "long window "+durationText(r.Long)+" (fixed)")
	}
	if len(list) == 0 {
		return []string{"none"}
	}
	return list
}

func durationText(d time.Duration) string {
	text := d.String()
	text = strings.TrimSuffix(text, "0s")
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	if text == "" || strings.ContainsAny(text[len(text)-1:], "0123456789") {
		return d.String()
	}
	return text
}
