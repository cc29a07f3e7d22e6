package judge

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/nephilia/nephilia/internal/mesh"
	"github.com/nephilia/nephilia/internal/outage"
	"github.com/nephilia/nephilia/internal/semconv"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/observe"
	"github.com/nephilia/nephilia/processor/outagedetector/internal/rules"
)

// Certificate is an identity with a fault.
type Certificate struct {
	Root  outage.Subject
	Fault observe.Fault
	Nodes []string
	// Text says what is wrong; Evidence is the kind of evidence that it is.
	Text, Evidence string
}

// Certificates are the identities with a fault: those about to expire, and ztunnels that cannot get any.
type Certificates struct {
	All []Certificate

	store *observe.Store
	// checked is when anything was looked at last, expiring what was found at expiries.
	checked, expiries int64
	expiring          []Certificate
	// missing is since when ztunnels lack certificates, by node; bounded by the mesh's.
	missing map[string]int64
}

// certificatesEvery is how often the certificates of all ztunnels are looked through.
const certificatesEvery = int64(30 * time.Second)

func (j *Certificates) judge(now int64) {
	if now-j.checked < certificatesEvery && len(j.All) == 0 {
		return
	}
	j.checked = now
	base := j.store.Catalogue.Base()
	if rule := base.Get(rules.CertificateExpiry); rule != nil && now-j.expiries >= certificatesEvery {
		j.expiries = now
		j.expire(rule, now)
	}
	j.All = append(j.All[:0], j.expiring...)
	for i := range j.All {
		j.All[i].Fault.LastBad = now
	}
	if rule := base.Get(rules.CertificateFailures); rule != nil {
		j.fail(rule, now)
	}
	if rule := base.Get(rules.CertificatesMissing); rule != nil {
		j.lack(rule, now)
	}
	j.share()
}

// Istiod is the control plane as outages name it.
var Istiod = outage.Subject{Type: "control_plane", Namespace: "istio-system", Name: "istiod"}

// fail finds ztunnels that say that they cannot get certificates.
func (j *Certificates) fail(rule *rules.Rule, now int64) {
	for _, n := range j.store.Nodes.ByName {
		if n.Name == "" || !n.Certificates.Failing(now, rule.Window) || n.Certificates.Count < rule.MinCount {
			continue
		}
		j.All = append(j.All, Certificate{
			Root: outage.Subject{Type: "node", Name: n.Name}, Nodes: []string{n.Name}, Text: n.Certificates.Evidence.Text, Evidence: outage.EvidenceLog,
			Fault: observe.Fault{
				On: true, Rule: rule, Since: n.Certificates.First, Fired: now, LastBad: now, Kind: rule.Kind,
				Tally: observe.Tally{Ratio: 1, Failed: n.Certificates.Count, Total: n.Certificates.Count},
			},
		})
	}
}

// lack finds ztunnels whose newest config dump has certificates that are unavailable, as long as dumps come.
func (j *Certificates) lack(rule *rules.Rule, now int64) {
	before := j.missing
	j.missing = map[string]int64{}
	for _, z := range j.store.Mesh.Ztunnels() {
		n := j.store.Nodes.ByName[z.Node]
		if n == nil || n.Sources[semconv.SourceConfigDump] != nil && !n.Sources[semconv.SourceConfigDump].Up {
			continue
		}
		var of []*mesh.Certificate
		for i := range z.Certificates {
			if strings.HasPrefix(z.Certificates[i].State, "Unavailable") {
				of = append(of, &z.Certificates[i])
			}
		}
		if uint64(len(of)) < rule.MinCount {
			continue
		}
		since, known := before[z.Node]
		if !known {
			since = now
		}
		j.missing[z.Node] = since
		told := slices.ContainsFunc(j.All[len(j.expiring):], func(c Certificate) bool { return c.Root.Name == z.Node })
		if told || now-since < int64(rule.Hold) {
			continue
		}
		root := outage.Subject{Type: "node", Name: z.Node}
		if len(of) == 1 && len(z.Certificates) > 1 {
			root = j.owner(of[0].Identity)
		}
		j.All = append(j.All, Certificate{
			Root: root, Nodes: []string{z.Node}, Text: "certificate of " + of[0].Identity + ": " + of[0].State, Evidence: outage.EvidenceObservation,
			Fault: observe.Fault{
				On: true, Rule: rule, Since: since, Fired: now, LastBad: now, Kind: rule.Kind,
				Tally: observe.Tally{
					Ratio: float64(len(of)) / float64(len(z.Certificates)), Failed: uint64(len(of)), Total: uint64(len(z.Certificates)),
				},
			},
		})
	}
}

