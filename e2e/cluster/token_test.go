package cluster

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// tokenLife is how long a token for istiod is good in TestTokenRotated. The API server forgives ten seconds.
const tokenLife = 15 * time.Second

// TestTokenRotated lets tokens and xDS connections live so briefly that several of each pass during the run, while pods come and go:
// their names are known only if every new connection was made with a token that is still good.
func TestTokenRotated(t *testing.T) {
	t.Parallel()
	s := scenario{name: "token rotated", fault: "policy_denied", seed: 7, seconds: 90, from: 30, until: 60, connectionAge: 10 * time.Second}
	c := newCluster(t, simulate(t, &s), s.connectionAge)
	c.runner.Tokens = c.control.ShortLived(tokenLife)
	c.install(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()

	first, err := os.ReadFile(filepath.Join(c.gateways[0].Volume("istio-token"), "istio-token"))
	if err != nil {
		t.Fatal(err)
	}
	if good, err := c.control.Accepts(ctx, string(first)); err != nil || !good {
		t.Fatalf("the API server does not take a fresh token (%v)", err)
	}
	renewing, stop := context.WithCancel(ctx)
	renewed := make(chan error, 1)
	go func() {
		for {
			if sleepUntil(renewing, time.Now().Add(tokenLife*8/10)) != nil {
				renewed <- nil
				return
			}
			for _, gateway := range c.gateways {
				if err := gateway.RenewTokens(renewing); err != nil && renewing.Err() == nil {
					renewed <- err
					return
				}
			}
		}
	}()

	begin := time.Now().Add(time.Second)
	if err := c.play(ctx, begin); err != nil {
		t.Fatal(err)
	}
	c.requireCounts(t, begin)
	c.requireScraped(t)
	c.requireOutages(t, begin, c.gateways...)
	stop()
	if err := <-renewed; err != nil {
		t.Fatal(err)
	}
	if good, err := c.control.Accepts(ctx, string(first)); err != nil || good {
		t.Errorf("the first token is still good (%v)", err)
	}
	said, err := os.ReadFile(filepath.Join(c.folder, "control-plane", "istiod.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, gateway := range c.gateways {
		connections := strings.Count(string(said), "ADS: new delta connection for node:"+gateway.Object.Name+".")
		if connections < 4 {
			t.Errorf("%s made %d connections only", gateway.Object.Name, connections)
		}
	}
}
