package rules

import "strings"

// Sentence is a template in two tenses: "{edge} {fails} {when}: {root} {refuses|refused} connections ({failed} of {total})."
// A word in braces is filled in; of two with a bar between them the first is the present's and the second the past's.
type Sentence string

// Fill makes a sentence of the template. A word that is not among those given stays as it is.
func (s Sentence) Fill(words map[string]string, past bool) string {
	var b strings.Builder
	rest := string(s)
	for {
		before, after, found := strings.Cut(rest, "{")
		b.WriteString(before)
		word, tail, closed := strings.Cut(after, "}")
		if !found || !closed {
			return b.String()
		}
		rest = tail
		present, then, tenses := strings.Cut(word, "|")
		switch text, known := words[word]; {
		case known:
			b.WriteString(text)
		case tenses && past:
			b.WriteString(then)
		case tenses:
			b.WriteString(present)
		default:
			b.WriteString("{" + word + "}")
		}
	}
}
