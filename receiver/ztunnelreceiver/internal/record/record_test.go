package record

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var key = []byte("nobody guesses this key")

func TestAddressesStayApart(t *testing.T) {
	s := newScrubber(key)
	seen := map[netip.Addr]bool{}
	for _, first := range []string{"10.0.0.0", "fd00::1:0"} {
		a := netip.MustParseAddr(first)
		for range 20_000 {
			other := s.address(a)
			require.True(t, ordinary(other), other)
			require.Equal(t, a.Is4(), other.Is4())
			require.False(t, seen[other], "%s is there twice", other)
			seen[other] = true
			a = a.Next()
		}
	}
	for _, same := range []string{"127.0.0.1", "0.0.0.0", "255.255.255.255", "224.0.0.1", "169.254.169.254", "::", "::1", "fe80::1", "ff02::1"} {
		assert.Equal(t, same, s.address(netip.MustParseAddr(same)).String())
	}
}

func TestScrub(t *testing.T) {
	s := newScrubber(key)
	line := `2026-11-23T21:25:46.596951Z	error	access	connection complete	src.addr=10.244.2.13:59430 src.workload="checkout-59aa-b1x7k" src.namespace="shop" ` +
		`src.identity="spiffe://cluster.local/ns/shop/sa/checkout" dst.addr=[fd00::12]:15008 dst.service="payment.billing.svc.cluster.local" ` +
		`direction="outbound" bytes_sent=15 duration="245ms" error="connection closed due to policy rejection: explicitly denied by: billing/no-checkout"`
	scrubbed, err := s.entry([]byte(line))
	require.NoError(t, err)
	text := string(scrubbed)
	for _, secret := range []string{"checkout", "shop", "payment", "billing", "59aa", "b1x7k", "10.244.", "fd00"} {
		assert.NotContains(t, text, secret)
	}
	for _, kept := range []string{
		"2026-11-23T21:25:46.596951Z\terror\taccess\tconnection complete\tsrc.addr=", ":59430 ", `duration="245ms"`, "bytes_sent=15", ".svc.cluster.local", "]:15008",
		"connection closed due to policy rejection: explicitly denied by: ", "spiffe://cluster.local/ns/",
	} {
		assert.Contains(t, text, kept)
	}
	again, err := newScrubber(key).entry([]byte(line))
	require.NoError(t, err)
	assert.Equal(t, text, string(again), "the same key, the same names")
	other, err := newScrubber(nil).entry([]byte(line))
	require.NoError(t, err)
	assert.NotEqual(t, text, string(other))
	assert.Regexp(t, `src.workload="[a-z0-9]+-[a-z0-9]+-[a-z0-9]{5}"`, text, "the end of a pod's name is one")

	for in, want := range map[string]string{
		"handle::add failed at 21:25:46.1": "handle::add failed at 21:25:46.1",
		"1.2.3":                            "1.2.3",
		"running with config:\nnode: a":    "",
	} {
		out, err := s.entry([]byte(in))
		require.NoError(t, err)
		assert.Equal(t, want, string(out))
	}
	named := s.name("ip-10-0-3-4.ec2.internal")
	assert.Equal(t, "ip-"+strings.ReplaceAll(s.address(netip.MustParseAddr("10.0.3.4")).String(), ".", "-"), strings.Split(named, ".")[0])
	request, err := s.request([]byte(`[2026-11-23T21:24:35.782Z] "GET /users?token=abc HTTP/1.1" 200 - via_upstream - "-" 0 1 2 3 "-" "curl" "id" "users.accounts.svc" "10.1.2.3:80"`))
	require.NoError(t, err)
	for _, secret := range []string{"token", "accounts", "10.1.2.3", "users"} {
		assert.NotContains(t, string(request), secret)
	}
}

// What was recorded is bounded, and what cannot be written is said once.
func TestBounds(t *testing.T) {
	var said []string
	report := func(message string, err error) { said = append(said, message+": "+err.Error()) }
	config := Config{Directory: t.TempDir(), MaxSizeMiB: minSizeMiB, Rotate: time.Hour}
	r, err := New(config, report)
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(filepath.Join(config.Directory, "somebody's"), 0o700))
	at := time.Date(2026, 11, 23, 21, 0, 0, 0, time.UTC)
	body := []byte(strings.Repeat("x 1\n", 256<<10)) // a MiB
	for i := range 40 {
		r.Scrape("a/b", at.Add(time.Duration(i)*time.Second), body, false)
	}
	require.NoError(t, r.Close())
	require.Empty(t, said)
	assert.Less(t, sizeOf(config.Directory), int64(minSizeMiB+2)<<20)
	entries, err := os.ReadDir(config.Directory)
	require.NoError(t, err)
	assert.Greater(t, len(entries), 2, "several recordings, and what is somebody's")

	r, err = New(config, report)
	require.NoError(t, err)
	require.NoError(t, os.RemoveAll(config.Directory))
	require.NoError(t, os.WriteFile(config.Directory, nil, 0o600))
	for range 3 {
		r.Entry("a", at, []byte("x"))
	}
	require.Len(t, said, 1)
	assert.Contains(t, said[0], "Recording ended")

	var none *Recorder
	none.Entry("a", at, nil)
	none.Flush()
	require.NoError(t, none.Close())
	_, err = New(Config{Directory: filepath.Join(config.Directory, "below a file")}, report)
	require.ErrorContains(t, err, "making the folder")
	assert.NotErrorIs(t, err, os.ErrNotExist)
}
