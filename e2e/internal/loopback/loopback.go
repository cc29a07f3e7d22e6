// Package loopback finds addresses at which the tests' processes can listen.
package loopback

import (
	"net"
	"testing"
)

// FreeAddress is a loopback address that was free a moment ago.
func FreeAddress(t testing.TB) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
