package configdump

import (
	"encoding/json"
	"strings"
	"time"
)

// settings are the options of a ztunnel that are compared between nodes, by their names in the dump's config; a dot leads into an object.
// What belongs to the node (its name, its addresses, its network) is none of them.
var settings = [...]string{
	"altCaHostname", "altXdsHostname", "caAddress", "clusterDomain", "connectionWindowSize", "crlPath", "dnsProxy", "dnsResolverCfg.search", "dnsResolverOpts.attempts",
	"dnsResolverOpts.cache_size", "dnsResolverOpts.ndots", "dnsResolverOpts.timeout", "enableEnhancedBaggage", "frameSize", "inpodPortReuse",
	"ipv6Enabled", "localhostAppTunnel", "numWorkerThreads", "packetMark", "poolMaxStreamsPerConn", "poolUnusedReleaseTimeout", "proxyMode",
	"requireOriginalSource", "secretTtl", "selfTerminationDeadline", "socketConfig.keepaliveEnabled", "socketConfig.keepaliveInterval", "socketConfig.keepaliveRetries",
	"socketConfig.keepaliveTime", "socketConfig.userTimeoutEnabled", "socks5Addr", "windowSize", "xdsAddress", "xdsOnDemand",
}

// settingsOf reads the settings that a dump's config states, nil if there are none.
func settingsOf(config map[string]json.RawMessage) map[string]string {
	var found map[string]string
	for _, name := range settings {
		outer, inner, nested := strings.Cut(name, ".")
		raw, ok := config[outer]
		if ok && nested {
			var object map[string]json.RawMessage
			_ = json.Unmarshal(raw, &object) // what is no object has no such setting
			raw, ok = object[inner]
		}
		if ok {
			if found == nil {
				found = make(map[string]string, len(settings)+1)
			}
			found[name] = settingText(raw)
		}
	}
	return found
}

// settingText is a value as people write it: strings bare, durations as such, null as nothing.
func settingText(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return clip(text)
	}
	var duration struct{ Secs, Nanos *int64 }
	if isObject(raw) && json.Unmarshal(raw, &duration) == nil && duration.Secs != nil && duration.Nanos != nil {
		return (time.Duration(*duration.Secs)*time.Second + time.Duration(*duration.Nanos)).String()
	}
	return clip(string(raw))
}