// share makes one fault of those that several nodes' ztunnels have: it is that of who signs certificates, or of one identity.
func (j *Certificates) share() {
	found := j.All[len(j.expiring):]
	slices.SortStableFunc(found, func(a, b Certificate) int { return strings.Compare(a.Root.Name, b.Root.Name) })
	nodes := 0
	for i := range found {
		if found[i].Root.Type == "node" {
			nodes++
		}
	}
	kept := found[:0]
	for _, c := range found {
		if nodes > 1 && c.Root.Type == "node" {
			c.Root = Istiod
		}
		at := slices.IndexFunc(kept, func(other Certificate) bool { return other.Root == c.Root })
		if at < 0 {
			kept = append(kept, c)
			continue
		}
		shared := &kept[at]
		shared.Nodes = append(shared.Nodes, c.Nodes...)
		shared.Fault.Since = min(shared.Fault.Since, c.Fault.Since)
		if shared.Fault.Rule == c.Fault.Rule {
			shared.Fault.Failed += c.Fault.Failed
			shared.Fault.Total += c.Fault.Total
		}
	}
	j.All = j.All[:len(j.expiring)+len(kept)]
}

// expire finds certificates that are about to expire.
func (j *Certificates) expire(rule *rules.Rule, now int64) {
	found := map[string]*Certificate{}
	at := time.Unix(0, now)
	for _, z := range j.store.Mesh.Ztunnels() {
		for i := range z.Certificates {
			c := &z.Certificates[i]
			due, is := dueAt(c, rule, at)
			if !is {
				continue
			}
			entry, ok := found[c.Identity]
			if !ok {
				entry = &Certificate{
					Root: j.owner(c.Identity), Evidence: outage.EvidenceObservation,
					Text: "certificate of " + c.Identity + " expires at " + c.NotAfter.UTC().Format(time.RFC3339),
					Fault: observe.Fault{
						On: true, Rule: rule, Since: due.UnixNano(), Fired: now, LastBad: now, Kind: rule.Kind, Tally: observe.Tally{Ratio: 0.1},
					},
				}
				found[c.Identity] = entry
			}
			if !slices.Contains(entry.Nodes, z.Node) {
				entry.Nodes = append(entry.Nodes, z.Node)
			}
			if !at.Before(c.NotAfter) {
				entry.Fault.Ratio = 1
			}
		}
	}
	j.expiring = j.expiring[:0]
	for _, identity := range slices.Sorted(maps.Keys(found)) {
		slices.Sort(found[identity].Nodes)
		j.expiring = append(j.expiring, *found[identity])
	}
}

// dueAt is when a certificate in use should have been renewed, and whether it should by now.
func dueAt(c *mesh.Certificate, rule *rules.Rule, now time.Time) (due time.Time, is bool) {
	if c.NotAfter.IsZero() || c.NotBefore.IsZero() || !now.After(c.NotBefore) {
		return due, false
	}
	lifetime := c.NotAfter.Sub(c.NotBefore)
	due = c.NotAfter.Add(-time.Duration(float64(lifetime) * rule.MinRatio))
	return due, !now.Before(due)
}

// owner is the workload behind spiffe://domain/ns/NAMESPACE/sa/ACCOUNT.
func (j *Certificates) owner(identity string) outage.Subject {
	var namespace, account string
	parts := strings.Split(identity, "/")
	for i := 0; i+1 < len(parts); i++ {
		switch parts[i] {
		case "ns":
			namespace = parts[i+1]
		case "sa":
			account = parts[i+1]
		}
	}
	name := j.store.Mesh.Owner(namespace, account)
	return outage.Subject{Type: "workload", Namespace: name.Namespace, Name: name.Name}
}
